"""DPO with each prompt read once: both answers of a pair stand in one row behind their prompt.

TRL runs the model over prompt + chosen and over prompt + rejected, each padded to the longest of
the batch. Here a row is prompt, chosen, rejected; a mask keeps the answers from seeing each other,
and both count their positions from the prompt's end, so every token sees what it would see alone.
The output layer is asked at the answers' tokens only, and its gradient is found in the forward
pass, so nothing as wide as the vocabulary is kept. The numbers are TRL's up to rounding:
`agrees_with_trl` proves it on the first batch of every run, or the run goes TRL's own way.

Source of the losses: TRL's `DPOConfig.loss_type`, which names the papers. Imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import trl

Tensor = torch.Tensor
Batch = dict[str, Any]

HEAD_ROWS = 256
"""Answer tokens that the output layer is asked about at once; bounds its memory."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""Largest mean difference from the plain way in the log-probability of a token, nats."""


class PairPacker:
    """Makes one batch of tokenized pairs.

    Args:
        pad_token_id: Fills up the shorter rows; nothing ever sees it.
    """

    def __init__(self, pad_token_id: int) -> None:
        self._pad = pad_token_id

    def __call__(self, examples: list[Batch]) -> Batch:
        """The batch: rows of tokens, what sees what, and where the answers' tokens are foretold.

        Returns:
            `input_ids` and `position_ids` (pairs, length); `sees` (pairs, 1, length, length) true
            where a token may look; `at` and `target` (answer tokens), the flat place whose output
            foretells the token, and the token; `owner` (answer tokens), which answer it is of:
            chosen ones are 0 to pairs - 1, rejected ones follow; `tokens`, how many TRL would
            have read. With the reference's sums, if they were computed before.
        """
        length = max(sum(len(one[f"{part}_ids"]) for part in _PARTS) for one in examples)
        shape = (len(examples), length)
        batch: Batch = {
            "input_ids": torch.full(shape, self._pad),
            "position_ids": torch.zeros(shape, dtype=torch.long),
            "sees": torch.eye(length, dtype=torch.bool).repeat(len(examples), 1, 1, 1),
        }
        at: list[Tensor] = []
        owner: list[Tensor] = []
        for row, one in enumerate(examples):
            prompt, *answers = (len(one[f"{part}_ids"]) for part in _PARTS)
            tokens = [token for part in _PARTS for token in one[f"{part}_ids"]]
            batch["input_ids"][row, : len(tokens)] = torch.tensor(tokens)
            sees = batch["sees"][row, 0]
            sees[:prompt, :prompt] = _triangle(prompt)
            batch["position_ids"][row, :prompt] = torch.arange(prompt)
            start = prompt
            for side, size in enumerate(answers):
                here = slice(start, start + size)
                sees[here, :prompt] = True
                sees[here, here] = _triangle(size)
                batch["position_ids"][row, here] = torch.arange(prompt, prompt + size)
                foretold = torch.arange(start - 1, start + size - 1)
                foretold[:1] = prompt - 1
                at.append(foretold + row * length)
                owner.append(torch.full((size,), row + side * len(examples)))
                start += size
        batch["at"], batch["owner"] = torch.cat(at), torch.cat(owner)
        batch["target"] = torch.tensor(
            [t for one in examples for part in _PARTS[1:] for t in one[f"{part}_ids"]]
        )
        batch["tokens"] = sum(
            2 * len(one["prompt_ids"]) + len(one["chosen_ids"]) + len(one["rejected_ids"])
            for one in examples
        )
        for name in ("ref_chosen_logps", "ref_rejected_logps"):
            if name in examples[0]:
                batch[name] = torch.tensor([one[name] for one in examples])
        return batch


_PARTS = ("prompt", "chosen", "rejected")


def _triangle(size: int) -> Tensor:
    return torch.ones(size, size, dtype=torch.bool).tril()


class _LogProbs(torch.autograd.Function):
    """log softmax(states @ weight.T)[target], a chunk of rows at a time; the weight is frozen.

    d logp / d state = weight[target] - softmax @ weight needs no upstream gradient to be found, so
    it is found at once, and the backward pass is one product by number.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, target: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        found = torch.empty(len(states), dtype=torch.float32, device=states.device)
        slope = torch.empty_like(states) if wanted else None
        for start in range(0, len(states), HEAD_ROWS):
            rows = slice(start, start + HEAD_ROWS)
            logits = (states[rows] @ weight.T).float()
            total = logits.logsumexp(dim=1, keepdim=True)
            found[rows] = logits.gather(1, target[rows, None]).sub_(total)[:, 0]
            if slope is not None:
                shares = logits.sub_(total).exp_().to(weight.dtype)
                slope[rows] = weight[target[rows]] - shares @ weight
        if slope is not None:
            ctx.save_for_backward(slope)
        return found

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        (slope,) = ctx.saved_tensors
        return slope * upstream[0][:, None].to(slope.dtype), None, None


def log_probs(model: Any, batch: Batch) -> Tensor:
    """Log-probability of each answer token, shape (answer tokens,), nats, float32."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    states = causal.base_model(
        input_ids=batch["input_ids"],
        attention_mask=batch["sees"],
        position_ids=batch["position_ids"],
        use_cache=False,
    ).last_hidden_state
    head = causal.get_output_embeddings().weight
    chosen = states.flatten(0, 1)[batch["at"]].to(head.dtype)
    found: Tensor = _LogProbs.apply(chosen, head, batch["target"])  # type: ignore[no-untyped-call]
    return found


