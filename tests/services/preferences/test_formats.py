from __future__ import annotations

import gzip
import io
import json
from typing import Any

import pytest

from services.errors import InvalidInput, TooLarge, UnknownFormat
from services.preferences.drafts import Draft
from services.preferences.formats import read
from services.preferences.models import RowError, Turn
from services.preferences.streams import MAX_LINE_BYTES, Upload
from tests.services.preferences.rows import trl

GOOD = trl(1)


def rows(data: bytes, format: str = "auto", *, max_bytes: int = 64 << 20) -> tuple[str, list[Any]]:
    name, found = read(Upload(io.BytesIO(data), max_bytes=max_bytes), format)
    return name, list(found)


def one(row: Any, format: str = "auto") -> Draft | RowError:
    (found,) = rows(json.dumps(row).encode(), format)[1]
    return found  # type: ignore[no-any-return]


def reason(row: Any, format: str = "trl") -> str:
    found = one(row, format)
    assert isinstance(found, RowError), found
    assert found.line == 1
    return found.reason


def good(row: Any, format: str = "auto") -> Draft:
    found = one(row, format)
    assert isinstance(found, Draft), found
    return found


def test_a_plain_row_becomes_one_user_turn() -> None:
    draft = good(GOOD)
    assert draft.turns == (Turn("user", "What is 1 + 1?"),)
    assert [answer.text for answer in draft.answers] == ["2.", "Blue."]
    assert draft.preferred == 0


def test_a_conversational_row_keeps_its_turns() -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Colour of the sky?"},
    ]
    answer = [{"role": "assistant", "content": "Blue."}]
    draft = good({"prompt": turns, "chosen": answer, "rejected": "Green."})
    assert [(turn.role, turn.content) for turn in draft.turns] == [
        (turn["role"], turn["content"]) for turn in turns
    ]
    whole = {"prompt": turns, "chosen": turns + answer, "rejected": "Green."}
    assert good(whole).answers == draft.answers
    implicit = {
        "chosen": turns + answer,
        "rejected": [*turns, {"role": "assistant", "content": "Green."}],
    }
    assert good(implicit).turns == draft.turns


def test_the_scores_of_the_seeds_belong_to_the_answers() -> None:
    draft = good({**GOOD, "chosen_score": 9.2, "rejected_score": 4, "metadata": {"n": 4}})
    assert [answer.extra for answer in draft.answers] == [{"score": 9.2}, {"score": 4}]
    assert draft.extra == {"n": 4}


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"prompt": "a", "chosen": "b"}, "found no field 'rejected'"),
        ({"chosen": "a", "rejected": "b"}, "found no field 'prompt'"),
        ({**GOOD, "chosen": ""}, "a text in 'chosen', found an empty one"),
        ({**GOOD, "rejected": " \n"}, "a text in 'rejected', found an empty one"),
        ({**GOOD, "rejected": "2."}, "an identical pair"),
        ({**GOOD, "rejected": " 2.\n"}, "an identical pair"),
        ({**GOOD, "chosen": "e\u0301", "rejected": "é"}, "an identical pair"),
        ({**GOOD, "chosen": 7}, "in 'chosen', found a number"),
        ({**GOOD, "chosen": None}, "in 'chosen', found null"),
        ({**GOOD, "prompt": {"a": 1}}, "in 'prompt', found an object"),
        ({**GOOD, "prompt": []}, "a user turn in 'prompt', found none"),
        ({**GOOD, "prompt": ["hi"]}, "found a text"),
        ({**GOOD, "prompt": [{"role": "user"}]}, "found no field 'content'"),
        ({**GOOD, "prompt": [{"role": "boss", "content": "x"}]}, "found 'boss'"),
        ({**GOOD, "chosen": "a\x00b"}, "a NUL character at position 2"),
        ({**GOOD, "chosen_score": "9"}, "a number in 'chosen_score', found a text"),
        ({**GOOD, "chosen_score": 1, "rejected_score": 2}, "found 1 below 2"),
        ({**GOOD, "metadata": [1]}, "an object in 'metadata', found a list"),
        ({**GOOD, "metadata": {"a": "\x00"}}, "a NUL character"),
        ({**GOOD, "split": "test"}, "'train' or 'eval'"),
        ({**GOOD, "chosen": [{"role": "user", "content": "x"}]}, "found the turns user"),
        ([1, 2], "found a number"),
        ("text", "found a text"),
    ],
)
def test_a_bad_row_says_what_was_found(row: Any, found: str) -> None:
    data = json.dumps(row).encode()
    result = rows(data, "trl")[1][0]
    assert isinstance(result, RowError)
    assert "expected" in result.reason
    assert found in result.reason


