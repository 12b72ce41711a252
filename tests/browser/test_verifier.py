"""The static verifier in a real browser, from a file, without any network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from playwright.sync_api import Browser, Page

from services.attestation.files import read_file
from services.attestation.keys import Keyring
from services.attestation.page import verifier_page
from services.attestation.service import Receipts
from services.attestation.strict import read_json
from services.db import Database
from services.db.revise import declared_tables
from tests.services.attestation.conftest import REQUEST, RESPONSE
from tests.services.attestation.test_vectors import (
    VECTORS,
    Verdict,
    by_command,
    text,
    verdict_of,
)
from tests.services.attestation.test_vectors import keys as keys_of
from tests.vectors import evidence, generate

pytestmark = pytest.mark.browser

KEYS = json.dumps(generate.jwks()).encode()
# What the page's own script says of all vectors, as `Verdict` has it.
JUDGE = """async (vectors) => {
  const bytes = (text) => text === null ? null : Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  const found = [];
  for (const one of vectors) {
    const texts = { request: bytes(one.request), response: bytes(one.response) };
    const verdict = await verifyFiles(utf8(one.file), utf8(one.jwks), texts);
    const said = (reason) => sentence(WORDS.en, reason);
    found.push({
      verdict: verdict.verdict, refusal: verdict.refusal && said(verdict.refusal),
      checks: verdict.checks.map((check) => [check.name, check.ok, said(check)]),
      limits: verdict.limits.map((name) => WORDS.en.limits[name]),
    });
  }
  return found;
}"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as somebody keeps it."""
    made = tmp_path_factory.mktemp("kept") / "verify.html"
    made.write_bytes(verifier_page()[0])
    return made


def opened(browser: Browser, file: Path, **context: Any) -> Iterator[Page]:
    """The page from disk, offline; fails on anything that it asks the network for."""
    made = browser.new_context(offline=True, **context)
    page = made.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: message.type == "error" and errors.append(message.text))
    page.goto(file.as_uri())
    yield page
    made.close()
    assert asked == [file.as_uri()]
    assert errors == []


@pytest.fixture
def page(browser: Browser, file: Path) -> Iterator[Page]:
    yield from opened(browser, file, locale="en-GB")


@pytest.fixture
def narrow(browser: Browser, file: Path) -> Iterator[Page]:
    """On a telephone, in Turkish, at night."""
    yield from opened(
        browser, file, locale="tr-TR", color_scheme="dark", viewport={"width": 400, "height": 800}
    )


def vector(name: str) -> dict[str, Any]:
    return next(one for one in VECTORS if one["name"] == name)


def given(page: Page, folder: Path, name: str, **files: bytes) -> str:
    """Give the page a vector's files; the kind of verdict that it then shows."""
    file = folder / f"{VECTORS.index(vector(name))}.json"
    file.write_text(vector(name)["file"], encoding="utf-8")
    for field, content in files.items():
        path = folder / field
        path.write_bytes(content)
        page.set_input_files(f"#{field}", str(path))
    page.set_input_files("#file", str(file))
    return shown(page)


def shown(page: Page) -> str:
    page.wait_for_selector("#result:not([hidden])")
    return str(page.get_attribute("#verdict", "data-verdict"))


def dropped(page: Page, content: str) -> str:
    """Drop a file onto the page, as a mouse would."""
    page.evaluate(
        """(content) => {
          const files = new DataTransfer();
          files.items.add(new File([content], "receipt.json"));
          dispatchEvent(new DragEvent("drop", { dataTransfer: files, cancelable: true }));
        }""",
        content,
    )
    return shown(page)


@dataclass(frozen=True)
class PublicKeys:
    """As much of a keyring as verifying takes."""

    keys: Any

    def jwks(self) -> Any:
        return read_json(json.dumps(self.keys).encode(), "key set")


