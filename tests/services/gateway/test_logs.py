"""Log lines: JSON, with ids, without content, and never in anybody's way."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.errors import EngineUnavailable
from services.gateway import logs
from services.gateway.logs import JsonHandler, Lines


@contextmanager
def lines_into(path: Path) -> Iterator[Lines]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    lines = Lines(descriptor)
    lines.start()
    try:
        yield lines
    finally:
        lines.stop()
        os.close(descriptor)


def written(path: Path) -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_line_of_a_request_bears_its_id_and_no_foreign_message(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logger = logging.getLogger("param.test.lines")
    logger.propagate = False
    with lines_into(path) as lines:
        logger.addHandler(JsonHandler(lines))
        token = logs.request_id.set("request-1")
        try:
            try:
                raise KeyError("the prompt, word for word")
            except KeyError as cause:
                raise EngineUnavailable("the engine does not answer") from cause
        except EngineUnavailable as error:
            logger.exception("a request met %s", "a bug", exc_info=error)
        logs.request_id.reset(token)
        logger.warning("outside of any request")
    first, second = written(path)
    assert (first["level"], first["message"]) == ("ERROR", "a request met a bug")
    assert first["request_id"] == "request-1"
    assert first["error"]["message"] == "the engine does not answer"
    assert first["error"]["cause"]["kind"] == "KeyError"
    assert "word for word" not in path.read_text()
    assert "request_id" not in second


def test_lines_that_wait_are_written_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with lines_into(path) as lines:
        for number in range(1000):
            lines.put({"number": number})
    assert [line["number"] for line in written(path)] == list(range(1000))


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    lines = Lines(descriptor)
    lines.start()
    lines.put({"one": 1})
    lines.put_now({"two": 2})
    lines.stop()
    os.close(descriptor)
    assert lines.dropped == 2


def test_lines_that_nobody_takes_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_LINES", 3)
    lines = Lines()  # never started: nobody takes anything
    for number in range(5):
        lines.put({"number": number})
    assert lines.dropped == 2
