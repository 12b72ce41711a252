"""How everything else speaks to an engine, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from services.errors import (
    ConsoleError,
    EngineUnavailable,
    InvalidInput,
    NotFound,
)
from services.inference.digests import check_adapter_name
from services.inference.models import ChatAnswer, EngineModel


class EngineClient:
    """A client of the embedded engine, of vLLM, or of anything that speaks vLLM's interface.

    Args:
        url: Without `/v1`.
        timeout_s: Longest wait for an answer, seconds.
    """

    def __init__(self, url: str, timeout_s: float = 120.0) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        self._http = httpx.Client(
            base_url=self._url, timeout=httpx.Timeout(timeout_s, connect=5.0), trust_env=False
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def health(self) -> None:
        """Return if the engine is ready.

        Raises:
            EngineUnavailable: It does not answer, or says that it is not well.
        """
        self._ask("GET", "/health")

    def models(self) -> list[EngineModel]:
        """The base model and the loaded adapters.

        Raises:
            EngineUnavailable: The engine does not answer.
        """
        try:
            rows = self._ask("GET", "/v1/models").json()["data"]
            return [EngineModel(row["id"], row.get("root"), row.get("parent")) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise self._not_understood("/v1/models") from error

    def load_adapter(self, name: str, path: Path) -> None:
        """Have an adapter answer under its name; one that is loaded already stays.

        The digest in the name is checked here too, since vLLM does not know of it.

        Args:
            path: The adapter's folder, as both this process and the engine see it.

        Raises:
            DigestMismatch: The folder's bytes are not those that the name promises.
            MissingModel: There is no adapter in the folder.
            InvalidInput: The engine refuses the adapter.
            EngineUnavailable: The engine does not answer.
        """
        check_adapter_name(name, path)
        for model in self.models():
            if model.id == name and model.parent is not None and model.root == str(path):
                return
        self._ask("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)})

    def unload_adapter(self, name: str) -> None:
        """Have the engine forget an adapter; what runs with it ends normally.

        Raises:
            NotFound: The engine knows no such adapter.
            EngineUnavailable: The engine does not answer.
        """
        self._ask("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    def chat(self, model: str, messages: Sequence[Mapping[str, str]], **params: Any) -> ChatAnswer:
        """One whole answer.

        Args:
            model: The base model's or an adapter's name.
            messages: Turns with `role` and `content`.
            params: `max_tokens`, `temperature`, `seed`, … as the engine's interface names them.

        Raises:
            NotFound: The engine serves no such model.
            InvalidInput: The engine refuses the request.
            EngineUnavailable: The engine does not answer, or is full.
        """
        asked = {"model": model, "messages": [dict(turn) for turn in messages], **params}
        answer = self._ask("POST", "/v1/chat/completions", {**asked, "stream": False})
        try:
            body = answer.json()
            choice, usage = body["choices"][0], body["usage"]
            return ChatAnswer(
                model=body["model"],
                text=choice["message"]["content"] or "",
                finish_reason=choice["finish_reason"],
                prompt_tokens=int(usage["prompt_tokens"]),
                completion_tokens=int(usage["completion_tokens"]),
            )
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise self._not_understood("/v1/chat/completions") from error

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        try:
            response = self._http.request(method, path, json=body)
        except httpx.TimeoutException as error:
            raise EngineUnavailable(
                f"the engine at {self._url} did not answer {path} in time"
            ) from error
        except httpx.HTTPError as error:
            raise EngineUnavailable(
                f"expected an engine at {self._url} (PARAM_ENGINE_URL), found none: "
                f"{type(error).__name__}; start it with: param serve engine"
            ) from error
        if response.is_success:
            return response
        raise self._refusal(path, response)

    def _refusal(self, path: str, response: httpx.Response) -> ConsoleError:
        try:
            told = response.json()["error"]["message"]
        except (ValueError, KeyError, TypeError):
            told = f"HTTP {response.status_code}"
        message = f"the engine at {self._url} refused {path}: {told}"
        if response.status_code == httpx.codes.NOT_FOUND:
            return NotFound(message)
        if response.is_client_error:
            return InvalidInput(message)
        return EngineUnavailable(message)

    def _not_understood(self, path: str) -> EngineUnavailable:
        return EngineUnavailable(
            f"expected an OpenAI-compatible engine at {self._url}, found something else: its "
            f"answer to {path} could not be read"
        )
