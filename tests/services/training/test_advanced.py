from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidInput
from services.training.advanced import Advanced
from services.training.models import DpoSpec

NAMES = {"alias": "legal", "dataset_id": "d1", "base_model": "smollm2-135m-instruct"}
SHA_OF_ANOTHER_VERSION = "5a290aaf07bac684a161345d470a5b98586b9ba2f6668884b30af24f98a11fc3"
"""Of `DpoSpec("a", "d", "b")`, as it was before there were label smoothing, layers and YAML."""


@given(
    warmup=st.floats(0, 1), decay=st.floats(0, 1), saves=st.integers(1, 1000),
    switch=st.sampled_from(["auto", "on", "off"]), epsilon=st.floats(1e-12, 1e-2),
)  # fmt: skip
def test_the_yaml_that_people_edit_is_read_back_as_it_was(
    warmup: float, decay: float, saves: int, switch: str, epsilon: float
) -> None:
    made = Advanced.from_json(
        {
            "warmup_ratio": warmup, "weight_decay": decay, "checkpoints": saves,
            "precompute_reference": switch, "adam_epsilon": epsilon,
        }
    )  # fmt: skip
    assert Advanced.from_yaml(made.as_yaml()) == made


@given(st.text(string.printable, max_size=80))
def test_whatever_is_written_is_read_or_refused_in_one_sentence(text: str) -> None:
    sentence = ""
    try:
        Advanced.from_yaml(text)
    except InvalidInput as refused:
        sentence = refused.message
    assert not sentence or "expected" in sentence or "unknown key" in sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("precompute_ref_log_probs: true", "advanced: unknown key 'precompute_ref_log_probs'"),
        ("packed: maybe", "packed: expected one of auto, off, found 'maybe'"),
        ("warmup_ratio: 2", "warmup_ratio: expected a number from 0 to 1, found 2"),
        ("checkpoints: 1.5", "checkpoints: expected a whole number from 1 to 1000, found 1.5"),
        ("checkpoints: true", "checkpoints: expected a whole number from 1 to 1000, found True"),
        ("packed: off\npacked: auto", "advanced, line 2: expected YAML, found the key 'packed' twice"),
        ("- packed", "advanced: expected lines of the form key: value, found ['packed']"),
        ("x: [", "advanced, line 1: expected YAML, found "),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Advanced.from_yaml(text)
    assert refused.value.message.startswith(sentence)


def test_nothing_written_means_the_defaults() -> None:
    assert Advanced.from_yaml("# all as usual\n") == Advanced()


def test_a_run_that_an_older_version_stopped_still_goes_on() -> None:
    old = DpoSpec("a", "d", "b")
    assert old.sha256 == SHA_OF_ANOTHER_VERSION
    assert DpoSpec.from_json(old.as_json()).sha256 == SHA_OF_ANOTHER_VERSION
    changed = DpoSpec.from_json({**old.as_json(), "advanced": {"weight_decay": 0.1}})
    assert changed.sha256 != SHA_OF_ANOTHER_VERSION


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"label_smoothing": 0.1},
            "label_smoothing: expected 0 with the loss sigmoid (only robust knows wrong labels), found 0.1",
        ),
        ({"loss_type": "kto", "sft_weight": 0.5}, "sft_weight: expected 0 with the loss kto, found 0.5"),
        (
            {"batch_size": 4, "advanced": {"micro_batch_size": 3}},
            "micro_batch_size: expected a divisor of batch_size (4), found 3",
        ),
        ({"label_smoothing": 0.5}, "label_smoothing: expected a number from 0.0 to 0.49 (share of wrong labels), found 0.5"),
        ({"quantization": "8bit"}, "quantization: expected one of none, 4bit, found '8bit'"),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_refused(
    changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        DpoSpec.from_json({**NAMES, **changes})
    assert str(refused.value) == sentence
