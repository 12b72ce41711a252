"""Checkpoints in a second place: what is cut off or rewritten here is noticed there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from services.audit.outside import FolderPlace, OutsideCopies, Place, UrlPlace, place_of
from services.audit.proving import Proofs
from services.audit.service import AuditLog
from services.db import Database
from services.errors import Unavailable, VerificationFailed
from services.tenants.models import Actor
from tests.services.audit.conftest import append, open_note, sign_note
from tests.services.audit.test_verification import rebuild, tamper

TOKEN = "a-token-that-is-a-secret"


@pytest.fixture
def shelf() -> Iterator[dict[str, Any]]:
    """A place behind HTTP that keeps what is put there; its address and content."""
    kept: dict[str, Any] = {"note": None, "status": 200}

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, status: int, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.headers["authorization"] != f"Bearer {TOKEN}":
                self._answer(401)
            elif kept["note"] is None:
                self._answer(404)
            else:
                self._answer(kept["status"], kept["note"])

        def do_PUT(self) -> None:
            kept["note"] = self.rfile.read(int(self.headers["content-length"]))
            self._answer(204)

        def log_message(self, *_words: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    kept["url"] = f"http://127.0.0.1:{server.server_address[1]}/checkpoint"
    yield kept
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(params=["folder", "url"])
def place(request: pytest.FixtureRequest, tmp_path: Path, shelf: dict[str, Any]) -> Place:
    if request.param == "url":
        return UrlPlace(shelf["url"], TOKEN)
    (tmp_path / "elsewhere").mkdir()
    return FolderPlace(tmp_path / "elsewhere")


def copies(database: Database, place: Place | None) -> OutsideCopies:
    return OutsideCopies(database, Proofs(database), place, origin="test.log", open_note=open_note)


def copied(log: AuditLog, outside: OutsideCopies) -> bool:
    made = log.checkpoint()
    assert made is not None
    return outside.copy(made)


def test_checkpoints_are_copied_once_and_the_log_goes_on_from_them(
    log: AuditLog, database: Database, place: Place
) -> None:
    outside = copies(database, place)
    assert (outside.compare(), outside.newest_copy()) == (0, None)
    append(log, database, 5)
    assert copied(log, outside)
    assert not copied(log, outside)
    append(log, database, 3, first=5)
    assert outside.compare() == 5
    assert copied(log, outside)
    assert outside.compare() == 8
    newest = outside.newest_copy()
    assert newest is not None
    assert (newest.size, newest.place) == (8, place.name)
    assert log.verify(outside=[place.read() or ""]).checkpoints == 3


def test_a_cut_log_is_noticed_and_its_copy_is_left_as_it_is(
    log: AuditLog, database: Database, place: Place
) -> None:
    outside = copies(database, place)
    append(log, database, 9)
    assert copied(log, outside)
    kept = place.read()
    tamper(database, "DELETE FROM audit_checkpoints")
    rebuild(database, lambda fields: None if fields["subject"] == "request:8" else fields)
    with pytest.raises(VerificationFailed, match="at least the 9 entries.*cut off"):
        outside.compare()
    with pytest.raises(VerificationFailed, match="cut off"):
        copied(log, outside)
    assert place.read() == kept


def test_a_log_that_was_written_anew_is_noticed(
    log: AuditLog, database: Database, place: Place
) -> None:
    outside = copies(database, place)
    append(log, database, 9)
    assert copied(log, outside)
    tamper(database, "DELETE FROM audit_checkpoints")
    rebuild(database, lambda fields: {**fields, "actor_name": "nobody"})
    append(log, database, 4, first=9)
    with pytest.raises(VerificationFailed, match="rewritten"):
        copied(log, outside)


def test_a_place_that_lost_its_copy_is_no_empty_place(
    log: AuditLog, database: Database, tmp_path: Path
) -> None:
    place = FolderPlace(tmp_path)
    outside = copies(database, place)
    append(log, database, 2)
    assert copied(log, outside)
    (tmp_path / "checkpoint").unlink()
    append(log, database, 2, first=2)
    with pytest.raises(VerificationFailed, match="expected the checkpoint of size 2"):
        copied(log, outside)


def test_what_lies_there_must_be_signed(log: AuditLog, database: Database, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_text(sign_note("test.log\n2\nAAAA\n").replace("\n2\n", "\n3\n"))
    append(log, database, 4)
    with pytest.raises(VerificationFailed):
        copied(log, copies(database, FolderPlace(tmp_path)))


def test_a_place_that_cannot_be_reached_is_named_without_its_secret(
    log: AuditLog, database: Database, tmp_path: Path, shelf: dict[str, Any]
) -> None:
    append(log, database, 1)
    for place, words in (
        (FolderPlace(tmp_path / "nowhere"), "expected a folder"),
        (UrlPlace(shelf["url"], "wrong-" + TOKEN), "status 401"),
        (UrlPlace("http://127.0.0.1:9/x?sig=hidden", TOKEN), "ConnectError"),
    ):
        with pytest.raises(Unavailable, match=words) as raised:
            copied(log, copies(database, place))
        assert TOKEN not in str(raised.value)
        assert "hidden" not in str(raised.value)


def test_a_setting_names_a_folder_or_an_address(tmp_path: Path) -> None:
    assert place_of("") is None
    assert isinstance(place_of(str(tmp_path)), FolderPlace)
    assert isinstance(place_of("https://keeper.example/log"), UrlPlace)


def test_a_contradiction_is_itself_recorded(log: AuditLog, database: Database) -> None:
    copies(database, None).told(Actor.system("evidence"), "the log was cut off")
    log.sequence()
    [entry] = log.entries(Actor.system("test"), None)
    assert (entry.action, entry.details) == (
        "audit.contradicted", {"problem": "the log was cut off"},
    )  # fmt: skip