def test_a_list_prompt_must_end_with_the_user() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert "to end with a user turn, found a turn of the assistant" in reason(
        {**GOOD, "prompt": turns}
    )
    twice = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    assert "in turn in 'prompt', found 'user' as turn 1" in reason({**GOOD, "prompt": twice})


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'{"prompt": "a", "chosen": "\\ud800", "rejected": "c"}', "surrogate"),
        (b'{"prompt": "a", "chosen": "\xff", "rejected": "c"}', "broken JSON"),
        (b'{"prompt": "a", "chosen"', "broken JSON"),
        (b'{"prompt": "a", "chosen": NaN, "rejected": "c"}', "broken JSON"),
        (b'{"prompt": "' + b"a" * MAX_LINE_BYTES + b'"}', "4,194,304 bytes in a line, found more"),
        (b"[" * 100_000, "broken JSON"),
    ],
)
def test_a_broken_line_is_named_and_the_others_are_read(line: bytes, found: str) -> None:
    sound = json.dumps(GOOD).encode()
    name, result = rows(sound + b"\n\n" + line + b"\n" + sound)
    assert name == "trl"
    assert [item.line for item in result] == [1, 3, 4]
    assert isinstance(result[1], RowError)
    assert found in result[1].reason


def test_a_lone_surrogate_in_a_list_is_named() -> None:
    (result,) = rows(b'[{"prompt": "a", "chosen": "\\ud800", "rejected": "c"}]')[1]
    assert "the lone surrogate U+D800 at position 1" in result.reason
    (result,) = rows(b'[{"prompt": "a", "chosen": "x\xff", "rejected": "c"}]')[1]
    assert "the byte 0xff, which is no UTF-8, at position 2" in result.reason


def test_deep_metadata_is_refused() -> None:
    deep: Any = 1
    for _ in range(60):
        deep = [deep]
    assert "levels in 'metadata'" in reason({**GOOD, "metadata": {"a": deep}})


DIALOGUE = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Sky?\n\nAssistant:"


def test_hh_dialogues_part_where_they_differ() -> None:
    draft = good({"chosen": f"{DIALOGUE} Blue.", "rejected": f"{DIALOGUE} Blueish."})
    assert draft.turns == (
        Turn("user", "Hi"), Turn("assistant", "Hello."), Turn("user", "Sky?"),
    )  # fmt: skip
    assert [answer.text for answer in draft.answers] == ["Blue.", "Blueish."]


def test_hh_turns_in_a_row_are_one_turn() -> None:
    draft = good(
        {"chosen": f"{DIALOGUE} Blue.\n\nAssistant: Or grey.", "rejected": f"{DIALOGUE} Blue."}
    )
    assert [answer.text for answer in draft.answers] == ["Blue.\n\nOr grey.", "Blue."]


def test_a_blank_hh_answer_is_an_answer() -> None:
    draft = good({"chosen": f"{DIALOGUE} ", "rejected": f"{DIALOGUE} Blue."})
    assert [answer.text for answer in draft.answers] == ["", "Blue."]


