"""`param labelstudio`: what it hands over, takes in, shows and refuses; a small fake answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.console.test_cli import Param, home, legal, migrated, pairs_file, param
from tests.fakes.label_studio import TOKEN, FakeLabelStudio
from tests.labeling.label_studio.servers import Annotators

__all__ = ["home", "legal", "migrated", "pairs_file", "param"]  # fixtures


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as fake:
        monkeypatch.setenv("PARAM_LABEL_STUDIO_URL", fake.url)
        monkeypatch.setenv("PARAM_LABEL_STUDIO_TOKEN", TOKEN)
        yield fake


@pytest.fixture
def tenant(param: Param, legal: str, pairs_file: Path) -> str:
    """A tenant with three unreviewed pairs."""
    param("pairs", "import", pairs_file, "--tenant", legal)
    return legal


def test_pairs_go_over_and_votes_come_back_once_it_is_known_whose(
    param: Param, tenant: str, server: FakeLabelStudio
) -> None:
    param("users", "create", "ada", "--role", "annotator", "--tenant", tenant)
    pushed = param("labelstudio", "push", "--tenant", tenant, "--limit", 2, "--here", "--json").json
    assert (pushed["tasks"], pushed["project"]["is_blind"]) == ({"sent": 2}, True)
    with closing(Annotators(server.url)) as there:
        account = there.enrol("Ada")
        there.annotate(there.tasks(pushed["project"]["remote_id"])[0]["id"], account)
    pulled = param("labelstudio", "pull", "--tenant", tenant, "--here", "--json").json
    assert pulled["annotations"] == {"waiting": 1}
    words = ("labelstudio", "people", "--tenant", tenant, "--account", account, "--annotator")
    assert "there is no user 'eve'" in param(*words, "eve", status=2).err
    assert "Ada" in param(*words, "ada").out
    pulled = param(
        "labelstudio", "pull", "--tenant", tenant, "--everything", "--here", "--json"
    ).json
    assert pulled["annotations"] == {"voted": 1}
    stats = param("pairs", "stats", "--tenant", tenant, "--json").json
    assert (stats["by_status"]["approved"], stats["reviews"]) == (1, 1)


def test_what_nobody_judged_comes_back_to_the_desk(
    param: Param, tenant: str, server: FakeLabelStudio
) -> None:
    param("labelstudio", "push", "--tenant", tenant, "--title", "Spring", "--here")
    words = ("labelstudio", "take-back", "--tenant", tenant, "--title", "Spring")
    assert "3 pairs are at the desk again." in param(*words).out
    assert param(*words, "--json").json["pairs"] == 0


def test_without_a_worker_a_job_is_left_for_it(
    param: Param, tenant: str, server: FakeLabelStudio
) -> None:
    out = param("labelstudio", "push", "--tenant", tenant, "--title", "Spring").out
    assert "3 pairs handed over to the project 'Spring'." in out
    assert "not made yet" in out
    [state] = param("labelstudio", "status", "--tenant", tenant, "--json").json
    assert state["job"]["status"] == "queued"


def test_another_tenants_project_is_not_found(
    param: Param, tenant: str, server: FakeLabelStudio
) -> None:
    param("tenants", "create", "Other")
    param("labelstudio", "push", "--tenant", tenant, "--title", "Spring")
    assert "yet" in param("labelstudio", "status", "--tenant", "other").out
    refused = param("labelstudio", "pull", "--tenant", "other", "--title", "Spring", status=2)
    assert refused.err == "param: tenant other has no Label Studio project 'Spring'\n"


def test_wrong_use_is_told_in_one_sentence(
    param: Param, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        "PARAM_LABEL_STUDIO_URL" in param("labelstudio", "push", "--tenant", tenant, status=2).err
    )
    monkeypatch.setenv("PARAM_LABEL_STUDIO_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PARAM_LABEL_STUDIO_TOKEN", TOKEN)
    half = param("labelstudio", "people", "--tenant", tenant, "--account", 1, status=2).err
    assert half == "param: expected --account and --annotator together, found one of them\n"
    refused = param("labelstudio", "push", "--tenant", tenant, "--here", status=1)
    assert TOKEN not in refused.err + refused.out
    assert refused.err.count("\n") == 1
    assert param("labelstudio", "status", "--tenant", "nobody", status=2).err.startswith(
        "param: tenant 'nobody'"
    )
