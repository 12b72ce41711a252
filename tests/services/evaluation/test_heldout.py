import json
from pathlib import Path

import pytest

from services.errors import InvalidInput
from services.evaluation.heldout import distinct_prompts, prompt_key, read_held_out


def line(pair_id: str, question: str, **changes: object) -> str:
    row = {
        "pair_id": pair_id,
        "prompt": [{"role": "user", "content": question}],
        "chosen": [{"role": "assistant", "content": "yes"}],
        "rejected": [{"role": "assistant", "content": "no"}],
    }
    return json.dumps(row | changes) + "\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "eval.jsonl", tmp_path / "train.jsonl"


def test_pairs_whose_prompt_was_learned_from_are_left_out(files: tuple[Path, Path]) -> None:
    held_out, train = files
    held_out.write_text(line("p1", "one?") + line("p2", "  Two? ") + line("p3", "three?"))
    train.write_text(line("q1", "two?"))
    pairs, seen = read_held_out(held_out, [train])
    assert [pair.pair_id for pair in pairs] == ["p1", "p3"]
    assert seen == ["p2"]


def test_pairs_of_one_prompt_share_its_key_and_are_asked_once(files: tuple[Path, Path]) -> None:
    files[0].write_text(line("p1", "b?") + line("p2", "a?") + line("p3", "b?"))
    pairs, _ = read_held_out(files[0], [])
    assert pairs[0].prompt_key == pairs[2].prompt_key != pairs[1].prompt_key
    assert [prompt[-1]["content"] for prompt in distinct_prompts(pairs, 9)] == ["b?", "a?"]
    assert len(distinct_prompts(pairs, 1)) == 1


def test_roles_tell_prompts_apart() -> None:
    user, system = ({"role": role, "content": "x"} for role in ("user", "system"))
    assert prompt_key([user]) != prompt_key([system])


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "[]\n",
        line("p1", "q").replace("pair_id", "id"),
        line("p1", "q", chosen=[]),
        line("p1", "q", rejected=[{"role": "assistant"}]),
        line("p1", "q", prompt="q"),
    ],
)
def test_a_broken_line_is_named(files: tuple[Path, Path], bad: str) -> None:
    files[0].write_text(line("p0", "q") + bad)
    with pytest.raises(InvalidInput, match=r"eval\.jsonl line 2: expected pair_id, prompt"):
        read_held_out(files[0], [])


def test_a_missing_file_is_named(files: tuple[Path, Path]) -> None:
    with pytest.raises(InvalidInput, match=r"eval\.jsonl: expected a file of pairs, found none"):
        read_held_out(files[0], [])
