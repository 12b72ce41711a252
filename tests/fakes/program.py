"""A stand-in for one process of the installation: small, quick, and as unruly as it is told to be.

    program.py PORT [--deaf] [--slow-start S] [--child FILE] [--say TEXT] [--exit-at-start N]

Answers 200 on every path. SIGUSR1 ends it with status 3. `--deaf` ignores SIGTERM. `--child`
starts a grandchild that outlives it, and writes the grandchild's process id to FILE.
"""

from __future__ import annotations

import argparse
import os
import signal
import socketserver
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--deaf", action="store_true")
    parser.add_argument("--slow-start", type=float, default=0.0)
    parser.add_argument("--child", type=Path)
    parser.add_argument("--say", default="")
    parser.add_argument("--exit-at-start", type=int)
    told = parser.parse_args()
    if told.say:
        print(told.say, flush=True)
    if told.exit_at_start is not None:
        return int(told.exit_at_start)
    if told.child:
        sleep = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
        told.child.write_text(str(subprocess.Popen(sleep).pid))
    signal.signal(signal.SIGTERM, signal.SIG_IGN if told.deaf else lambda *_: os._exit(0))
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(3))
    time.sleep(told.slow_start)
    with _Server(("127.0.0.1", told.port), _Answer) as server:
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
