"""The admin token: made once, for its owner's eyes."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services import settings as configuration
from services.errors import Unavailable, WrongConfiguration
from services.operations.token import admin_token, is_token, token_file
from services.settings import Settings


def settings(home: Path, **more: str) -> Settings:
    return configuration.load({"PARAM_HOME": str(home), **more}, directory=home)


def test_it_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    found = settings(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: admin_token(found, make=True), range(8)))
    assert tokens == {admin_token(found)}
    assert stat.S_IMODE(token_file(found).stat().st_mode) == 0o600
    assert [path.name for path in token_file(found).parent.iterdir()] == ["gateway-admin.token"]


def test_a_console_without_a_gateway_is_told_where_it_comes_from(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="a gateway makes it when it starts"):
        admin_token(settings(tmp_path))


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    found = settings(tmp_path)
    token = admin_token(found, make=True)
    token_file(found).chmod(0o644)
    with pytest.raises(WrongConfiguration, match="found mode 644") as refused:
        admin_token(found, make=True)
    assert token not in refused.value.message


def test_an_empty_file_is_no_token(tmp_path: Path) -> None:
    found = settings(tmp_path)
    token_file(found).parent.mkdir()
    token_file(found).touch(0o600)
    with pytest.raises(WrongConfiguration, match="fewer than 16 characters"):
        admin_token(found)


def test_a_setting_stands_in_for_the_file_and_must_be_long(tmp_path: Path) -> None:
    assert admin_token(settings(tmp_path, PARAM_GATEWAY_ADMIN_TOKEN="t" * 20)) == "t" * 20
    with pytest.raises(WrongConfiguration, match="at least 16 characters"):
        admin_token(settings(tmp_path, PARAM_GATEWAY_ADMIN_TOKEN="short"))


@pytest.mark.parametrize("shown", ["", "x", "t" * 19, "t" * 21, "\udce9" * 20])
def test_only_the_token_itself_is_the_token(shown: str) -> None:
    assert is_token("t" * 20, "t" * 20)
    assert not is_token(shown, "t" * 20)
