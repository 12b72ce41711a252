"""Scoring with a tiny real model: log-probabilities against sums done by hand."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from services.errors import InvalidInput, MissingModel
from services.evaluation.heldout import HeldOutPair
from services.evaluation.models import AnswerPair
from services.evaluation.summary import LeftOut, summarise
from services.inference.models import BaseModel
from tests.models import make_adapter, make_tiny_model

pytestmark = [
    # transformers 5.23 reads an attribute of its own that it has deprecated.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


def pair(
    number: int, chosen: str, rejected: str, prompt: str = "The capital of Turkey?"
) -> HeldOutPair:
    def said(text: str) -> tuple[dict[str, str], ...]:
        return ({"role": "assistant", "content": text},)

    question = ({"role": "user", "content": prompt},)
    return HeldOutPair(f"p{number}", f"k{number}", question, said(chosen), said(rejected))


PAIR = pair(0, "Ankara.", "Istanbul, its largest city, hello world.")


@pytest.fixture(scope="module")
def adapter(tiny_model: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tiny_model.path, tmp_path_factory.mktemp("adapters") / "a")


@dataclass
class Naive:
    """Log-probabilities the slow way: one pass for every token, nothing shared or padded."""

    model: object
    tokenizer: object

    def logp(self, found: HeldOutPair, answer: str) -> tuple[float, int]:
        import torch

        head = f"<|im_start|>user\n{found.prompt[0]['content']}<|im_end|>\n<|im_start|>assistant\n"
        ids = self.tokenizer(head)["input_ids"]  # type: ignore[operator]
        tail = self.tokenizer(f"{answer}<|im_end|>\n")["input_ids"]  # type: ignore[operator]
        total = 0.0
        for token in tail:
            with torch.no_grad():
                logits = self.model(torch.tensor([ids])).logits[0, -1].double()  # type: ignore[operator]
            total += math.log(float(torch.softmax(logits, -1)[token]))
            ids = [*ids, token]
        return total, len(tail)


def test_log_probabilities_are_those_computed_token_by_token(
    tiny_model: BaseModel, adapter: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from services.evaluation import scoring

    subject = scoring.load(tiny_model.path, adapter, threads=1)
    found = scoring.score_pair(subject, PAIR)
    assert found is not None

    tokenizer = AutoTokenizer.from_pretrained(tiny_model.path)
    base = AutoModelForCausalLM.from_pretrained(tiny_model.path).eval()
    chosen, n_chosen = Naive(base, tokenizer).logp(PAIR, "Ankara.")
    rejected, n_rejected = Naive(base, tokenizer).logp(PAIR, PAIR.rejected[0]["content"])
    assert (found.base_chosen, found.base_rejected) == pytest.approx((chosen, rejected), rel=1e-5)
    assert (found.chosen_tokens, found.rejected_tokens) == (n_chosen, n_rejected)

    tuned = PeftModel.from_pretrained(base, str(adapter)).eval()
    chosen, _ = Naive(tuned, tokenizer).logp(PAIR, "Ankara.")
    rejected, _ = Naive(tuned, tokenizer).logp(PAIR, PAIR.rejected[0]["content"])
    assert (found.adapter_chosen, found.adapter_rejected) == pytest.approx(
        (chosen, rejected), rel=1e-5
    )
    assert abs(found.adapter_chosen - found.base_chosen) > 0.1


def test_probabilities_of_all_next_tokens_sum_to_one(tiny_model: BaseModel, adapter: Path) -> None:
    from services.evaluation import scoring

    subject = scoring.load(tiny_model.path, adapter, threads=1)
    every = [[token] for token in range(len(subject.tokenizer))]
    found = scoring.completion_logps(subject.model, [1, 20, 30], every)
    assert math.fsum(map(math.exp, found)) == pytest.approx(1.0, abs=1e-5)


def test_the_company_of_a_longer_answer_changes_nothing(
    tiny_model: BaseModel, adapter: Path
) -> None:
    from services.evaluation import scoring

    subject = scoring.load(tiny_model.path, adapter, threads=1)
    prompt, short, long = [1, 20, 30], [40, 41], [40, 41, 42, 43, 44, 45, 46]
    alone = [scoring.completion_logps(subject.model, prompt, [one])[0] for one in (short, long)]
    together = scoring.completion_logps(subject.model, prompt, [short, long])
    assert together == pytest.approx(alone, rel=1e-5)


def test_an_adapter_that_changes_nothing_scores_margin_zero_and_loss_log_two(
    tiny_model: BaseModel, tmp_path: Path
) -> None:
    from services.evaluation import scoring

    same = make_adapter(tiny_model.path, tmp_path / "same", strength=0.0)
    subject = scoring.load(tiny_model.path, same, threads=1)
    found = [scoring.score_pair(subject, one) for one in (PAIR, pair(1, "yes", "no"))]
    summary = summarise(
        [one for one in found if one], [], beta=0.1, left_out=LeftOut(), seconds=0.1
    )
    assert summary.n_pairs == 2
    assert summary.reward_margin.mean == 0.0
    assert summary.dpo_loss == pytest.approx(math.log(2))


def test_a_pair_longer_than_the_model_reads_is_left_out(
    tiny_model: BaseModel, adapter: Path
) -> None:
    from services.evaluation import scoring

    subject = scoring.load(tiny_model.path, adapter, threads=1)
    assert scoring.score_pair(subject, pair(0, "yes", "no " * 600)) is None


def untimed(answer: AnswerPair) -> AnswerPair:
    return replace(answer, base_seconds=None, adapter_seconds=None)


def test_answers_are_greedy_alone_and_together_and_differ_by_the_adapter(
    tiny_model: BaseModel, adapter: Path
) -> None:
    from services.evaluation import scoring

    subject = scoring.load(tiny_model.path, adapter, threads=1)
    prompts = [PAIR.prompt, pair(1, "", "", "one two three").prompt]
    together = scoring.answer(subject, prompts, first=5, max_new_tokens=12)
    assert [one.position for one in together] == [5, 6]
    assert [one.prompt for one in together] == prompts
    alone = [
        scoring.answer(subject, [prompt], first=5 + i, max_new_tokens=12)[0]
        for i, prompt in enumerate(prompts)
    ]
    assert [untimed(one) for one in together] == [untimed(one) for one in alone]
    assert all((one.prompt_tokens or 0) > 0 and (one.base_seconds or 0) > 0 for one in together)
    assert all(0 < one.base_tokens <= 12 and 0 <= one.base_repetition < 1 for one in together)
    assert any(one.base != one.adapter for one in together)


def test_an_adapter_of_another_base_is_refused(tiny_model: BaseModel, tmp_path: Path) -> None:
    from services.evaluation import scoring

    other = make_adapter(tiny_model.path, tmp_path / "other")
    config = json.loads((other / "adapter_config.json").read_text())
    config["target_modules"] = ["q_proj"]
    (other / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidInput, match="expected weights for 4 places"):
        scoring.load(tiny_model.path, other, threads=1)


def test_an_adapter_of_another_size_is_refused(tiny_model: BaseModel, tmp_path: Path) -> None:
    from services.evaluation import scoring

    other = make_adapter(tiny_model.path, tmp_path / "other", rank=4)
    config = json.loads((other / "adapter_config.json").read_text())
    config["r"] = 8
    (other / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidInput, match="expected one for tiny-llama"):
        scoring.load(tiny_model.path, other, threads=1)


def test_a_missing_base_is_named(adapter: Path, tmp_path: Path) -> None:
    from services.evaluation import scoring

    with pytest.raises(MissingModel, match="base model nowhere: expected a model"):
        scoring.load(tmp_path / "nowhere", adapter, threads=1)


def test_a_base_without_a_chat_template_is_refused(adapter: Path, tmp_path: Path) -> None:
    from services.evaluation import scoring

    base = make_tiny_model(tmp_path / "bare")
    (base.path / "chat_template.jinja").unlink()
    with pytest.raises(InvalidInput, match="expected a chat template, found none"):
        scoring.load(base.path, adapter, threads=1)


def test_a_template_that_rewrites_what_was_asked_is_refused(
    tiny_model: BaseModel, adapter: Path, tmp_path: Path
) -> None:
    from services.evaluation import scoring

    folder = tmp_path / "rewriting"
    shutil.copytree(tiny_model.path, folder)
    (folder / "chat_template.jinja").write_text(
        "{% for message in messages %}{{ messages|length }}{{ message['content'] }}{% endfor %}"
    )
    subject = scoring.load(folder, adapter, threads=1)
    with pytest.raises(InvalidInput, match="this template cannot be scored"):
        scoring.score_pair(subject, PAIR)
