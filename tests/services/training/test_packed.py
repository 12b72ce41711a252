"""Packed pairs compute what TRL computes: every loss, its gradient, and the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.inference.models import BaseModel
from services.training.folder import RunFolder
from services.training.models import DpoSpec
from tests.services.training.test_recipe import ROWS

pytestmark = [
    pytest.mark.model,
    # peft 0.21 asks transformers 5.23 by a name that the next major version drops.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


def losses(base: BaseModel, folder: Path, rows: list[Any], **changes: Any) -> list[list[float]]:
    """Loss and length of the gradient of each step: the second is decided by the first's."""
    import transformers

    from services.training.trainers import build_trainer, load_base

    spec = DpoSpec.from_json(
        {
            "alias": "sums", "dataset_id": "d1", "base_model": "tiny", "max_steps": 4,
            "batch_size": 3, "lora_r": 4, "learning_rate": 1e-2, "precision": "float32", **changes,
        }
    )  # fmt: skip
    trainer = build_trainer(
        RunFolder(folder), spec, rows,
        tokenizer=transformers.AutoTokenizer.from_pretrained(base.path),
        model=load_base(str(base.path), "float32"), precision="float32",
    )  # fmt: skip
    trainer.args.save_strategy = transformers.trainer_utils.SaveStrategy.NO
    assert (type(trainer).__name__ == "PackedDpoTrainer") is (changes.get("advanced") is None)
    trainer.train()
    names = ("loss", "grad_norm", "rewards/margins", "rewards/accuracies", "num_tokens")
    return [
        [float(line[name]) for name in names]
        for line in trainer.state.log_history
        if "loss" in line
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"loss_type": "sigmoid", "sft_weight": 0.5},
        {"loss_type": "ipo", "max_steps": 8},
        {"loss_type": "robust", "label_smoothing": 0.2},
        {"loss_type": "apo_zero"},
        {"loss_type": "hinge"},
        {"loss_type": "sigmoid", "target_modules": "attention"},
    ],
    ids=lambda changes: "-".join([changes["loss_type"], changes.get("target_modules", "all")]),
)
def test_a_packed_run_learns_what_trls_own_way_learns(
    tiny_model: BaseModel, tmp_path: Path, changes: dict[str, Any]
) -> None:
    pairs = [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in ROWS]
    packed = losses(tiny_model, tmp_path, pairs, **changes)
    plain = losses(tiny_model, tmp_path, pairs, **changes, advanced={"packed": "off"})
    for ours, theirs in zip(packed, plain, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-4)


def test_pairs_too_long_to_keep_their_attention_teach_the_same(
    tiny_model: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in ROWS]
    kept = losses(tiny_model, tmp_path, pairs, loss_type="sigmoid")
    monkeypatch.setattr("services.training.packed.LONG", 0)
    anew = losses(tiny_model, tmp_path, pairs, loss_type="sigmoid")
    for one, other in zip(kept, anew, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)


def test_a_model_that_looks_past_its_mask_is_not_packed(tiny_model: BaseModel) -> None:
    import torch
    import transformers

    from services.training.packed import agrees_with_trl
    from services.training.trainers import load_base

    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model.path)
    model = load_base(str(tiny_model.path), "float32")
    assert agrees_with_trl(model, tokenizer, ROWS)
    plain = model.base_model.forward

    def forgetful(hides: Any = None, **given: Any) -> Any:
        """Only what comes later is hidden: the rejected answer sees the chosen one."""
        if hides is None:
            return plain(**given)
        later = [torch.full_like(one, -torch.inf).triu(1) for one in hides]
        return plain(hides=later, **given)

    model.base_model.forward = forgetful
    assert not agrees_with_trl(model, tokenizer, ROWS)


def test_a_model_whose_attention_does_something_else_is_not_packed(tiny_model: BaseModel) -> None:
    import transformers

    from services.training.packed import agrees_with_trl
    from services.training.trainers import load_base

    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model.path)
    model = load_base(str(tiny_model.path), "float32")
    own = model.config._attn_implementation
    plain = model.base_model.forward
    model.base_model.forward = lambda **given: plain(sliding_window=8, **given)
    assert not agrees_with_trl(model, tokenizer, ROWS)
    assert model.config._attn_implementation == own
    model.base_model.forward = plain
    model.config.attention_dropout = 0.1
    assert not agrees_with_trl(model, tokenizer, ROWS)


@pytest.mark.parametrize("long", [768, 0], ids=["kept", "anew"])
def test_answers_behind_a_shared_prompt_get_the_log_probabilities_they_have_alone(
    tiny_model: BaseModel, monkeypatch: pytest.MonkeyPatch, long: int
) -> None:
    import torch

    monkeypatch.setattr("services.training.packed.LONG", long)

    from services.training.packed import ATTENTION, PairPacker, log_probs, sums
    from services.training.trainers import load_base

    parts = ("prompt", "chosen", "rejected")
    sizes = [(7, 3, 5), (1, 4, 1), (12, 2, 9)]
    pairs = [
        {f"{part}_ids": [(5 * i + 3 * j + n) % 50 for j in range(size)]
         for i, (part, size) in enumerate(zip(parts, of_one, strict=True))}
        for n, of_one in enumerate(sizes)
    ]  # fmt: skip
    model = load_base(str(tiny_model.path), "float32")
    batch = PairPacker()(pairs)
    alone = []
    with torch.no_grad():
        for side in parts[1:]:
            for one in pairs:
                ids = torch.tensor([one["prompt_ids"] + one[f"{side}_ids"]])
                scores = model(ids).logits[0, :-1].log_softmax(dim=1)
                found = scores.gather(1, ids[0, 1:, None])[len(one["prompt_ids"]) - 1 :]
                alone.append(found.sum().item())
        model.set_attn_implementation(ATTENTION)
        together = torch.cat(sums(log_probs(model, batch), batch)).tolist()
    assert together == pytest.approx(alone, abs=1e-5)
    assert batch["input_ids"].shape == (1, sum(map(sum, sizes)))
    assert batch["tokens"] == sum(2 * size[0] + size[1] + size[2] for size in sizes)


