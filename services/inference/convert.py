"""GGUF to safetensors, in a process of its own: `python -m services.inference.convert GGUF OUT`.

The model store must not import torch (pages reach it), and what conversion allocates goes back
to the system when this process ends.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def convert(gguf: Path, out: Path) -> None:
    """Dequantise a GGUF file into a folder that transformers, PEFT and vLLM load.

    Args:
        gguf: The quantised weights with their tokenizer.
        out: Folder to write into: bfloat16 safetensors, config, tokenizer, chat template.
    """
    where = {"gguf_file": gguf.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **where)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.bfloat16, **where)
    # The weights are plain tensors now: without this, saving would record a quantisation that
    # no longer holds and refuse.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