def sums(values: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Sums over the tokens of each chosen and each rejected answer, shape (pairs,) both."""
    pairs = len(batch["input_ids"])
    total = values.new_zeros(2 * pairs).index_add_(0, batch["owner"], values)
    return total[:pairs], total[pairs:]


def agrees_with_trl(model: Any, tokenizer: Any, rows: list[Batch]) -> bool:
    """Whether this model gives the first pair's tokens the same probability packed as alone.

    A model that looks past its mask (a window, a recurrence, scaled logits) does not: its runs go
    TRL's own way.
    """
    prompt = tokenizer.apply_chat_template(
        rows[0]["prompt"], add_generation_prompt=True, return_dict=False
    )
    whole = [
        tokenizer.apply_chat_template(rows[0]["prompt"] + rows[0][side], return_dict=False)
        for side in _PARTS[1:]
    ]
    example = {
        "prompt_ids": prompt,
        "chosen_ids": whole[0][len(prompt) :],
        "rejected_ids": whole[1][len(prompt) :],
    }
    if not example["chosen_ids"] or not example["rejected_ids"]:
        return False
    batch = PairPacker(0)([example])
    alone = []
    with torch.no_grad():
        try:
            found = log_probs(model, batch)
        except (AttributeError, TypeError, ValueError, RuntimeError):
            return False  # it does not take such a mask at all
        for ids in (prompt + example["chosen_ids"], prompt + example["rejected_ids"]):
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1].float()
            scores = logits.log_softmax(dim=1).gather(1, torch.tensor(ids)[1:, None])[:, 0]
            alone.append(scores[len(prompt) - 1 :])
    apart = (found - torch.cat(alone)).abs().mean().item()
    return apart <= TOLERANCE.get(model.dtype, 0.0)


Loss = Callable[[Tensor, Tensor, Any], Tensor]
"""Of the log ratios of chosen and rejected to the reference, and the trainer: a loss a pair."""


def _robust(chosen: Tensor, rejected: Tensor, trainer: Any) -> Tensor:
    noise, margin = trainer.label_smoothing, trainer.beta * (chosen - rejected)
    clean, flipped = -(1 - noise) * F.logsigmoid(margin), -noise * F.logsigmoid(-margin)
    found: Tensor = (clean - flipped) / (1 - 2 * noise)
    return found


LOSSES: dict[str, Loss] = {
    "sigmoid": lambda c, r, trainer: -F.logsigmoid(trainer.beta * (c - r)),
    "hinge": lambda c, r, trainer: torch.relu(1 - trainer.beta * (c - r)),
    "robust": _robust,
    "apo_zero": lambda c, r, trainer: (
        1 - torch.sigmoid(trainer.beta * c) + torch.sigmoid(trainer.beta * r)
    ),
}
"""IPO and the likelihood term need the answers' lengths and are in `PackedDpoTrainer`."""


class PackedDpoTrainer(trl.DPOTrainer):  # type: ignore[misc]  # the library has no types
    """TRL's trainer over packed batches: its loop, checkpoints and log, our forward pass."""

    def compute_ref_log_probs(self, model: Any, inputs: Batch) -> tuple[Tensor, Tensor]:
        """The reference's sums for chosen and rejected: the base model, adapters off."""
        unwrapped = self.accelerator.unwrap_model(model)
        with torch.no_grad(), unwrapped.disable_adapter(), self.accelerator.autocast():
            return sums(log_probs(unwrapped, inputs), inputs)

    def _compute_loss(self, model: Any, inputs: Batch, return_outputs: bool) -> Tensor:
        per_token = log_probs(model, inputs)
        chosen, rejected = sums(per_token, inputs)
        if "ref_chosen_logps" in inputs:
            reference = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        else:
            reference = self.compute_ref_log_probs(model, inputs)
        chosen, rejected = chosen - reference[0], rejected - reference[1]
        loss = sum(
            (
                weight * self._loss(name, chosen, rejected, per_token, inputs)
                for name, weight in zip(self.loss_types, self.loss_weights, strict=True)
            ),
            per_token.new_zeros(()),
        )
        self._note(self.beta * chosen.detach(), self.beta * rejected.detach(), inputs)
        return loss

    def _loss(
        self, name: str, chosen: Tensor, rejected: Tensor, per_token: Tensor, inputs: Batch
    ) -> Tensor:
        if name == "sft":
            return -per_token[inputs["owner"] < len(chosen)].mean()
        if name == "ipo":
            sizes = sums(torch.ones_like(per_token), inputs)
            delta = chosen / sizes[0] - rejected / sizes[1]
            apart: Tensor = delta - 1 / (2 * self.beta)
            return apart.square().mean()
        return LOSSES[name](chosen, rejected, self).mean()

    def _note(self, chosen: Tensor, rejected: Tensor, inputs: Batch) -> None:
        """Keep the numbers of this batch under TRL's names until the next log line."""
        noted = self._metrics["train" if self.model.training else "eval"]
        # As many as TRL reads, so that both ways' paces can be compared.
        self._total_train_tokens += int(inputs["tokens"])
        noted["num_tokens"] = [self._total_train_tokens]
        noted["rewards/chosen"].append(chosen.mean().item())
        noted["rewards/rejected"].append(rejected.mean().item())
        noted["rewards/accuracies"].append((chosen > rejected).float().mean().item())
        noted["rewards/margins"].append((chosen - rejected).mean().item())
