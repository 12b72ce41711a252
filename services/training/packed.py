"""DPO with each prompt read once: both answers of a pair stand behind their prompt, without padding.

TRL runs the model over prompt + chosen and over prompt + rejected, each padded to the longest of
the batch. Here a batch is one row: prompt, chosen, rejected, pair after pair. Attention goes pair
by pair and keeps the answers from seeing each other, and both count their positions from the
prompt's end, so every token sees what it would see alone. Adapters are computed in the model's
precision from one copy of the states. The output layer is asked at the answers' tokens only, and
its gradient is found in the forward pass, so nothing as wide as the vocabulary is kept. The numbers
are TRL's up to rounding: `agrees_with_trl` proves it on the first pair of every run, or the run
goes TRL's own way.

Source of the losses: TRL's `DPOConfig.loss_type`, which names the papers. Imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peft
import torch
import torch.nn.functional as F
import transformers
import trl

Tensor = torch.Tensor
Batch = dict[str, Any]

HEAD_ROWS = 64
"""Answer tokens that the output layer is asked about at once: few enough that their scores stay in
a processor's cache and glibc reuses their memory (beyond 32 MiB it returns it each time)."""
LONG = 768
"""Tokens of a pair beyond which its attention is computed anew in the backward pass: what is kept
grows with the square of the length."""
ATTENTION = "packed_pairs"
"""What transformers calls `attend`."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""Largest mean difference from the plain way in the log-probability of a token, nats."""


class PairPacker:
    """Makes one batch of tokenized pairs."""

    def __call__(self, examples: list[Batch]) -> Batch:
        """The batch: its tokens, what sees what, and where the answers' tokens are foretold.

        Returns:
            `input_ids` and `position_ids` (1, tokens), pair after pair; `sees`, for each pair true
            where one of its tokens may look at another, (its tokens, its tokens); `at` and
            `target` (answer tokens), the place whose output foretells the token, and the token;
            `owner` (answer tokens), which answer it is of: chosen ones are 0 to pairs - 1,
            rejected ones follow; `tokens`, how many TRL would have read. With the reference's
            sums, if they were computed before.
        """
        batch: Batch = {"sees": []}
        places: list[Tensor] = []
        at: list[Tensor] = []
        owner: list[Tensor] = []
        start = 0
        for row, one in enumerate(examples):
            prompt, *answers = (len(one[f"{part}_ids"]) for part in _PARTS)
            sees = _triangle(prompt + sum(answers))
            sees[prompt + answers[0] :, prompt : prompt + answers[0]] = False
            batch["sees"].append(sees)
            places.append(torch.arange(prompt))
            begin = prompt
            for side, size in enumerate(answers):
                places.append(torch.arange(prompt, prompt + size))
                foretold = torch.arange(begin - 1, begin + size - 1)
                foretold[:1] = prompt - 1
                at.append(foretold + start)
                owner.append(torch.full((size,), row + side * len(examples)))
                begin += size
            start += begin
        tokens = [token for one in examples for part in _PARTS for token in one[f"{part}_ids"]]
        batch["input_ids"] = torch.tensor([tokens])
        batch["position_ids"] = torch.cat(places)[None]
        batch["at"], batch["owner"] = torch.cat(at), torch.cat(owner)
        batch["target"] = torch.tensor(
            [t for one in examples for part in _PARTS[1:] for t in one[f"{part}_ids"]]
        )
        batch["tokens"] = len(tokens) + sum(len(one["prompt_ids"]) for one in examples)
        for name in ("ref_chosen_logps", "ref_rejected_logps"):
            if name in examples[0]:
                batch[name] = torch.tensor([one[name] for one in examples])
        return batch


_PARTS = ("prompt", "chosen", "rejected")


