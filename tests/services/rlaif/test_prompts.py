from __future__ import annotations

import json
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.retention.service import Retention
from services.audit.retention.vault import Vault
from services.db import Database, utcnow
from services.errors import InvalidInput, NotPermitted, TooLarge
from services.preferences.models import Turn
from services.rlaif import prompts
from services.rlaif.generation import spread
from services.rlaif.traffic import GatewayTraffic
from services.tenants.models import Actor, Role
from tests.services.rlaif.world import add_tenant

ONE = (Turn("user", "What is it?"),)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "# a remark\n\nWhat is it?\n  What is it? \n"),
        ("a.jsonl", '{"prompt": "What is it?"}\n\n{"instruction": "What is it?"}\n'),
        ("a.jsonl", '{"prompt": [{"role": "user", "content": "What is it?"}]}\n"What is it?"'),
        ("a.json", '[{"prompt": "What is it?"}, "What is it?"]'),
        ("a.csv", "id,Prompt\n1,What is it?\n2,What is it?\n"),
        ("a.csv", "prompt;x\nWhat is it?;1\nWhat is it?;2\n"),
        ("", '{"prompt": "What is it?"}\n{"prompt": "What is it?"}'),
        ("", "\ufeffWhat is it?\nWhat is it?"),
        (
            "a.jsonl",
            '{"messages": [{"role": "user", "content": "What is it?"}, '
            '{"role": "assistant", "content": "This."}]}\n"What is it?"',
        ),
    ],
)
def test_each_format_gives_the_same_prompt_once(name: str, content: str) -> None:
    found = prompts.read(content.encode(), name)
    assert (found.prompts, found.repeated) == ((ONE,), 1)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"prompt": "a"}\n{"question": "b"}', "line 2: expected the field prompt"),
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": 3}', "line 2: expected a text or a list"),
        ("a.jsonl", "{broken", "line 1: expected JSON"),
        ("a.json", "[{]", "expected a JSON list"),
        ("a.csv", "question\nwhat\n", "expected a CSV column 'prompt', found question"),
        ("a.txt", " \n# only a remark\n", "expected at least one, found none"),
        ("a.jsonl", '{"prompt": "  "}', "line 1: expected a text in 'prompt', found an empty one"),
        ("a.jsonl", '{"prompt": [{"role": "robot", "content": "x"}]}', "expected the role"),
        ("a.jsonl", json.dumps({"prompt": "x" * 40_000}), "expected at most 32,000 characters"),
        ("a.jsonl", '{"prompt": "a\\u0000b"}', "NUL"),
    ],
)
def test_a_file_with_a_bad_row_is_refused_whole(name: str, content: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        prompts.read(content.encode(), name)


def test_what_is_no_text_or_too_much_is_refused() -> None:
    with pytest.raises(InvalidInput, match="UTF-8"):
        prompts.read(b"abc\xff", "a.txt")
    with pytest.raises(TooLarge):
        prompts.read(b"x" * (prompts.MAX_BYTES + 1), "a.txt")
    with pytest.raises(TooLarge):
        prompts.read("\n".join(map(str, range(10_001))).encode(), "a.txt")


@given(st.integers(2, 8), st.integers(1, 28))
def test_pairs_are_spread_evenly_over_the_candidates(count: int, wanted: int) -> None:
    found = spread(count, wanted)
    possible = list(combinations(range(count), 2))
    assert len(found) == len(set(found)) == min(wanted, len(possible))
    assert set(found) <= set(possible)
    used = Counter(index for pair in found for index in pair)
    assert max(used.values()) - min(used[index] for index in range(count)) <= 2


def test_kept_requests_become_prompts_for_who_may_read_them(
    database: Database, tmp_path: object
) -> None:
    from pathlib import Path

    add_tenant(database)
    retention = Retention(database, Vault(Path(str(tmp_path))))
    traffic = GatewayTraffic(retention)
    system = Actor.system("test")
    assert not traffic.is_kept("acme")
    retention.choose(system, "acme", days=3)
    assert traffic.is_kept("acme")
    bodies = (
        {"messages": [{"role": "user", "content": "What is it?"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "parts"}]}]},
    )
    with database.write() as session:
        for number, body in enumerate(bodies):
            text = json.dumps(body).encode()
            retention.keep(session, "acme", f"r{number}", text, b"{}", days=3, at=utcnow())
    found = prompts.dialogues(traffic.prompts(system, "acme", limit=10))
    assert found.prompts == (ONE,)
    engineer = Actor("user", "u", "E", {"globex": frozenset({Role.ENGINEER})})
    with pytest.raises(NotPermitted):
        traffic.prompts(engineer, "acme", limit=10)