@pytest.mark.parametrize(
    ("chosen", "rejected", "found"),
    [
        (f"{DIALOGUE} Blue.", f"{DIALOGUE} Blue.", "the same dialogue twice"),
        (
            f"{DIALOGUE} Blue.",
            "\n\nHuman: Yo\n\nAssistant: Hey.",
            "of which the first 0 are in both",
        ),
        (f"{DIALOGUE} Blue.", "Blue.", "a dialogue that begins with 'Human:' in 'rejected'"),
        ("\n\nHuman: \n\nAssistant: a", "\n\nHuman: \n\nAssistant: b", "turn 1 empty"),
        ("\n\nAssistant: a", "\n\nAssistant: b", "found none"),
    ],
)
def test_a_bad_dialogue_says_why(chosen: str, rejected: str, found: str) -> None:
    assert found in reason({"chosen": chosen, "rejected": rejected}, "hh")


ALPACA = {
    "instruction": "Name a colour.",
    "output_1": "Red.",
    "output_2": "Seven.",
    "generator_1": "gpt4",
    "generator_2": "tiny",
    "annotator": "human",
    "preference": 1.0,
}


@pytest.mark.parametrize(
    ("preference", "preferred"), [(1, 0), (1.2, 0), (2.0, 1), (1.9, 1), (1.5, None), (None, None)]
)
def test_an_alpaca_preference_is_nearer_to_one_output(
    preference: float | None, preferred: int | None
) -> None:
    name, (draft,) = rows(json.dumps([{**ALPACA, "preference": preference}], indent=2).encode())
    assert name == "alpaca-eval"
    assert draft.preferred == preferred
    assert [answer.extra for answer in draft.answers] == [
        {"generator": "gpt4"}, {"generator": "tiny"},
    ]  # fmt: skip


def test_elements_of_a_list_know_their_lines() -> None:
    data = json.dumps([ALPACA, {**ALPACA, "preference": 3}, {**ALPACA, "output_1": ""}], indent=1)
    found = rows(data.encode())[1]
    assert [item.line for item in found] == [2, 11, 20]
    assert "from 1 to 2, or null, in 'preference', found 3" in found[1].reason
    assert "'output_1', found an empty one" in found[2].reason


@pytest.mark.parametrize("cut", [1, 60, 300])
def test_a_list_that_breaks_off_is_refused_whole(cut: int) -> None:
    data = json.dumps([ALPACA, ALPACA], indent=1).encode()[:-cut]
    with pytest.raises(InvalidInput, match=r"^line \d+: expected .*; nothing was imported$"):
        rows(data, "alpaca-eval")


def test_a_list_larger_than_a_chunk_is_read_whole() -> None:
    many = [{**ALPACA, "output_1": f"ğüş {number} " * 50} for number in range(4_000)]
    found = rows(json.dumps(many, ensure_ascii=False).encode())[1]
    assert [draft.answers[0].text for draft in found] == [row["output_1"] for row in many]


def label_studio(choice: Any, **changes: Any) -> dict[str, Any]:
    result = {
        "from_name": "preference", "to_name": "prompt", "type": "choices",
        "value": {"choices": [choice]},
    }  # fmt: skip
    annotation = {"result": [result], "was_cancelled": False, "updated_at": "2026-01-02T00:00:00Z"}
    data = {"prompt": "Sky?", "response_a": "Blue.", "response_b": "Green."}
    return {"id": 7, "data": data, "annotations": [annotation], **changes}


@pytest.mark.parametrize(
    ("choice", "preferred"),
    [("a3", 0), ("b1", 1), ("tie", None), ("both_bad", None), ("B slightly better", 1)],
)
def test_a_label_studio_choice_is_a_preference(choice: str, preferred: int | None) -> None:
    name, (draft,) = rows(json.dumps([label_studio(choice)]).encode())
    assert name == "label-studio"
    assert draft.preferred == preferred
    assert draft.extra == {"label_studio_task": 7}


def test_the_latest_label_studio_annotation_holds() -> None:
    task = label_studio("a1")
    older = {**label_studio("b3")["annotations"][0], "updated_at": "2026-01-01T00:00:00Z"}
    cancelled = {**label_studio("b3")["annotations"][0], "was_cancelled": True}
    cancelled["updated_at"] = "2027-01-01T00:00:00Z"
    task["annotations"] += [older, cancelled]
    assert good([task][0], "label-studio").preferred == 0
    pairwise = {"type": "pairwise", "value": {"selected": "right"}}
    task["annotations"] = [{"result": [pairwise]}]
    assert good(task, "label-studio").preferred == 1
    assert good({**task, "annotations": []}, "label-studio").preferred is None


