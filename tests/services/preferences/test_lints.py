from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.preferences.lints import LINTS, is_near_identical, lints, of_answers
from services.preferences.models import Turn

ASKED = (Turn("user", "What is the capital of the country in which the Nile ends?"),)
LONG = "The capital of Egypt is Cairo, and it lies on the Nile, not far from its delta. " * 4


def only(text: str) -> set[str]:
    (found,) = of_answers(ASKED, text)
    return set(found)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("  \n", "empty"),
        ("I’m sorry, but I can’t help with that.", "refusal"),
        ("Üzgünüm, ama bu konuda yardımcı olamam.", "refusal"),
        (LONG + "And furthermore it is said of the city that it was built by people who", "unfinished"),
        (LONG + "\n```python\nprint(1)\n", "unfinished"),
        ("Cairo.\nHuman: And of Turkey?", "prompt_leak"),
        (f"You ask: {ASKED[0].content} It is Cairo.", "prompt_leak"),
        ("I was trained by OpenAI; Cairo.", "identity_leak"),
        ("BEN BÜYÜK BİR DİL MODELİYİM.", "identity_leak"),
        ("Cairo.<|im_end|>", "template_tokens"),
        ("[INST] Cairo [/INST]", "template_tokens"),
        ("NETWORK ERROR DUE TO HIGH TRAFFIC. PLEASE REGENERATE.", "error_text"),
        ("Cai\u200bro.", "hidden_characters"),
        ("\u202eoriaC", "hidden_characters"),
    ],
)  # fmt: skip
def test_what_stands_out_in_an_answer_is_named(text: str, name: str) -> None:
    assert name in only(text)


@pytest.mark.parametrize(
    "text",
    [
        "Cairo.",
        LONG,
        LONG + "\n\n- Cairo\n- Alexandria",
        "Turkey's is Ankara. I am sorry to hear that you lost your way there.",
        "Use <b>bold</b> and a | pipe, if x > 3.",
        "नमस्ते" * 60,
        "می\u200cخواهم",  # a joiner that Persian needs
    ],
)
def test_a_usual_answer_has_nothing(text: str) -> None:
    assert only(text) == set()


def test_a_name_that_was_asked_about_is_no_leak() -> None:
    asked = (Turn("user", "Who founded OpenAI?"),)
    assert of_answers(asked, "OpenAI was founded by eleven people.") == [frozenset()]


def test_two_answers_are_compared() -> None:
    assert lints(ASKED, LONG, LONG.replace("Cairo", "Kairo", 1)) == ("near_identical",)
    assert lints(ASKED, "Cairo.", "cairo") == ("near_identical",)
    assert lints(ASKED, "Cairo.", LONG) == ("length_gap",)
    assert lints(ASKED, LONG, LONG.replace("Cairo", "Giza").replace("delta", "sources")) == ()


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=80))
def test_any_text_is_looked_at(first: str, second: str, question: str) -> None:
    found = lints((Turn("user", question),), first, second)
    assert list(found) == [name for name in LINTS if name in found]
    assert found == lints((Turn("user", question),), second, first)
    assert is_near_identical(first, first)


def test_a_megabyte_holds_nothing_up() -> None:
    started = time.perf_counter()
    lints(ASKED, "a b " * 250_000, "<|" * 500_000)
    assert time.perf_counter() - started < 2
