"""One set of evidence, valid and spoiled, before all verifiers: each must say the same."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from console.cli.app import app
from services.attestation.files import read_file
from services.attestation.page import PAGE, policy_of, verifier_page
from services.errors import VerificationFailed
from tests.support import require
from tests.vectors import generate

SHARED = json.loads(generate.FILE.read_text(encoding="utf-8"))
VECTORS: list[dict[str, Any]] = SHARED["vectors"]


def told(verdict: str, *failed: str) -> dict[str, Any]:
    return {"verdict": verdict, "failed": sorted(failed)}


def expected(vector: dict[str, Any]) -> dict[str, Any]:
    return told(vector["verdict"], *vector["failed"])


def text(vector: dict[str, Any], name: str) -> bytes | None:
    return None if vector[name] is None else base64.b64decode(vector[name])


def keys(vector: dict[str, Any]) -> Any:
    return SHARED["jwks"] if vector["jwks"] is None else vector["jwks"]


def by_console(vector: dict[str, Any]) -> dict[str, Any]:
    try:
        found = read_file(vector["file"].encode()).verify(
            keys(vector),
            request=text(vector, "request"),
            response=text(vector, "response"),
        )
    except VerificationFailed:
        return told("refused")
    failed = [check.name for check in found.checks if not check.ok]
    return told("holds" if found.holds else "fails", *failed)


def by_page() -> list[dict[str, Any]]:
    require(shutil.which("node") is not None, "Node.js")
    words = ["node", "--no-warnings", "tests/vectors/run.mjs", str(PAGE), str(generate.FILE)]
    ran = subprocess.run(words, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_the_vectors_are_those_that_the_program_makes() -> None:
    assert generate.FILE.read_text(encoding="utf-8") == generate.document()
    assert len({vector["name"] for vector in VECTORS}) == len(VECTORS) > 90
    kinds = {vector["verdict"] for vector in VECTORS}
    assert kinds == {"holds", "fails", "refused"}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_console_judges_each_vector_as_it_should(vector: dict[str, Any]) -> None:
    assert by_console(vector) == expected(vector)


def test_the_static_page_judges_each_vector_as_the_console_does() -> None:
    wrong = {
        vector["name"]: found
        for vector, found in zip(VECTORS, by_page(), strict=True)
        if told(found["verdict"], *found["failed"]) != expected(vector)
    }
    assert wrong == {}


def test_the_command_judges_each_vector_as_the_console_does(tmp_path: Path) -> None:
    runner = CliRunner()
    for vector in VECTORS:
        words = ["verify", "file.json", "--jwks", "jwks.json", "--json"]
        (tmp_path / "file.json").write_text(vector["file"], encoding="utf-8")
        (tmp_path / "jwks.json").write_text(json.dumps(keys(vector)))
        for name in ("request", "response"):
            if vector[name] is not None:
                (tmp_path / name).write_bytes(base64.b64decode(vector[name]))
                words += [f"--{name}", name]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            ran = runner.invoke(app, words)
        found = json.loads(ran.stdout)
        failed = [check["name"] for check in found["checks"] if not check["ok"]]
        verdict = "refused" if "error" in found else "holds" if found["ok"] else "fails"
        assert told(verdict, *failed) == expected(vector), vector["name"]
        assert ran.exit_code == (0 if vector["verdict"] == "holds" else 1), vector["name"]


def test_the_page_lets_nothing_run_but_itself() -> None:
    page, policy = verifier_page()
    html = page.decode()
    assert f'content="{policy_of(html)}"' in html
    assert policy.startswith("default-src 'none';")
    for word in ('http-equiv="refresh"', "src=", "import(", "fetch(", "XMLHttpRequest", "eval("):
        assert word not in html, word
