import os
import resource
import signal
import subprocess
import sys
import textwrap
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.service import AuditLog
from services.bootstrap import Services
from services.errors import Unavailable
from services.gateway.intents import Intent, Journal, Open, dead_journals, read_journal
from services.gateway.recovery import ACTION, recover, recover_dead
from services.tenants.models import Actor
from tests.services.gateway.intended import AT, intent
from tests.support import ROOT

SYSTEM = Actor.system("test")


class Ends:
    """How an exchange ended, as `Covering` asks it."""

    def __init__(self, request_id: str, given_up: bool) -> None:
        self.request_id, self.is_given_up = request_id, given_up


def left_open(folder: Path, mine: Path = Path()) -> list[Open]:
    with closing(dead_journals(folder, mine)) as journals:
        return [one for found in journals for one in found.open]


def test_what_is_begun_and_not_ended_is_found_by_whoever_comes_next(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    first, second, third = intent(1), intent(2), intent(3)
    for one in (first, second, third):
        journal.begin(one)
    journal.progress(second.request_id, 7, 2)
    journal.progress(second.request_id, 7, 9)
    journal.end(first.request_id)
    assert left_open(tmp_path) == []  # its writer lives
    assert journal.open_count == 2
    journal.close()  # as a process that ends: the lock goes, the file stays
    assert left_open(tmp_path) == [Open(second, True, 7, 9), Open(third)]
    assert list(tmp_path.iterdir()) == []


def test_a_journal_is_emptied_at_rest_where_nothing_in_it_is_open(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in (1, 2, 3):
        journal.begin(intent(number))
    journal.end("request-1", "request-2")
    journal.rest()
    assert journal.path.stat().st_size > 0
    journal.end("request-3", "request-3", "unknown")
    journal.rest()
    assert journal.path.read_bytes() == b""
    journal.begin(intent(4))
    assert journal.path.read_bytes().startswith(b'{"begin"')
    journal.close()
    assert [one.intent for one in left_open(tmp_path)] == [intent(4)]


def test_a_journal_in_which_nothing_is_open_goes_away(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin(intent(1))
    journal.end("request-1")
    journal.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_given_up", [False, True])
def test_an_intent_that_the_writer_gave_up_is_an_orphan(tmp_path: Path, is_given_up: bool) -> None:
    journal, one = Journal(tmp_path), intent(1)
    with journal.covering(one, Ends(one.request_id, is_given_up)):
        assert journal.open_count == 1
    assert (journal.open_count, len(journal.orphans())) == (1, int(is_given_up))
    journal.recovered(journal.orphans())
    assert journal.open_count == int(not is_given_up)
    journal.close()


def test_a_journal_that_has_grown_goes_on_as_a_new_one_with_what_is_open(tmp_path: Path) -> None:
    journal = Journal(tmp_path, rotate_bytes=2_000)
    journal.begin(intent(1))
    journal.progress("request-1", 3, 4)
    first = journal.path
    for number in range(2, 40):
        journal.begin(intent(number))
        journal.end(f"request-{number}")
    assert journal.path != first
    assert [path.suffix for path in tmp_path.iterdir()] == [".journal"]
    assert journal.path.stat().st_size < 4_000
    journal.close()
    assert left_open(tmp_path) == [Open(intent(1), True, 3, 4)]


@given(st.data())
def test_a_journal_cut_or_spoilt_anywhere_loses_no_whole_line(data: st.DataObject) -> None:
    lines = []
    for number in range(1, 5):
        lines.append(b'{"begin":%s}' % _json(intent(number)))
        lines.append(b'{"given":"request-%d","tokens":[%d,1]}' % (number, number))
    lines.append(b'{"end":"request-2"}')
    whole = b"\n".join(lines) + b"\n"
    cut = data.draw(st.integers(0, len(whole)))
    found = {one.intent.request_id for one in read_journal(whole[:cut]).open}
    begun = sum(whole[:cut].count(b"\n") > 2 * number for number in range(4))
    has_ended = cut >= len(whole) - 1
    # A line without its end may be whole all the same.
    assert begun - has_ended <= len(found) <= begun + 1
    noise = data.draw(st.binary(max_size=30)).replace(b"\n", b"")
    spoilt = b"\n".join([*lines[:3], noise, *lines[3:]])
    assert {one.intent.request_id for one in read_journal(spoilt).open} == {
        "request-1", "request-3", "request-4",
    }  # fmt: skip


def _json(one: Intent) -> bytes:
    return orjson.dumps(one)


def test_a_full_disk_begins_nothing_and_spoils_no_other_line(tmp_path: Path) -> None:
    # A limit on the size of files stands for the disk: the same write(2) fails half-way.
    script = f"""
        import resource, sys
        from pathlib import Path
        from services.errors import StorageFull
        from services.gateway.intents import Journal
        from tests.services.gateway.intended import intent
        journal = Journal(Path({str(tmp_path)!r}))
        journal.begin(intent(1))
        size = journal.path.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, {resource.RLIM_INFINITY}))
        for number in (2, 3):
            try:
                journal.begin(intent(number))
            except StorageFull as error:
                print(error)
        assert journal.open_count == 1
        journal.progress("request-1", 5, 6)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        journal.begin(intent(4))
    """
    ran = _python(script)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("the disk of the gateway's journal is full; nothing was begun") == 2
    assert [one.intent for one in left_open(tmp_path)] == [intent(1), intent(4)]


def test_a_journal_outlives_kill_9(tmp_path: Path) -> None:
    script = f"""
        import os, signal
        from pathlib import Path
        from services.gateway.intents import Journal
        from tests.services.gateway.intended import intent
        journal = Journal(Path({str(tmp_path)!r}))
        for number in range(1, 6):
            journal.begin(intent(number))
        journal.end("request-3")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert _python(script).returncode == -signal.SIGKILL
    found = [one.intent.request_id for one in left_open(tmp_path)]
    assert found == ["request-1", "request-2", "request-4", "request-5"]


def _python(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="expected a folder for journals"):
        Journal(tmp_path / "file" / "below")


def test_each_interrupted_request_is_known_once_and_charged_by_the_rule(
    services: Services, tmp_path: Path
) -> None:
    folder = tmp_path / "gateway"
    dead = Journal(folder)
    streamed, silent, whole = intent(1), intent(2), intent(3, stream=False)
    for one in (streamed, silent, whole):
        dead.begin(one)
    dead.progress(streamed.request_id, 100, 20)
    kept = dead.path.read_bytes()
    dead.close()
    mine = Journal(folder)
    assert recover_dead(services, folder, mine.path) == 3
    # The same once more: a copy that a crash in the middle of a rotation left behind.
    (folder / "copy.journal").write_bytes(kept)
    assert recover_dead(services, folder, mine.path) == 0
    assert [path for path in folder.iterdir() if path != mine.path] == []
    rows = {row.request_id: row for row in services.metering.usage_rows(SYSTEM, "acme")}
    assert {name: (row.status, row.prompt_tokens, row.completion_tokens, row.cost_micro)
            for name, row in rows.items()} == {
        "request-1": ("partial", 100, 20, 600),
        "request-2": ("error", 0, 0, 0),
        "request-3": ("error", 0, 0, 0),
    }  # fmt: skip
    assert rows["request-1"].at.isoformat() == AT
    assert (rows["request-1"].key_id, rows["request-1"].arm) == ("k1", "canary")
    told = services.audit.entries(SYSTEM, "acme", action=ACTION)
    assert [one.subject for one in told] == [f"request:request-{n}" for n in (1, 2, 3)]
    assert [one.details["rule"] for one in told] == ["last_mark", "nothing_given", "nothing_given"]
    assert told[0].details["cost_micro"] == 600
    assert services.audit.verify().size == len(told)
    assert services.metering.used(services.tenants.get(SYSTEM, "acme")).tokens in {0, 120}
    mine.close()


def test_what_was_recorded_after_all_is_left_as_it_is(services: Services) -> None:
    one = Open(intent(1), True, 7, 5)
    assert recover(services, [one]) == 1
    assert recover(services, [replace(one, completion_tokens=50), one]) == 0
    [row] = services.metering.usage_rows(SYSTEM, "acme")
    assert row.completion_tokens == 5


def test_what_cannot_be_written_now_is_left_for_later(services: Services, tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    dead = Journal(folder)
    dead.begin(replace(intent(1), tenant_id="of-another-database"))
    dead.close()
    mine = Journal(folder)
    assert recover_dead(services, folder, mine.path) == 0
    assert len(list(folder.iterdir())) == 2
    assert AuditLog(services.db).tail(SYSTEM, None) == []
    mine.close()


def test_a_neighbour_that_lives_keeps_its_journal(services: Services, tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    alive, mine = Journal(folder), Journal(folder)
    alive.begin(intent(1))
    assert recover_dead(services, folder, mine.path) == 0
    alive.end("request-1")
    alive.close()
    mine.close()
    assert os.listdir(folder) == []
