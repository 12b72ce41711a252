import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.evaluation.repetition import is_degenerate, longest_run, repetition, words


@pytest.mark.parametrize(
    ("text", "share"),
    [("", 0.0), ("Ankara", 0.0), ("a b a b", 1 / 3), ("a a a a a", 3 / 4), ("a b c d", 0.0)],
)
def test_repetition_is_one_minus_distinct_two(text: str, share: float) -> None:
    assert repetition(text) == pytest.approx(share)


@pytest.mark.parametrize(
    "text",
    [
        "Ankara Ankara Ankara Ankara",
        "The capital is Ankara. The capital is Ankara. The capital is Ankara.",
        "Başkent Ankara'dır. BAŞKENT ankara'dır. başkent Ankara'dır.",
        "word " * 64,
    ],
)
def test_loops_are_seen(text: str) -> None:
    assert is_degenerate(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Ankara.",
        "No, no, no!",
        "The capital of Turkey is Ankara, and its largest city is Istanbul.",
        "1. Read the question. 2. Read the text. 3. Write the answer. 4. Check the answer.",
        "Türkiye'nin başkenti Ankara'dır; en büyük şehri ise İstanbul'dur.",
    ],
)
def test_good_answers_are_left_alone(text: str) -> None:
    assert not is_degenerate(text)


@settings(deadline=None)  # a busy machine is no failure
@given(st.text())
def test_any_text_has_a_share_and_a_run(text: str) -> None:
    assert 0 <= repetition(text) < 1
    assert longest_run(text) <= len(words(text))
    assert isinstance(is_degenerate(text), bool)
