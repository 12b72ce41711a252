"""How fast an engine is: `python -m bench.engine [--engine embedded|vllm|URL]` prints a table.

Starts the engine over the base model of the settings (or speaks to a running one), makes two
random LoRA adapters of rank 16 in a temporary folder, and measures with greedy answers of fixed
length: tokens per second of one stream and of four streams over two adapters, the time to the
first token, the time to load an adapter (and the longest pause that a running stream notices
meanwhile), and how long a generation goes on after its client has left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from services import settings as configuration
from services.inference.model_store import pull
from services.inference.models import BaseModel
from tests.models import make_adapter
from tests.services.inference import engines

TOKENS = 64
PROMPT = "Tell me about the history of Istanbul, in a few sentences. "
REPEATS = 3


class Bench:
    """Asks one engine and keeps what it measured.

    Args:
        url: Without `/v1`.
    """

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=600, trust_env=False)

    def stream(self, model: str | None, tokens: int = TOKENS, prompt: str = PROMPT) -> list[float]:
        """Times at which the chunks of one answer came, seconds; the first is the asking."""
        times = [time.perf_counter()]
        asked = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            **({"model": model} if model else {}),
        }
        with self.http.stream("POST", "/v1/chat/completions", json=asked) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                if line.startswith("data: {") and '"role"' not in line:
                    times.append(time.perf_counter())
        return times

    def rate(self, models: list[str | None]) -> float:
        """Tokens per second of answers to all models at once, together; median of the repeats."""
        rates = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            with ThreadPoolExecutor(len(models)) as threads:
                list(threads.map(self.stream, models))
            rates.append(len(models) * TOKENS / (time.perf_counter() - began))
        return statistics.median(rates)

    def first_token_ms(self, prompt: str) -> float:
        """Time to the first token, milliseconds; median of the repeats."""
        salted = (f"{number} {prompt}" for number in range(REPEATS))  # no cached beginnings
        times = [self.stream(None, 2, text) for text in salted]
        return statistics.median(one[1] - one[0] for one in times) * 1000

    def load(self, name: str, path: Path) -> float:
        """Load an adapter; milliseconds."""
        began = time.perf_counter()
        body = {"lora_name": name, "lora_path": str(path)}
        self.http.post("/v1/load_lora_adapter", json=body).raise_for_status()
        return (time.perf_counter() - began) * 1000

    def unload(self, name: str) -> None:
        """Unload an adapter."""
        self.http.post("/v1/unload_lora_adapter", json={"lora_name": name}).raise_for_status()

    def load_under_way(self, path: Path) -> tuple[float, float, float]:
        """Load an adapter while an answer streams.

        Returns:
            Milliseconds of the load, the usual and the longest time between two tokens.
        """
        times: list[float] = []
        listener = threading.Thread(target=lambda: times.extend(self.stream(None)))
        listener.start()
        time.sleep(1.0)
        took = self.load("under-way", path)
        listener.join()
        self.unload("under-way")
        gaps = [(b - a) * 1000 for a, b in zip(times[1:], times[2:], strict=False)]
        return took, statistics.median(gaps), max(gaps)

    def abort_ms(self) -> float:
        """How long a generation goes on after its client has left, milliseconds."""
        asked = {"prompt": PROMPT, "max_tokens": 400, "ignore_eos": True, "stream": True}
        with self.http.stream("POST", "/v1/completions", json=asked) as answer:
            next(line for line in answer.iter_lines() if line)
        began = time.perf_counter()
        while self._running():
            time.sleep(0.002)
        return (time.perf_counter() - began) * 1000

    def _running(self) -> bool:
        text = self.http.get("/metrics").text
        found = re.search(r"^vllm:num_requests_running\{.*\} (\S+)$", text, re.M)
        return found is not None and float(found[1]) > 0


def measure(bench: Bench, adapters: list[Path]) -> dict[str, str]:
    """All measurements, by name."""
    bench.stream(None, 8)  # the first answer warms caches up
    one, two = adapters
    loads = [bench.load("one", one), bench.load("two", two)]
    taken, usual, longest = bench.load_under_way(one)
    rows = {
        "one stream, base (tokens/s)": f"{bench.rate([None]):.1f}",
        "one stream, adapter (tokens/s)": f"{bench.rate(['one']):.1f}",
        "four streams, base (tokens/s)": f"{bench.rate([None] * 4):.1f}",
        "four streams, 2 adapters (tokens/s)": f"{bench.rate(['one', 'two'] * 2):.1f}",
        "first token, short prompt (ms)": f"{bench.first_token_ms(PROMPT):.0f}",
        "first token, 400-token prompt (ms)": f"{bench.first_token_ms(PROMPT * 30):.0f}",
        "load an adapter, idle (ms)": " / ".join(f"{ms:.0f}" for ms in loads),
        "load an adapter, busy (ms)": f"{taken:.0f}",
        "pause of a stream meanwhile, usual / longest (ms)": f"{usual:.0f} / {longest:.0f}",
        "abort of a client that left (ms)": " / ".join(f"{bench.abort_ms():.0f}" for _ in range(3)),
    }
    for name in ("one", "two"):
        bench.unload(name)
    return rows


@contextlib.contextmanager
def running(engine: str, base: BaseModel, folder: Path) -> Iterator[str]:
    """The engine's URL; started and stopped here unless it is a URL already."""
    if engine.startswith("http"):
        yield engine
        return
    start = {"embedded": engines.embedded, "vllm": engines.vllm}[engine]
    with start(base, folder, strength=0.02) as found:
        yield found.url


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--engine", default="embedded", help="embedded, vllm, or a URL")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    settings = configuration.load()
    base = pull(settings.base_model, settings.models_dir)
    with tempfile.TemporaryDirectory(prefix="param-bench-") as name:
        folder = Path(name)
        adapters = [
            make_adapter(base.path, folder / f"a{seed}", seed=seed, rank=16, strength=0.02)
            for seed in (1, 2)
        ]
        with running(asked.engine, base, folder) as url:
            rows = measure(Bench(url), adapters)
    if asked.json:
        json.dump({"engine": asked.engine, "base": base.name, **rows}, sys.stdout, indent=2)
        return
    table = Table("measurement", "value", title=f"{asked.engine}, {base.name}")
    for row in rows.items():
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