@pytest.mark.parametrize(
    ("precision", "apart"), [("float32", 1e-5), ("bfloat16", 0.02)], ids=["float32", "bfloat16"]
)
def test_an_adapted_layer_computes_what_pefts_own_computes(precision: str, apart: float) -> None:
    import peft
    import torch

    from services.training.packed import AdaptedLinear

    torch.manual_seed(0)
    dtype = getattr(torch, precision)
    base = torch.nn.Linear(24, 40, dtype=dtype).requires_grad_(False)
    states, slope = torch.randn(2, 9, 24, dtype=dtype), torch.randn(2, 9, 40, dtype=dtype)
    config = peft.LoraConfig(r=4, lora_alpha=6, init_lora_weights=False)
    own = AdaptedLinear(base, "default", config=config, r=4, lora_alpha=6)
    theirs = peft.tuners.lora.Linear(base, "default", config=config, r=4, lora_alpha=6)
    theirs.load_state_dict(own.state_dict())
    for layer in (own, theirs):  # as a trainer has them: the adapter in float32 on any base
        layer.lora_A.float(), layer.lora_B.float()
    found = []
    for layer in (own, theirs):
        given = states.clone().requires_grad_()
        weights = [layer.lora_A["default"].weight, layer.lora_B["default"].weight]
        out = layer(given)
        found.append([out, *torch.autograd.grad(out, [given, *weights], slope)])
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        assert (one - other).abs().max() <= apart * other.abs().max()
    own.enable_adapters(False)
    assert torch.equal(own(states), base(states))


def test_smaller_batches_in_memory_change_nothing(tiny_model: BaseModel, tmp_path: Path) -> None:
    pairs = [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in ROWS[:8]]
    from services.training.trainers import arguments

    spec = DpoSpec.from_json(
        {
            "alias": "sums", "dataset_id": "d1", "base_model": "tiny", "batch_size": 4,
            "advanced": {"micro_batch_size": 2},
        }
    )  # fmt: skip
    told = arguments(
        RunFolder(tmp_path), spec, len(pairs), on_gpu=False, precision="float32", large=False
    )
    assert (told["per_device_train_batch_size"], told["gradient_accumulation_steps"]) == (2, 2)


@pytest.mark.parametrize(
    ("batch", "micro", "processes", "expected"),
    [
        (8, 0, 2, (4, 1)),
        (8, 2, 2, (2, 2)),
        (8, 8, 2, (4, 1)),
        (12, 6, 3, (2, 2)),
        (4, 0, 4, (1, 1)),
    ],
)
def test_the_pairs_of_a_step_are_shared_among_the_processes(
    tmp_path: Path, batch: int, micro: int, processes: int, expected: tuple[int, int]
) -> None:
    from services.training.trainers import arguments

    spec = DpoSpec.from_json(
        {
            "alias": "a", "dataset_id": "d", "base_model": "b", "batch_size": batch,
            "advanced": {"micro_batch_size": micro},
        }
    )  # fmt: skip
    where = {"on_gpu": True, "precision": "bfloat16", "large": False, "processes": processes}
    told = arguments(RunFolder(tmp_path), spec, 8, **where)
    found = told["per_device_train_batch_size"], told["gradient_accumulation_steps"]
    assert found == expected


def test_a_step_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    from services.errors import InvalidInput
    from services.training.trainers import arguments

    spec = DpoSpec.from_json({"alias": "a", "dataset_id": "d", "base_model": "b", "batch_size": 3})
    with pytest.raises(InvalidInput, match="batch_size: expected a multiple of 2, since the run"):
        arguments(
            RunFolder(tmp_path), spec, 8, on_gpu=True, precision="bfloat16", large=False,
            processes=2,
        )  # fmt: skip


def test_a_gpu_run_is_bf16_and_large_models_save_memory(tmp_path: Path) -> None:
    import torch

    from services.training.trainers import arguments, four_bits

    spec = DpoSpec.from_json({"alias": "a", "dataset_id": "d", "base_model": "b"})
    told = arguments(RunFolder(tmp_path), spec, 8, on_gpu=True, precision="bfloat16", large=True)
    assert (told["bf16"], told["use_cpu"], told["activation_checkpointing"]) == (True, False, True)
    quantized = four_bits(torch.bfloat16)
    assert (quantized.bnb_4bit_quant_type, quantized.bnb_4bit_use_double_quant) == ("nf4", True)


def test_four_bits_are_refused_where_there_is_no_gpu(tiny_model: BaseModel) -> None:
    import torch

    from services.errors import InvalidInput
    from services.training.trainers import load_base

    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(InvalidInput, match="quantization: expected none without a GPU, found"):
        load_base(str(tiny_model.path), "float32", "4bit")
