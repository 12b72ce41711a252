from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from services.errors import InvalidInput
from services.inference.models import BaseModel
from services.preferences.gates.models import Candidate
from services.preferences.gates.truncation import TrainingTokenizer, training_tokenizer
from tests.models import CHAT_TEMPLATE, SENTENCES
from tests.services.preferences.gates.candidates import candidate

LONG = "The capital of Turkey is Ankara, and its largest city is Istanbul. " * 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer with a chat template, as a base model's folder holds them."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        SENTENCES,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=["<|im_start|>", "<|im_end|>"], show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )  # fmt: skip
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"chat_template": CHAT_TEMPLATE, "eos_token": {"content": "<|im_end|>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> TrainingTokenizer:
    return TrainingTokenizer(folder)


def found(tokenizer: TrainingTokenizer, one: Candidate, max_length: int) -> bool:
    return bool(tokenizer.identical_when_cut([one], max_length=max_length))


def test_answers_that_differ_behind_the_cut_are_found(tokenizer: TrainingTokenizer) -> None:
    one = candidate(LONG + "Yes.", LONG + "No.")
    assert found(tokenizer, one, 64)
    assert not found(tokenizer, one, 2_000)


def test_answers_that_differ_before_the_cut_are_not(tokenizer: TrainingTokenizer) -> None:
    assert not found(tokenizer, candidate("Yes. " + LONG, "No. " + LONG), 64)
    assert not found(tokenizer, candidate("Ankara.", "Istanbul."), 64)


def test_a_prompt_that_fills_the_window_leaves_no_answer(tokenizer: TrainingTokenizer) -> None:
    one = candidate("Yes.", "No.", turns=[("user", LONG)])
    assert found(tokenizer, one, 64)


def test_an_answer_that_goes_on_behind_the_other_one_differs(tokenizer: TrainingTokenizer) -> None:
    assert not found(tokenizer, candidate("Ankara", "Ankara is it"), 64)


def test_every_cut_is_found_exactly(tokenizer: TrainingTokenizer, folder: Path) -> None:
    """The quick tests in between let no pair through: compared with all tokens of all texts."""
    library = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def tokens(one: Candidate, answer: str) -> list[int]:
        question = one.pair.prompt.question
        text = (
            f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
        )
        return library.encode(text, add_special_tokens=False).ids

    for shared in range(0, 200, 7):
        head = LONG[:shared]
        one = candidate(f"{head}Türkiye'nin başkenti", f"{head}The largest 🎉 city")
        both = [tokens(one, answer.text) for answer in (one.chosen, one.rejected)]
        for max_length in range(16, 120, 5):
            expected = both[0][:max_length] == both[1][:max_length]
            assert found(tokenizer, one, max_length) is expected, (shared, max_length)


def test_a_template_that_refuses_a_dialogue_is_done_without(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"
    (tmp_path / "chat_template.jinja").write_text(template + CHAT_TEMPLATE)
    one = candidate("Yes.", "No.", turns=[("system", LONG), ("user", "Hi")])
    assert found(TrainingTokenizer(tmp_path), one, 64)


def test_a_template_cannot_reach_out_of_its_sandbox(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    (tmp_path / "chat_template.jinja").write_text(
        "{{ messages.__class__.__mro__[1].__subclasses__() }}" + CHAT_TEMPLATE
    )
    assert found(TrainingTokenizer(tmp_path), candidate(LONG + "1", LONG + "2"), 64)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(InvalidInput, match=r"tokenizer\.json: expected a tokenizer"):
        TrainingTokenizer(tmp_path)


def test_a_model_that_is_not_on_disk_has_no_tokenizer(tmp_path: Path) -> None:
    assert training_tokenizer("smollm2-135m-instruct", tmp_path) is None


@pytest.mark.model
def test_the_tokens_are_those_of_training(base_model: BaseModel) -> None:
    import transformers

    library = transformers.AutoTokenizer.from_pretrained(base_model.path)
    ours = training_tokenizer(base_model.name, base_model.path.parent)
    assert ours is not None
    one = candidate(turns=[("user", "Hi"), ("assistant", "Yes?"), ("user", "Başkent neresi? 🎉")])
    messages = [
        *({"role": turn.role, "content": turn.content} for turn in one.pair.prompt.turns),
        {"role": "assistant", "content": one.chosen.text},
    ]
    wanted = library.apply_chat_template(messages, return_dict=False)
    assert ours._ids([ours._dialogue(one, one.chosen.text)]) == [wanted]