def by_console_page(vector: dict[str, Any], db: Database) -> Verdict:
    """What page Verify asks and shows."""
    receipts = Receipts(db, cast(Keyring, PublicKeys(keys_of(vector))))
    compared = {name: text(vector, name) for name in ("request", "response")}
    return verdict_of(
        lambda: receipts.verify_document(read_file(vector["file"].encode()), **compared)
    )


def test_all_verifiers_say_the_same_of_every_vector_word_for_word(
    page: Page, tmp_path: Path
) -> None:
    db = Database(f"sqlite:///{tmp_path / 'param.db'}")
    declared_tables().create_all(db.engine)
    sent = [one | {"jwks": json.dumps(keys_of(one))} for one in VECTORS]
    in_browser = [Verdict(**found) for found in page.evaluate(JUDGE, sent)]
    assert len(in_browser) == len(VECTORS)
    differing = {}
    for one, browsed in zip(VECTORS, in_browser, strict=True):
        said = (by_console_page(one, db), by_command(one, tmp_path), browsed)
        if len({repr(verdict) for verdict in said}) > 1 or browsed.verdict != one["verdict"]:
            differing[one["name"]] = said
    db.close()
    assert differing == {}


def test_a_bundle_is_verified_offline_and_the_page_says_what_is_not_shown(
    page: Page, tmp_path: Path
) -> None:
    texts = {"request": REQUEST, "response": RESPONSE}
    assert given(page, tmp_path, "a bundle", keys=KEYS, **texts) == "holds"
    text = page.inner_text("main")
    for words in ("Inclusion", "support-3fa2c1d09b7e", "no hardware attests it"):
        assert words in text
    assert "✗" not in text
    page.click("#language")
    assert "Geçerli" in page.inner_text("#verdict")


def test_everything_is_said_in_turkish_too(narrow: Page, tmp_path: Path) -> None:
    assert given(narrow, tmp_path, "a forked log", keys=KEYS) == "fails"
    text = narrow.inner_text("main")
    for words in (
        "Her şey geçerli değil", "yol, kayıttan kontrol noktasının köküne götürmüyor",
        "Bunun başkalarının gördüğü günlük olduğu", "Yanıtlayan", "tutmuyor",
    ):  # fmt: skip
        assert words in text
    assert "the path does not" not in text
    assert narrow.evaluate("document.documentElement.scrollWidth") <= 400
    given(narrow, tmp_path, "signed: a key twice")
    narrow.wait_for_selector("#verdict.refused")
    assert "anahtarı iki kez bulundu" in narrow.inner_text("#verdict")


def test_the_keyboard_alone_suffices(page: Page, tmp_path: Path) -> None:
    given(page, tmp_path, "a bundle", keys=KEYS)
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _press in range(5):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached == ["language", "file", "keys", "request", "response"]
    page.focus("#language")
    page.keyboard.press("Enter")
    assert "Geçerli" in page.inner_text("#verdict")


def test_keys_from_the_same_file_are_no_proof(page: Page, tmp_path: Path) -> None:
    assert given(page, tmp_path, "a bundle") == "unpinned"
    assert evidence.RECEIPT.kid in page.inner_text("#verdict")


@pytest.mark.parametrize(
    ("name", "verdict"),
    [("a forked log", "fails"), ("the first byte of the payload flipped", "refused")],
)
def test_spoiled_evidence_is_told_in_words(
    page: Page, tmp_path: Path, name: str, verdict: str
) -> None:
    assert given(page, tmp_path, name, keys=KEYS) == verdict


def test_a_file_that_cannot_be_read_never_stands_under_the_verdict_of_the_one_before(
    page: Page, tmp_path: Path
) -> None:
    assert given(page, tmp_path, "a bundle", keys=KEYS) == "holds"
    for spoilt in ("", "[" * 200_000, '"' + "x" * 3_000_000, '{"format": {}}'):
        assert dropped(page, spoilt) == "refused"
        assert not page.is_visible("#details")
    assert dropped(page, vector("a bundle")["file"]) == "holds"
