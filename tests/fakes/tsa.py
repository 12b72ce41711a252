"""A time-stamping authority on loopback: RFC 3161 over HTTP, answered by `openssl ts`."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_CONFIG = """
[tsa]
default_tsa = one
[one]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ordering = yes
tsa_name = no
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""
_EXTENSIONS = (
    "basicConstraints=critical,CA:FALSE\n"
    "keyUsage=critical,digitalSignature\n"
    "extendedKeyUsage=critical,timeStamping\n"
)
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Authority:
    """The authority's keys and certificates, and what it answers.

    Args:
        folder: Empty; holds them.

    Attributes:
        root: Certificate that a verifier trusts, PEM.
        mode: `good`, `down` (503), `garbage`, or `other`: a stamp over something else.
        asked: How many questions came.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.root = folder / "root.pem"
        self.mode = "good"
        self.asked = 0
        self.url = ""
        self._make()

    def reply(self, query: bytes) -> bytes:
        """The response in DER to a query in DER."""
        (self._folder / "query.tsq").write_bytes(query)
        out = self._folder / "reply.tsr"
        self._openssl(
            "ts", "-reply", "-queryfile", "query.tsq", "-config", "tsa.cnf", "-out", out.name
        )
        return out.read_bytes()

    def query(self, data: bytes) -> bytes:
        """A query of openssl's own making."""
        (self._folder / "data").write_bytes(data)
        self._openssl("ts", "-query", "-data", "data", "-sha256", "-cert", "-out", "own.tsq")
        return (self._folder / "own.tsq").read_bytes()

    def accepts(self, data: bytes, response: bytes) -> bool:
        """Whether `openssl ts -verify` takes a response for these bytes."""
        (self._folder / "data").write_bytes(data)
        (self._folder / "given.tsr").write_bytes(response)
        words = ("ts", "-verify", "-data", "data", "-in", "given.tsr", "-CAfile", "root.pem")
        ran = subprocess.run(
            ["openssl", *words], cwd=self._folder, capture_output=True, check=False
        )
        return ran.returncode == 0

    def _make(self) -> None:
        self._openssl(
            "req", "-x509", *_NEW_KEY, "-keyout", "root.key", "-out", "root.pem",
            "-days", "7300", "-subj", "/CN=Test TSA root",
        )  # fmt: skip
        self._openssl(
            "req", *_NEW_KEY, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=Test TSA"
        )
        (self._folder / "extensions").write_text(_EXTENSIONS)
        self._openssl(
            "x509", "-req", "-in", "tsa.csr", "-CA", "root.pem", "-CAkey", "root.key",
            "-CAcreateserial", "-days", "7300", "-extfile", "extensions", "-out", "tsa.pem",
        )  # fmt: skip
        (self._folder / "serial").write_text("01\n")
        (self._folder / "tsa.cnf").write_text(_CONFIG.format(folder=self._folder))

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self._folder, check=True, capture_output=True)


@contextmanager
def running(folder: Path) -> Iterator[Authority]:
    """An authority that listens on loopback until the end of the block."""
    authority = Authority(folder)
    turns = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["content-length"]))
            with turns:
                authority.asked += 1
                status, answer = _answer(authority, query)
            self.send_response(status)
            self.send_header("content-type", "application/timestamp-reply")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_words: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    authority.url = f"http://127.0.0.1:{server.server_address[1]}/tsr"
    try:
        yield authority
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(authority: Authority, query: bytes) -> tuple[int, bytes]:
    if authority.mode == "down":
        return 503, b""
    if authority.mode == "garbage":
        return 200, b"no DER at all"
    if authority.mode == "other":
        return 200, authority.reply(authority.query(b"something else"))
    return 200, authority.reply(query)
