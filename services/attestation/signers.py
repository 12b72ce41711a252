"""What holds a secret key: this process, or a key management service that never gives it away."""

from __future__ import annotations

import base64
import threading
import time
from typing import Any, Protocol

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from services.attestation.jwks import refuse_weak, thumbprint
from services.attestation.strict import from_base64, read_json
from services.errors import ConsoleError, Unavailable, VerificationFailed

TIMEOUT_S = 5.0
LOOK_AGAIN_S = 60.0
"""How long a public key of a key management service is taken for the present one."""


class Signer(Protocol):
    """Signs with one key: what a file, a hardware module or a service has in common."""

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature, 64 bytes (RFC 8032)."""
        ...


class LocalSigner:
    """A key in this process's memory.

    Args:
        seed: 32 secret bytes.
    """

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self.public = bytes(self._key.verify_key)

    def sign(self, message: bytes) -> bytes:
        """See `Signer`."""
        return self._key.sign(message).signature


class KeyService:
    """Keys that a service behind HTTP holds and uses; only public keys and signatures come here.

    `GET {url}/keys/{name}` answers `{"x": base64url of the public key}`;
    `POST {url}/keys/{name}/sign` with `{"message": base64}` answers `{"signature": base64}`.
    A thin adapter in front of AWS KMS, Google Cloud KMS or Vault's transit engine speaks this.

    Args:
        url: Where the service is, without a slash at the end.
        token: Sent as a bearer token; empty for none.
    """

    def __init__(self, url: str, token: str = "") -> None:
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._known: dict[str, tuple[float, RemoteSigner]] = {}
        self._turns = threading.Lock()

    def signer(self, name: str) -> RemoteSigner:
        """The key that goes by this name now.

        Raises:
            Unavailable: The service does not answer, or not with a key.
        """
        with self._turns:
            asked_at, signer = self._known.get(name, (0.0, None))
            if signer is None or time.monotonic() - asked_at > LOOK_AGAIN_S:
                answer = self.ask("GET", f"keys/{name}", None)
                signer = RemoteSigner(self, name, self._public(name, answer))
                self._known[name] = (time.monotonic(), signer)
            return signer

    def forget(self, name: str) -> None:
        """Ask for the public key again at the next use."""
        with self._turns:
            self._known.pop(name, None)

    def ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        """One question to the service.

        Raises:
            Unavailable: There is no answer, or none that can be used.
        """
        import httpx

        try:
            answer = httpx.request(
                method, f"{self._url}/{path}", json=body, headers=self._headers, timeout=TIMEOUT_S
            ).raise_for_status()
            found = read_json(answer.content, "key service")
        except (httpx.HTTPError, ConsoleError) as error:
            raise Unavailable(
                f"key service: expected an answer to {method} {path}, found {type(error).__name__}"
            ) from error
        if not isinstance(found, dict):
            raise Unavailable(f"key service: expected an object from {path}, found another")
        return found

    def _public(self, name: str, answer: dict[str, Any]) -> bytes:
        try:
            public = from_base64(answer.get("x"), "key service: x", url_safe=True)
            refuse_weak(public, thumbprint(public))
        except (VerificationFailed, IndexError) as error:
            raise Unavailable(f"key service: expected the key {name!r}, found none") from error
        return public


class RemoteSigner:
    """One key of a key service, as long as its public key stays the same."""

    def __init__(self, service: KeyService, name: str, public: bytes) -> None:
        self._service = service
        self._name = name
        self.public = public

    def sign(self, message: bytes) -> bytes:
        """See `Signer`.

        Raises:
            Unavailable: The service does not answer, or its signature does not fit the public
                key: then the key was exchanged there, and the next use asks for the new one.
        """
        body = {"message": base64.b64encode(message).decode()}
        answer = self._service.ask("POST", f"keys/{self._name}/sign", body)
        try:
            signature = from_base64(answer.get("signature"), "key service: signature")
            VerifyKey(self.public).verify(message, signature)
        except (VerificationFailed, BadSignatureError, ValueError) as error:
            self._service.forget(self._name)
            raise Unavailable(
                f"key service: expected a signature that fits the key {self._name!r}, "
                "found one that does not"
            ) from error
        return signature
