"""One set of evidence, valid and spoiled, before all verifiers: each must say the same."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from typer.main import get_command

from console.cli.app import app
from services.attestation.files import read_file
from services.attestation.page import policy_of, verifier_page
from services.attestation.receipts import VerifiedReceipt
from services.attestation.strict import read_json
from services.attestation.words import words
from services.errors import VerificationFailed
from tests.support import require
from tests.vectors import generate

SHARED = json.loads(generate.FILE.read_text(encoding="utf-8"))
VECTORS: list[dict[str, Any]] = SHARED["vectors"]
COMMAND = get_command(app)
"""Built once: that costs sixty times as much as one verdict."""


@dataclass(frozen=True)
class Verdict:
    """What one verifier says: every check and every reason, word for word.

    Attributes:
        checks: Name, whether it came out well, and the sentence, each.
    """

    verdict: str
    refusal: str | None = None
    checks: list[list[Any]] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        return sorted(name for name, ok, _said in self.checks if not ok)

    @property
    def told(self) -> list[str]:
        """Why it does not hold."""
        said = [said for _name, ok, said in self.checks if not ok]
        return said if self.refusal is None else [self.refusal]


def text(vector: dict[str, Any], name: str) -> bytes | None:
    return None if vector[name] is None else base64.b64decode(vector[name])


def keys(vector: dict[str, Any]) -> Any:
    return SHARED["jwks"] if vector["jwks"] is None else vector["jwks"]


def verdict_of(verify: Callable[[], VerifiedReceipt]) -> Verdict:
    try:
        found = verify()
    except VerificationFailed as error:
        return Verdict("refused", error.message)
    # The console also looks into its own log; the vectors' entries are in none.
    checks = [check for check in found.checks if check.name != "audit"]
    return Verdict(
        "holds" if all(check.ok for check in checks) else "fails",
        checks=[[check.name, check.ok, check.detail] for check in checks],
        limits=found.not_established,
    )


def by_console(vector: dict[str, Any]) -> Verdict:
    def verify() -> VerifiedReceipt:
        return read_file(vector["file"].encode()).verify(
            read_json(json.dumps(keys(vector)).encode(), "key set"),
            request=text(vector, "request"),
            response=text(vector, "response"),
        )

    return verdict_of(verify)


def by_node(page: Path) -> list[Verdict]:
    require(shutil.which("node") is not None, "Node.js")
    page.write_bytes(verifier_page()[0])
    words = ["node", "--no-warnings", "tests/vectors/run.mjs", str(page), str(generate.FILE)]
    ran = subprocess.run(words, capture_output=True, text=True, check=True)
    return [Verdict(**json.loads(line)) for line in ran.stdout.splitlines()]


def by_command(vector: dict[str, Any], folder: Path) -> Verdict:
    words = ["verify", str(folder / "file.json"), "--jwks", str(folder / "jwks.json"), "--json"]
    (folder / "file.json").write_text(vector["file"], encoding="utf-8")
    (folder / "jwks.json").write_text(json.dumps(keys(vector)))
    for name in ("request", "response"):
        if vector[name] is not None:
            (folder / name).write_bytes(base64.b64decode(vector[name]))
            words += [f"--{name}", str(folder / name)]
    ran = CliRunner().invoke(COMMAND, words)
    found = json.loads(ran.stdout)
    assert ran.exit_code == (0 if vector["verdict"] == "holds" else 1), vector["name"]
    if "error" in found:
        return Verdict("refused", found["error"])
    checks = [[check["name"], check["ok"], check["detail"]] for check in found["checks"]]
    return Verdict("holds" if found["ok"] else "fails", None, checks, found["not_established"])


def test_the_vectors_are_those_that_the_program_makes() -> None:
    assert generate.FILE.read_text(encoding="utf-8") == generate.document()
    assert len({vector["name"] for vector in VECTORS}) == len(VECTORS) > 90
    kinds = {vector["verdict"] for vector in VECTORS}
    assert kinds == {"holds", "fails", "refused"}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_console_judges_each_vector_as_it_should(vector: dict[str, Any]) -> None:
    found = by_console(vector)
    assert (found.verdict, found.failed) == (vector["verdict"], vector["failed"])
    assert found.told == vector["told"]


def test_the_static_page_judges_each_vector_as_the_console_does(tmp_path: Path) -> None:
    pairs = zip(VECTORS, by_node(tmp_path / "verify.html"), strict=True)
    wrong = {one["name"]: found for one, found in pairs if found != by_console(one)}
    assert wrong == {}


def test_the_command_judges_each_vector_as_the_console_does(tmp_path: Path) -> None:
    for vector in VECTORS:
        assert by_command(vector, tmp_path) == by_console(vector), vector["name"]


def test_every_reason_is_said_in_each_language_with_the_same_places() -> None:
    english, turkish = words()["en"], words()["tr"]
    for section, said in english.items():
        assert set(said) == set(turkish[section]), section
        for name, text_ in said.items():
            places = [
                sorted(re.findall(r"{(\w+)}", one)) for one in (text_, turkish[section][name])
            ]
            assert places[0] == places[1], name


def test_the_page_lets_nothing_run_but_itself() -> None:
    page, policy = verifier_page()
    html = page.decode()
    assert f'content="{policy_of(html)}"' in html
    assert policy.startswith("default-src 'none';")
    for word in ('http-equiv="refresh"', "src=", "import(", "fetch(", "XMLHttpRequest", "eval("):
        assert word not in html, word
