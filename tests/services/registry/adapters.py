"""Small adapters on disk, for tests that never load one."""

from __future__ import annotations

import json
import struct
from pathlib import Path

CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "lora_dropout": 0.05, "bias": "none"}
BASE_DIGEST = "b" * 64
DATASET_SHA256 = "d" * 64


def write_adapter(folder: Path, *, seed: int = 0, config: dict | None = None) -> Path:
    """A folder with the two files of an adapter; the weights are valid safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config or CONFIG, indent=2))
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    body = struct.pack("<Q", len(header)) + header + struct.pack("<f", float(seed))
    (folder / "adapter_model.safetensors").write_bytes(body)
    return folder
