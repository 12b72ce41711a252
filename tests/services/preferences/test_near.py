from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.preferences.near import clusters, near_pairs, overlap

LONG = "write a short poem about the sea at night for children who can not sleep and count sheep"


def test_copies_and_small_changes_are_near_and_other_texts_are_not() -> None:
    texts = [
        LONG,
        "How many legs has a spider?",
        LONG.upper() + "!",
        LONG.replace("sheep", "goats"),
        "how many LEGS has a spider",
        "How many legs has an ant?",
        "",
    ]
    assert near_pairs(texts) == [(0, 2), (0, 3), (1, 4)]
    assert clusters(texts) == [0, 1, 0, 0, 1, 5, 6]


def test_the_order_of_words_counts() -> None:
    assert overlap("a dog bites a man", "a man bites a dog") < 0.8
    assert overlap(LONG, LONG) == 1
    assert overlap("", "") == 1


def test_texts_without_spaces_are_compared_by_pieces() -> None:
    text = "".join(chr(0x4E00 + number) for number in range(80))
    assert near_pairs([text, text[:-1], text[::-1]]) == [(0, 1)]


def test_nearness_is_passed_on() -> None:
    words = [f"w{number}" for number in range(40)]
    chain = [" ".join(words[start : start + 30]) for start in range(4)]
    assert overlap(chain[0], chain[3]) < overlap(chain[0], chain[1])
    assert clusters(chain, threshold=0.9) == [0, 0, 0, 0]
    assert overlap(chain[0], chain[3]) < 0.9


@pytest.mark.parametrize("count", [0, 1])
def test_few_texts_have_no_neighbours(count: int) -> None:
    assert near_pairs(["a"] * count) == []
    assert clusters(["a"] * count) == list(range(count))


def test_many_copies_give_as_many_pairs_as_connect_them() -> None:
    assert near_pairs([LONG] * 1_000) == [(0, number) for number in range(1, 1_000)]


def test_hardly_any_near_text_is_overlooked() -> None:
    random.seed(5)
    vocabulary = [f"word{number}" for number in range(2_000)]
    texts = [" ".join(random.choices(vocabulary, k=40)) for _ in range(400)]
    changed = [text.rsplit(" ", 2)[0] + " other end" for text in texts]
    found = set(near_pairs([*texts, *changed]))
    wanted = {(index, index + 400) for index in range(400)}
    assert all(overlap(texts[one], changed[other - 400]) >= 0.8 for one, other in wanted)
    assert len(found & wanted) >= 396
    assert found <= wanted


@given(st.lists(st.text(max_size=60), max_size=12))
def test_a_cluster_is_known_by_its_first_text(texts: list[str]) -> None:
    labels = clusters(texts)
    assert len(labels) == len(texts)
    for index, label in enumerate(labels):
        assert label <= index
        assert labels[label] == label
    for one, other in near_pairs(texts):
        assert labels[one] == labels[other]
