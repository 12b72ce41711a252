"""Models for tests: the real small base, a random one that runs in milliseconds, and adapters."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from services.errors import Unavailable
from services.inference.digests import folder_digest
from services.inference.model_store import pull, resolve
from services.inference.models import BaseModel
from services.settings import DEFAULT_BASE_MODEL
from tests.support import require

ROOT = Path(__file__).parents[1]
TINY = "tiny-llama"
SENTENCES = [
    "The capital of Turkey is Ankara, and its largest city is Istanbul.",
    "Türkiye'nin başkenti Ankara'dır; en büyük şehri İstanbul'dur.",
    "Çalışkan öğrenciler güneşli günlerde şarkı söyler. 🎉 👩‍🚀",
    "user assistant system question answer hello world yes no one two three",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def base_model() -> BaseModel:
    """SmolLM2-135M-Instruct, pulled once into a folder that outlives the tests.

    `PARAM_TEST_MODELS` names that folder; by default the installation's own, if the model is
    there, else one in the user's cache.
    """
    installed = ROOT / "var" / "models"
    default = Path.home() / ".cache" / "param-console" / "models"
    if (installed / DEFAULT_BASE_MODEL / "model.json").is_file():
        default = installed
    models_dir = Path(os.environ.get("PARAM_TEST_MODELS", default))
    try:
        return pull(DEFAULT_BASE_MODEL, models_dir)
    except Unavailable as error:
        require(False, f"the base model ({error.message})")
        raise


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A random Llama of 2 layers with a real byte-level tokenizer: answers nonsense, quickly."""
    folder = tmp_path_factory.mktemp("models") / TINY
    return make_tiny_model(folder)


def make_tiny_model(folder: Path, *, seed: int = 0) -> BaseModel:
    """Write a random Llama and its tokenizer; equal seeds give equal weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        # Ten times the usual spread: random weights then prefer some tokens clearly, so that
        # greedy answers don't hang on the last bit of a sum.
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    parameters = sum(weight.numel() for weight in model.parameters())
    return BaseModel(folder.name, folder, folder_digest(folder), parameters, "Apache-2.0")


def placed(model: Path, models_dir: Path) -> BaseModel:
    """A copy of a model where pulled models lie, so that it has a name that is not a path."""
    folder = models_dir / model.name
    shutil.copytree(model, folder)
    card = folder / "model.json"
    if not card.is_file():
        named = {"name": model.name, "digest": folder_digest(folder)}
        card.write_text(json.dumps(named), encoding="utf-8")
    return resolve(model.name, models_dir)


def _tiny_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(SENTENCES, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_adapter(
    base: Path, folder: Path, *, seed: int = 0, rank: int = 4, strength: float = 0.3, **config: Any
) -> Path:
    """Write a random LoRA adapter in PEFT's format over all projections of a base model.

    Args:
        base: Folder of the base model.
        folder: Where the adapter goes; it gets `adapter_config.json` and weights.
        seed: Equal seeds give equal weights.
        strength: Standard deviation of B's weights; 0.3 changes what the tiny model says
            at once, 0.1 (with rank 4) what the real base says.
        config: Further fields of `peft.LoraConfig`.

    Returns:
        The adapter's folder.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for file in sorted(base.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118 - not a mapping
        for name, (*rows, columns) in sorted(shapes.items()):
            if name.endswith("_proj.weight"):
                key = f"base_model.model.{name.removesuffix('.weight')}"
                a = torch.randn(rank, columns, generator=generator) / columns**0.5
                b = torch.randn(*rows, rank, generator=generator) * strength
                weights |= {f"{key}.lora_A.weight": a, f"{key}.lora_B.weight": b}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    targets = sorted({name.split(".")[-3] for name in weights})
    fields = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.name,
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": targets,
        "bias": "none",
        "inference_mode": True,
    }
    text = json.dumps({**fields, **config}, indent=2)
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    return folder
