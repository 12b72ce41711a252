"""`param tenants limits`, `param keys limits`, and limits at the creation of both."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.cli.limits import micro
from services.errors import InvalidInput
from tests.console.test_cli import Param, home, legal, migrated, param

__all__ = ["home", "legal", "migrated", "param"]  # fixtures


def test_a_tenant_is_created_with_a_budget(param: Param) -> None:
    words = ("--concurrent", 8, "--monthly-budget", "12.5", "--json")
    made = param("tenants", "create", "Acme", *words).json
    assert made["limits"] == {
        "tps": 10, "rpm": 300, "daily_tokens": 10_000_000, "concurrent": 8,
        "monthly_micro": 12_500_000,
    }  # fmt: skip
    read = param("tenants", "show", "acme").out
    assert "12.500000" in read
    assert "Requests at one time" in read


def test_limits_are_shown_and_only_what_is_named_changes(param: Param, legal: str) -> None:
    shown = param("tenants", "limits", legal, "--json").json
    assert shown["budget"]["limit_micro"] is None
    assert shown["used_today"] == 0
    changed = param("tenants", "limits", legal, "--rpm", 7, "--monthly-budget", 3, "--json").json
    assert changed["limits"] == shown["limits"] | {"rpm": 7, "monthly_micro": 3_000_000}
    assert "3.000000" in param("tenants", "limits", legal).out
    opened = param("tenants", "limits", legal, "--monthly-budget", 0, "--concurrent", 0, "--json")
    assert opened.json["limits"]["monthly_micro"] is None
    assert "no limit" in param("tenants", "limits", legal).out


def test_a_limit_of_nothing_is_refused_in_a_sentence(param: Param, legal: str) -> None:
    ran = param("tenants", "limits", legal, "--rpm", 0, status=2)
    assert "limit rpm: expected a whole number from 1" in ran.err
    for amount in ("-1", "ten", "0.0000001", "nan"):
        ran = param("tenants", "limits", legal, f"--monthly-budget={amount}", status=2)
        assert "--monthly-budget: expected US dollars from 0 on" in ran.err
    assert "nowhere" in param("tenants", "limits", "nowhere", status=2).err


def test_a_key_is_issued_with_limits_of_its_own_and_loses_them(param: Param, legal: str) -> None:
    words = ("--tps", 2, "--rpm", 60, "--daily-tokens", 5_000, "--concurrent", 3, "--json")
    issued = param("keys", "create", legal, *words).json
    own = {"tps": 2, "rpm": 60, "daily_tokens": 5_000, "concurrent": 3}
    assert issued["limits"] == own
    [listed] = param("keys", "list", legal, "--json").json
    assert listed["limits"] == own
    changed = param("keys", "limits", legal, issued["prefix"], "--rpm", 0, "--tps", 4, "--json")
    assert changed.json["limits"] == own | {"rpm": None, "tps": 4}
    assert "5,000" in param("keys", "limits", legal, issued["id"]).out
    assert issued["key"] not in changed.out
    param("keys", "limits", legal, "pk_other", status=2)


@pytest.mark.parametrize(("text", "found"), [("0", 0), ("1e2", 100_000_000), ("0.1", 100_000)])
def test_dollars_are_exact(text: str, found: int) -> None:
    assert micro(text) == found


@pytest.mark.parametrize("text", ["", "1,5", "inf", "1e-7", "$5"])
def test_what_is_no_amount_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="expected US dollars"):
        micro(text)
