from __future__ import annotations

from pathlib import Path

import pytest

from console.processes import programs
from services.errors import WrongConfiguration
from services.settings import load

TOKEN = "a-token-that-nobody-may-see"


def test_a_secret_comes_from_the_environment_or_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n", encoding="utf-8")
    for variables in (
        {"PARAM_LABEL_STUDIO_TOKEN": TOKEN},
        {"PARAM_LABEL_STUDIO_TOKEN_FILE": str(file)},
    ):
        found = load({"PARAM_HOME": str(tmp_path), **variables}, directory=tmp_path)
        assert found.label_studio_token == TOKEN
        assert TOKEN not in repr(found)
        assert TOKEN not in programs.environment(found).values()


def test_a_secret_in_param_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "param.toml").write_text(f'label_studio_token = "{TOKEN}"\n', encoding="utf-8")
    with pytest.raises(WrongConfiguration, match="PARAM_LABEL_STUDIO_TOKEN_FILE") as refused:
        load({"PARAM_HOME": str(tmp_path)}, directory=tmp_path)
    assert TOKEN not in refused.value.message


def test_a_secrets_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    variables = {"PARAM_LABEL_STUDIO_HOOK_SECRET_FILE": str(tmp_path / "none")}
    with pytest.raises(WrongConfiguration, match="PARAM_LABEL_STUDIO_HOOK_SECRET_FILE"):
        load({"PARAM_HOME": str(tmp_path), **variables}, directory=tmp_path)


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://there", "//there"])
def test_an_address_of_label_studio_begins_with_its_scheme(tmp_path: Path, url: str) -> None:
    variables = {"PARAM_HOME": str(tmp_path), "PARAM_LABEL_STUDIO_URL": url}
    with pytest.raises(WrongConfiguration, match="PARAM_LABEL_STUDIO_URL"):
        load(variables, directory=tmp_path)
    variables["PARAM_LABEL_STUDIO_URL"] = "https://labels.example.com/"
    assert load(variables, directory=tmp_path).label_studio_url == "https://labels.example.com"


def test_what_answers_wait_for_is_one_of_two(tmp_path: Path) -> None:
    variables = {"PARAM_HOME": str(tmp_path)}
    assert load(variables, directory=tmp_path).answer_after == "journal"
    variables["PARAM_ANSWER_AFTER"] = "commit"
    assert load(variables, directory=tmp_path).answer_after == "commit"
    variables["PARAM_ANSWER_AFTER"] = "never"
    with pytest.raises(
        WrongConfiguration, match="PARAM_ANSWER_AFTER: expected journal or commit, found 'never'"
    ):
        load(variables, directory=tmp_path)