def _triangle(size: int) -> Tensor:
    return torch.ones(size, size, dtype=torch.bool).tril()


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, _mask: None, *,
    scaling: float, hides: list[Tensor], **more: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention of each pair to itself, as transformers calls it.

    Weights are kept for the backward pass: up to `LONG` tokens a pair they are small beside the
    states, and computing them anew, as torch's own attention does on a CPU, took three times as long.

    Args:
        query: (1, heads, tokens, width); key and value may have fewer heads.
        hides: For each pair what is added to its scores: -inf where a token may not look.

    Returns:
        (1, tokens, heads, width), and no weights.

    Raises:
        ValueError: The model's attention does something else than this.
    """
    if any(more.get(name) is not None for name in ("sliding_window", "softcap", "s_aux")):
        raise ValueError(f"expected plain attention, found {sorted(more)}")
    heads, shared, width = query.shape[1], key.shape[1], query.shape[3]
    sizes = [len(one) for one in hides]
    found = []
    parts = (torch.split(states[0], sizes, dim=1) for states in (query, key, value))
    for hidden, q, k, v in zip(hides, *parts, strict=True):
        if len(hidden) > LONG:
            found.append(
                F.scaled_dot_product_attention(
                    q[None], k[None], v[None], attn_mask=hidden, scale=scaling, enable_gqa=True
                )[0]
            )
            continue
        # The heads that share a key stand below each other: one product for all of them.
        q = q.reshape(shared, -1, width) * scaling
        scores = (q @ k.transpose(1, 2)).view(shared, heads // shared, *hidden.shape)
        weights = (scores + hidden).softmax(dim=-1).flatten(1, 2)
        found.append((weights @ v).view(heads, len(hidden), width))
    return torch.cat(found, dim=1).transpose(0, 1)[None], None


transformers.AttentionInterface.register(ATTENTION, attend)


class _Adapted(torch.autograd.Function):
    """states @ weight.T + scaling * states @ down.T @ up.T, all of it in the states' precision.

    The frozen weight gets no gradient, and of the states one copy serves all that is computed
    from them; PEFT's own way keeps another in float32 for each layer.
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor,
        scaling: float,
    ) -> Tensor:  # fmt: skip
        flat, down, up = states.flatten(0, -2), down.to(states.dtype), up.to(states.dtype)
        low = flat @ down.T
        ctx.save_for_backward(flat, weight, down, up, low)
        ctx.scaling = scaling
        found = F.linear(flat, weight, bias).addmm_(low, up.T, alpha=scaling)
        return found.view(*states.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        flat, weight, down, up, low = ctx.saved_tensors
        slope, scaling = upstream[0].flatten(0, -2), ctx.scaling
        below, of_states = slope @ up, None
        if ctx.needs_input_grad[0]:
            of_states = (slope @ weight).addmm_(below, down, alpha=scaling)
            of_states = of_states.view(*upstream[0].shape[:-1], -1)
        # The adapter's weights are float32.
        of_down = (below.T @ flat).float() * scaling
        of_up = (slope.T @ low).float() * scaling
        return of_states, None, None, of_down, of_up, None


class AdaptedLinear(peft.tuners.lora.Linear):  # type: ignore[misc]  # the library has no types
    """PEFT's adapter of a linear layer, computed by `_Adapted`."""

    def forward(self, states: Tensor, *_: Any, **__: Any) -> Tensor:
        """The layer's output, with its adapter unless adapters are off."""
        if self.disable_adapters:
            plain: Tensor = self.base_layer(states)
            return plain
        (name,) = self.active_adapters
        found: Tensor = _Adapted.apply(  # type: ignore[no-untyped-call]
            states, self.base_layer.weight, self.base_layer.bias,
            self.lora_A[name].weight, self.lora_B[name].weight, self.scaling[name],
        )  # fmt: skip
        return found


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
            scores = (states[rows] @ weight.T).float().log_softmax(dim=1)
            found[rows] = scores.gather(1, target[rows, None])[:, 0]
            if slope is not None:
                shares = scores.exp_().to(weight.dtype)
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
    hides = [
        torch.zeros(sees.shape, dtype=causal.dtype).masked_fill_(~sees, -torch.inf)
        for sees in batch["sees"]
    ]
    states = causal.base_model(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        use_cache=False,
        hides=hides,
    ).last_hidden_state
    head = causal.get_output_embeddings().weight
    chosen = states[0, batch["at"]].to(head.dtype)
    found: Tensor = _LogProbs.apply(chosen, head, batch["target"])  # type: ignore[no-untyped-call]
    return found


def sums(values: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Sums over the tokens of each chosen and each rejected answer, shape (pairs,) both."""
    pairs = len(batch["sees"])
    total = values.new_zeros(2 * pairs).index_add_(0, batch["owner"], values)
    return total[:pairs], total[pairs:]


def agrees_with_trl(model: Any, tokenizer: Any, rows: list[Batch]) -> bool:
    """Whether this model gives the first pair's tokens the same probability packed as alone.

    A model that looks elsewhere (a window, a recurrence, scaled logits) does not, and one that drops
    attention at random cannot be asked: their runs go TRL's own way.
    """
    if getattr(model.config, "attention_dropout", 0.0):
        return False
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
    batch, plain = PairPacker()([example]), model.config._attn_implementation
    alone = []
    with torch.no_grad():
        for ids in (prompt + example["chosen_ids"], prompt + example["rejected_ids"]):
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1].float()
            scores = logits.log_softmax(dim=1).gather(1, torch.tensor(ids)[1:, None])[:, 0]
            alone.append(scores[len(prompt) - 1 :])
        try:
            model.set_attn_implementation(ATTENTION)
            found = log_probs(model, batch)
        except (AttributeError, TypeError, ValueError, RuntimeError):
            return False  # it does not take such a batch at all
        finally:
            model.set_attn_implementation(plain)
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


def prepare(model: Any, adapter: peft.LoraConfig) -> None:
    """Make a model and the adapter that it will get compute what packed batches need."""
    model.set_attn_implementation(ATTENTION)
    if not adapter.lora_dropout:
        adapter._register_custom_module({torch.nn.Linear: AdaptedLinear})


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
