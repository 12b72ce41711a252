"""What the inference room speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BaseModel:
    """A base model on disk.

    Attributes:
        name: What requests and adapters call it.
        path: Its folder: config, tokenizer and safetensors weights.
        digest: sha256 (hex) over the sorted (relative path, sha256) list of those files.
        parameters: Number of stored weights.
        license: SPDX name, or `unknown`.
    """

    name: str
    path: Path
    digest: str
    parameters: int
    license: str


@dataclass(frozen=True)
class EngineModel:
    """One row of an engine's `/v1/models`.

    Attributes:
        root: Folder of the base model, or of the adapter.
        parent: The base model's name for an adapter, None for a base model.
    """

    id: str
    root: str | None
    parent: str | None


@dataclass(frozen=True)
class ChatAnswer:
    """One whole answer of an engine.

    Attributes:
        finish_reason: `stop` or `length`.
        prompt_tokens: As the engine counted them; likewise the completion's.
    """

    model: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
