"""The static verifier in a real browser, from a file, without any network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.attestation.page import PAGE
from tests.vectors import generate

pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser: Any) -> Any:
    """The page from disk, offline, in English; fails on anything that it asks the network for."""
    context = browser.new_context(locale="en-GB", offline=True)
    opened = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda message: message.type == "error" and errors.append(message.text))
    opened.goto(PAGE.as_uri())
    yield opened
    context.close()
    assert asked == [PAGE.as_uri()]
    assert errors == []


def given(page: Any, folder: Path, name: str, **files: Any) -> str:
    """Give the page a vector's files; the kind of verdict that it then shows."""
    vectors = json.loads(generate.FILE.read_text(encoding="utf-8"))["vectors"]
    vector = next(one for one in vectors if one["name"] == name)
    (folder / "file.json").write_text(vector["file"], encoding="utf-8")
    for field, content in files.items():
        path = folder / field
        path.write_bytes(content)
        page.set_input_files(f"#{field}", str(path))
    page.set_input_files("#file", str(folder / "file.json"))
    page.wait_for_selector("#result:not([hidden])")
    return str(page.get_attribute("#verdict", "data-verdict"))


def test_a_bundle_is_verified_offline_and_the_page_says_what_is_not_shown(
    page: Any, tmp_path: Path
) -> None:
    keys = json.dumps(generate.jwks()).encode()
    found = given(
        page, tmp_path, "a bundle", keys=keys, request=generate.REQUEST, response=generate.RESPONSE
    )
    assert found == "holds"
    text = page.inner_text("main")
    for words in ("inclusion", "support-3fa2c1d09b7e", "no hardware attests it"):
        assert words in text
    assert "✗" not in text
    page.click("#language")
    assert "Geçerli" in page.inner_text("#verdict")


def test_keys_from_the_same_file_are_no_proof(page: Any, tmp_path: Path) -> None:
    assert given(page, tmp_path, "a bundle") == "unpinned"
    assert generate.RECEIPT.kid in page.inner_text("#verdict")


@pytest.mark.parametrize(
    ("name", "verdict"),
    [("a forked log", "fails"), ("the first byte of the payload flipped", "refused")],
)
def test_spoiled_evidence_is_told_in_words(
    page: Any, tmp_path: Path, name: str, verdict: str
) -> None:
    keys = json.dumps(generate.jwks()).encode()
    assert given(page, tmp_path, name, keys=keys) == verdict