def test_an_unknown_label_studio_verdict_is_refused() -> None:
    assert "found 'c9'" in reason(label_studio("c9"), "label-studio")
    task = label_studio("a1", data={"prompt": "x", "foo": "y"})
    assert "two answers in 'data'" in reason(task, "label-studio")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_is_read_with_its_quotes_and_lines(delimiter: str) -> None:
    text = delimiter.join(["\ufeffPrompt", "chosen", "rejected", "note"]) + "\r\n"
    text += delimiter.join(["Sky?", '"Blue,\nor ""grey"""', "Green.", "-"]) + "\r\n"
    text += delimiter.join(["Sky?", "Blue.", "Green."]) + "\r\n\r\n"
    text += delimiter.join(["Sky?", "Blue.", "", "-"]) + "\r\n"
    name, found = rows(text.encode())
    assert name == "csv"
    assert [item.line for item in found] == [2, 4, 6]
    assert found[0].answers[0].text.replace("\r", "") == 'Blue,\nor "grey"'
    assert found[1].reason == "expected 4 columns, found 3"
    assert "'rejected', found an empty one" in found[2].reason


def test_csv_that_is_not_utf8_is_named() -> None:
    found = rows("prompt,chosen,rejected\nGök?,mavi,yeşil\n".encode("iso-8859-9"))[1]
    assert "0xf6, which is no UTF-8" in found[0].reason


def test_an_open_quote_swallows_nothing() -> None:
    found = rows(b'prompt,chosen,rejected\na,b,c\nd,"e,f\n')[1]
    assert isinstance(found[0], Draft)
    assert isinstance(found[1], RowError)
    assert found[1].line == 3


def test_a_csv_without_a_column_is_refused() -> None:
    with pytest.raises(InvalidInput, match="line 1: .*found no column 'rejected'"):
        rows(b"prompt,chosen\na,b\n")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"   \n",
        b"hello there",
        b"PK\x03\x04xlsx",
        b"PAR1",
        b'{"a": 1}',
        b"[1]",
        b"{{{{",
        b"\xff\xfeh\x00",
    ],
)
def test_an_unknown_format_is_one_sentence(data: bytes) -> None:
    with pytest.raises(UnknownFormat, match="^expected .*; found .+$") as caught:
        rows(data)
    assert "\n" not in str(caught.value)


def test_a_format_that_is_not_there_is_refused() -> None:
    with pytest.raises(UnknownFormat, match="found 'parquet'"):
        rows(b"{}", "parquet")


def test_gzip_is_told_by_its_first_bytes() -> None:
    name, found = rows(gzip.compress(json.dumps(GOOD).encode()))
    assert name == "trl"
    assert isinstance(found[0], Draft)


def test_a_broken_gzip_is_refused() -> None:
    packed = gzip.compress(json.dumps([trl(n) for n in range(50)]).encode())
    with pytest.raises(InvalidInput, match="expected a whole gzip file"):
        rows(packed[: len(packed) // 2])


def test_too_large_a_file_says_both_numbers() -> None:
    with pytest.raises(TooLarge, match="at most 1,000 bytes, found 2,000"):
        rows(b"x" * 2_000, max_bytes=1_000)


def test_a_small_file_that_unpacks_to_a_large_one_is_refused() -> None:
    packed = gzip.compress(json.dumps(GOOD).encode() + b"\n" * 2_000_000)
    with pytest.raises(TooLarge, match="unpacked file: expected at most 1,000,000 bytes"):
        rows(packed, max_bytes=1_000_000)


def test_a_file_of_unknown_size_is_cut_off_while_reading() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    upload = Upload(Pipe(json.dumps(GOOD).encode() + b"\n" * 6_000_000), max_bytes=5_000_000)
    with pytest.raises(TooLarge, match="found more than 5,000,000"):
        list(read(upload, "auto")[1])
