"""Many streams at once through the gateway, all policies on: `python -m bench.streams`.

    python -m bench.streams [--streams 128] [--rate 50] [--seconds 8] [--direct]

An upstream of our own gives each stream a word so often a second, with usage in every chunk, as
vLLM does; raw connections read what the gateway makes of it. What counts is that no stream stalls: the longest
time in which nothing came for one of them, and how long after the engine's last word the stream
ended. `--direct` reads the upstream without a gateway, which shows what load and upstream cost.
All share this machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.gateway import (
    ALL_POLICIES,
    MODELS,
    SYSTEM,
    cpu_s,
    follow,
    free_port,
    gateway,
    install,
    wait_for,
)

TALE = (
    "Ankara is the capital of Turkey and its second largest city; the old town stands on a hill "
    "above the plain, İstanbul daha kalabalık ama başkent burasıdır. "
)
BODY = json.dumps(
    {"model": "default", "stream": True, "messages": [{"role": "user", "content": "Tell me."}]}
).encode()


def main() -> None:
    """Run the streams and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=128)
    parser.add_argument("--rate", type=int, default=50, help="tokens a second of each stream")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--direct", action="store_true", help="read the upstream itself")
    asked = parser.parse_args()
    upstream_port, port = free_port(), free_port()
    upstream = f"http://127.0.0.1:{upstream_port}"
    with tempfile.TemporaryDirectory(prefix="param-bench-") as name, ExitStack() as stack:
        process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(upstream_port, asked.rate, asked.seconds), daemon=True
        )
        process.start()
        stack.callback(process.kill)
        wait_for(f"{upstream}/v1/models")
        if asked.direct:
            report(asyncio.run(read_all(upstream_port, "none", asked.streams)), asked, 0.0)
            return
        services, key = install(Path(name), upstream, port)
        running = stack.enter_context(gateway(services, port))
        follow(services, f"http://127.0.0.1:{port}", key, ALL_POLICIES)
        before = cpu_s(running.pid)
        streams = asyncio.run(read_all(port, key, asked.streams))
        report(streams, asked, cpu_s(running.pid) - before)
        print(
            f"resident memory of the gateway: {psutil.Process(running.pid).memory_info().rss >> 20} MiB"
        )
        deadline = time.monotonic() + 30
        while len(services.metering.usage_rows(SYSTEM, "bench", asked.streams)) < asked.streams:
            assert time.monotonic() < deadline, "some streams were not recorded within 30 s"
            time.sleep(0.05)  # the last commits follow their answers
        verified = services.audit.verify()
        print(f"log: {verified.size:,} entries, verified")


@dataclass
class Stream:
    """What one client saw.

    Attributes:
        came: Times at which bytes came, seconds.
        text: All of them.
    """

    came: list[float] = field(default_factory=list)
    text: bytes = b""

    @property
    def is_whole(self) -> bool:
        """Whether it came to its end, with its receipt where a gateway gave one."""
        return b"data: [DONE]" in self.text

    @property
    def longest_gap_s(self) -> float:
        """The longest time between two arrivals of text."""
        later = self.came[2:]
        return max(after - before for before, after in zip(later, later[1:], strict=False))

    @property
    def first_s(self) -> float:
        """From the request to the first text; its headers come before that."""
        return self.came[2] - self.came[0]


async def read_all(port: int, key: str, streams: int) -> list[Stream]:
    """Open all streams and read them to their ends."""
    return await asyncio.gather(*(read_one(port, key) for _ in range(streams)))


async def read_one(port: int, key: str) -> Stream:
    """One client."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(BODY)}\r\n\r\n"
    )
    writer.write(head.encode() + BODY)
    found, pieces = Stream([time.perf_counter()]), []
    while piece := await reader.read(65_536):
        found.came.append(time.perf_counter())
        pieces.append(piece)
    writer.close()
    found.text = b"".join(pieces)
    return found


def report(streams: list[Stream], asked: argparse.Namespace, cpu: float) -> None:
    """Print how the streams went."""
    took = [stream.came[-1] - stream.came[0] for stream in streams]
    gaps = sorted(stream.longest_gap_s for stream in streams)
    tokens = asked.streams * asked.rate * asked.seconds
    whole = sum(stream.is_whole for stream in streams)
    print(
        f"{asked.streams} streams, {asked.rate} tokens/s each, {asked.seconds} s: {tokens:,} tokens"
    )
    print(f"came to their end: {whole} of {len(streams)}")
    print(f"took: median {statistics.median(took):.2f} s, longest {max(took):.2f} s")
    first = [stream.first_s for stream in streams]
    print(f"first text: median {statistics.median(first):.2f} s, latest {max(first):.2f} s")
    print("(until then the policy holds back what may still become the longest finding it stops)")
    print(
        f"longest time without a byte: median of the streams {statistics.median(gaps) * 1e3:.0f} ms, "
        f"worst {gaps[-1] * 1e3:.0f} ms"
    )
    if cpu:
        print(f"gateway: {cpu / max(took):.2f} cores, {cpu / tokens * 1e6:.0f} us a token")


def serve(port: int, rate: int, seconds: int) -> None:
    """The upstream: one word for every stream, so often a second."""
    asyncio.run(_serve(port, rate, seconds))


async def _serve(port: int, rate: int, seconds: int) -> None:
    teller = Teller([_frame(number) for number in range(rate * seconds)])
    async with await asyncio.start_server(teller.talk, "127.0.0.1", port):
        began, ticks = time.perf_counter(), 0
        while True:
            ticks += 1
            await asyncio.sleep(max(0.0, began + ticks / rate - time.perf_counter()))
            teller.tick()


class Teller:
    """Streams that all say the same.

    Args:
        frames: What each of them says, one at each tick.
    """

    def __init__(self, frames: list[bytes]) -> None:
        self._frames = frames
        self._open: dict[asyncio.StreamWriter, int] = {}
        self._last: set[asyncio.StreamWriter] = set()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until its client leaves."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head.lower(), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self._open.pop(writer, None)
            writer.close()

    async def _answer(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if head.startswith(b"get"):
            models = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            writer.write(b"HTTP/1.1 200 OK\r\n" + models % (len(MODELS), MODELS.encode()))
            return
        await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        self._open[writer] = 0
        if b"connection: close" in head:
            self._last.add(writer)

    def tick(self) -> None:
        """The next word of every stream."""
        for writer, number in list(self._open.items()):
            if number < len(self._frames):
                writer.write(self._frames[number])
                self._open[writer] = number + 1
                continue
            writer.write(_chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n")
            del self._open[writer]
            if writer in self._last:
                self._last.discard(writer)
                writer.close()


def _frame(number: int) -> bytes:
    words = TALE.split()
    delta = {"content": words[number % len(words)] + " "}
    usage = {"prompt_tokens": 12, "completion_tokens": number + 1, "total_tokens": number + 13}
    choice = {"index": 0, "delta": delta, "finish_reason": None, "logprobs": None}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "base",
             "choices": [choice], "usage": usage}  # fmt: skip
    return _chunked(b"data: " + json.dumps(chunk).encode() + b"\n\n")


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


if __name__ == "__main__":
    main()
