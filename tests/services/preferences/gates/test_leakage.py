from __future__ import annotations

from services.preferences.gates.leakage import EvaluationPrompts
from services.preferences.models import Turn

LONG = (
    "Write a short reply to a customer who asks why the parcel that was promised for Monday has "
    "not arrived yet"
)
SHORT = "Name three rivers of Anatolia"
MIDDLE = "Explain in two sentences why the sky looks blue"


def user(*texts: str) -> list[Turn]:
    return [Turn("user", text) for text in texts]


KNOWN = EvaluationPrompts([user(LONG), user(SHORT), user(MIDDLE), user("Why?")])


def test_a_question_that_is_asked_again_leaks() -> None:
    assert KNOWN.found_in(user("name THREE rivers of Anatolia!"), []) == "prompt"
    assert KNOWN.found_in([*user("Hi"), Turn("assistant", "Yes?"), *user(SHORT)], []) == "prompt"


def test_a_run_of_thirteen_words_leaks_from_prompt_and_answer() -> None:
    part = " ".join(LONG.split()[4:17])
    assert KNOWN.found_in(user(f"Please help me: {part}, thank you"), []) == "prompt"
    assert KNOWN.found_in(user("Hello"), ["No.", f"You may say: {part}."]) == "answer"
    assert KNOWN.found_in(user(" ".join(LONG.split()[4:16])), []) is None


def test_a_prompt_of_eight_words_counts_as_one_run() -> None:
    assert KNOWN.found_in(user(f"Dear model, {MIDDLE.lower()} to children"), []) == "prompt"


def test_short_questions_belong_to_everybody() -> None:
    assert KNOWN.found_in(user("Why?"), ["Name three rivers of Anatolia, she said."]) is None
    assert not EvaluationPrompts([user("Why?")])
    assert EvaluationPrompts([]).found_in(user(LONG), [LONG]) is None
