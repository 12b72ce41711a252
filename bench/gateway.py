"""Requests a second and latency of the gateway: key, limits, split, policy, usage, log, receipt.

    python -m bench.gateway [--seconds 4] [--peer .venv-litellm/bin/litellm] [--memory 100000]

Each row is measured with no policy and with all ten checks on, at last at half the load that was
reached: each connection pauses before it asks again, so that requests come at random times. With `--peer`, the same load goes to
LiteLLM's proxy, one worker, no database and no policy (`make bench-gateway` installs it).

An answer that never changes stands upstream (nginx where it is installed, otherwise a small
Python server, which is then the bound), wrk asks on loopback, otherwise a Python client.
Load, gateway and upstream share this machine's cores; the first rows show what the load
generator reaches without a gateway. Takes about a minute; `--memory` asks so often again, and prints
how the gateway's memory went.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import httpx
import psutil
from aiohttp import web

from services import bootstrap
from services import settings as configuration
from services.bootstrap import Services
from services.tenants.models import Actor, Limits

CONNECTIONS = (1, 16, 64)
SYSTEM = Actor.system("bench")
PLENTY = Limits(tps=10**6, rpm=10**7, daily_tokens=10**12)
BODY = json.dumps(
    {"model": "default", "messages": [{"role": "user", "content": "What is the capital?"}]}
)
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "base",
        "choices": [{
            "index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": "The capital of Turkey is Ankara. " * 8},
        }],
        "usage": {"prompt_tokens": 12, "completion_tokens": 56, "total_tokens": 68},
    }
)  # fmt: skip
MODELS = json.dumps(
    {"object": "list", "data": [{"id": "base", "parent": None, "max_model_len": 8192}]}
)
NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 10000000; default_type application/json;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location = /v1/models {{ return 200 '{models}'; }}
    location / {{ return 200 '{answer}'; }}
  }}
}}
"""
NO_POLICY = "version: 1\nchecks: {}\n"
ALL_POLICIES = """
version: 1
checks:
  pii: {places: [input, tools, output], action: mask}
  secrets: {places: [input, tools, output], action: mask}
  jailbreak: {places: [input], action: block}
  injection: {places: [tools], action: block}
  toxicity: {places: [input, output], action: block}
  copyright: {places: [output], action: block, works: {a work: "It was the best of times,
    it was the worst of times, it was the age of wisdom, it was the age of foolishness, it was the
    epoch of belief, it was the epoch of incredulity"}}
  disclaimers: {places: [output], action: append}
  topics: {places: [input], action: block, deny: {elections: [election poll, seçim anketi]}}
  length: {places: [input], action: block, max_characters: 100000}
  language: {places: [input, output], action: flag, allow: [tr, en]}
"""
LITELLM = """
model_list:
  - model_name: default
    litellm_params: {{model: openai/base, api_base: "{upstream}/v1", api_key: none}}
litellm_settings: {{telemetry: false, drop_params: true}}
general_settings: {{master_key: sk-bench}}
"""
WRK = """
wrk.method = "POST"
wrk.headers["authorization"] = "Bearer {key}"
wrk.headers["content-type"] = "application/json"
wrk.body = [[{body}]]
{pause}
done = function(summary, latency, requests)
  io.write(string.format("RESULT %d %d %f %f %f\\n", summary.requests,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""
PAUSE = """
math.randomseed(1)
function delay() return {ms} * (0.5 + math.random()) end
"""


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        p50_ms: Median time of a request, milliseconds; likewise `p99_ms`.
        cpu_ms: Processor time of the gateway a request, milliseconds: the steadier number on a
            machine that has other work.
    """

    what: str
    connections: int
    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_ms: float = 0.0


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="of each row")
    parser.add_argument("--peer", type=Path, help="LiteLLM's command, to measure beside ours")
    parser.add_argument("--memory", type=int, default=0, help="requests after which to look")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="param-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        upstream = stack.enter_context(canned(folder))
        port = free_port()
        services, key = install(folder, upstream, port)
        process = stack.enter_context(gateway(services, port))
        ours = f"http://127.0.0.1:{port}"
        rows = [
            measure("upstream alone", upstream, key, connections, asked.seconds, folder)
            for connections in CONNECTIONS
        ]
        if asked.peer is not None:
            with litellm(asked.peer, upstream, folder) as (theirs, pid):
                rows += loaded("LiteLLM", theirs, "sk-bench", asked.seconds, folder, pid)
        for what, policy in (("no policy", NO_POLICY), ("all policies", ALL_POLICIES)):
            follow(services, ours, key, policy)
            rows += loaded(f"gateway, {what}", ours, key, asked.seconds, folder, process.pid)
        rows += at_half_load(rows[-1], upstream, ours, key, asked.seconds, folder, process.pid)
        show(rows)
        compare(rows)
        print(f"\nresident memory of the gateway: {resident(process.pid)}")
        for done in grow(ours, key, asked.memory, folder):
            print(f"after {done:,} more requests: {resident(process.pid)}")
        prove(services)


def at_half_load(
    full: Row, upstream: str, ours: str, key: str, seconds: float, folder: Path, pid: int
) -> list[Row]:
    """Upstream and gateway at half of what the gateway reached, on as many connections."""
    pause = (2 * full.connections / full.per_second) * 1e3
    rows = []
    for what, url in (("upstream, half load", upstream), ("gateway, half load", ours)):
        before = cpu_s(pid)
        row = measure(what, url, key, full.connections, seconds, folder, pause_ms=pause)
        spent = (cpu_s(pid) - before) / max(row.per_second * seconds, 1)
        rows.append(replace(row, cpu_ms=spent * 1e3 if url == ours else 0.0))
    return rows


def grow(url: str, key: str, requests: int, folder: Path) -> Iterator[int]:
    """Ask so often; yields how often it was, five times."""
    done = reported = 0
    while done < requests:
        row = measure("memory", url, key, CONNECTIONS[-1], 5, folder)
        done += int(row.per_second * 5)
        if done - reported >= requests // 5:
            reported = done
            yield done


def resident(pid: int) -> str:
    """Memory of the gateway's process and of the one that records, MiB."""
    gateway = psutil.Process(pid)
    sizes = [one.memory_info().rss >> 20 for one in (gateway, *gateway.children())]
    return " + ".join(f"{size} MiB" for size in sizes)


def loaded(what: str, url: str, key: str, seconds: float, folder: Path, pid: int) -> list[Row]:
    """One row for each number of connections, with the processor time of the server."""
    rows = []
    for connections in CONNECTIONS:
        before = cpu_s(pid)
        row = measure(what, url, key, connections, seconds, folder)
        spent = (cpu_s(pid) - before) / max(row.per_second * seconds, 1)
        rows.append(replace(row, cpu_ms=spent * 1e3))
    return rows


def follow(services: Services, url: str, key: str, policy: str) -> None:
    """Give the tenant a policy and wait until the gateway follows it."""
    saved = services.guardrails.save(SYSTEM, "bench", policy)
    while True:
        answer = httpx.get(f"{url}/v1/whoami", headers={"authorization": f"Bearer {key}"})
        if answer.json()["policy"]["version"] == saved.version:
            return
        time.sleep(0.1)


@contextmanager
def litellm(command: Path, upstream: str, folder: Path) -> Iterator[tuple[str, int]]:
    """LiteLLM's proxy before the same upstream: its address and the process that answers."""
    port = free_port()
    (folder / "litellm.yaml").write_text(LITELLM.format(upstream=upstream))
    arguments = [
        "--config",
        str(folder / "litellm.yaml"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*"}
    with (folder / "litellm.log").open("wb") as log:
        process = subprocess.Popen(
            [str(command.absolute()), *arguments, "--num_workers", "1"], stdout=log, stderr=log,
            env=os.environ | quiet, cwd=folder,  # noqa: TID251  # the peer's, and our PATH
        )  # fmt: skip
        try:
            wait_for(f"http://127.0.0.1:{port}/health/liveliness")
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            process.terminate()
            process.wait(20)


def compare(rows: list[Row]) -> None:
    """Print how many times the peer's requests a second ours are."""
    theirs = {row.connections: row.per_second for row in rows if row.what == "LiteLLM"}
    ours = {row.connections: row.per_second for row in rows if row.what == "gateway, all policies"}
    for connections, number in theirs.items():
        print(f"all policies on, c={connections}: {ours[connections] / number:.1f} times LiteLLM")


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def install(folder: Path, upstream: str, port: int) -> tuple[Services, str]:
    """An installation with one tenant; its key."""
    variables = {
        "PARAM_HOME": str(folder / "home"),
        "PARAM_ENGINE_URL": upstream,
        "PARAM_GATEWAY_PORT": str(port),
        "PARAM_LOG_LEVEL": "WARNING",
    }
    os.environ.update(variables)  # noqa: TID251  # for the gateway's process
    services = bootstrap.build(configuration.load(variables, directory=folder))
    services.db.migrate()
    services.tenants.create(SYSTEM, "Bench", limits=PLENTY)
    return services, services.tenants.create_key(SYSTEM, "bench", "bench").key


@contextmanager
def canned(folder: Path) -> Iterator[str]:
    """An upstream that gives one answer to everything."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    if (nginx := shutil.which("nginx") or shutil.which("/usr/sbin/nginx")) is not None:
        text = NGINX.format(folder=folder, port=port, models=MODELS, answer=ANSWER)
        (folder / "nginx.conf").write_text(text)
        command = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    else:
        command = [sys.executable, __file__, "--canned", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(f"{url}/v1/models")
            yield url
        finally:
            process.terminate()


def serve_canned(port: int) -> None:
    """The upstream where there is no nginx."""

    async def answer(request: web.Request) -> web.Response:
        text = MODELS if request.path == "/v1/models" else ANSWER
        return web.Response(text=text, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


@contextmanager
def gateway(services: Services, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The gateway in its process, as it is started in earnest."""
    with subprocess.Popen([sys.executable, "-m", "services.gateway"]) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/readyz")
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(40)
            services.db.close()


def wait_for(url: str) -> None:
    """Wait until an address answers 200."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit(f"{url}: expected an answer within 60 s, found none")


def measure(
    what: str, url: str, key: str, connections: int, seconds: float, folder: Path,
    *, pause_ms: float = 0.0,
) -> Row:  # fmt: skip
    """Ask on so many connections for so long, with a pause of about so long between two requests."""
    path = f"{url}/v1/chat/completions"
    if (wrk := shutil.which("wrk")) is None:
        return asyncio.run(ask(what, path, key, connections, seconds))
    script = folder / "chat.lua"
    pause = PAUSE.format(ms=pause_ms) if pause_ms else ""
    script.write_text(WRK.format(key=key, body=BODY, pause=pause))
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-s", str(script), path]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) ([\d.]+) ([\d.]+) ([\d.]+)", said)
    assert found is not None, said
    count, errors, took, p50, p99 = (float(number) for number in found.groups())
    return Row(what, connections, count / took, p50, p99, int(errors))


async def ask(what: str, path: str, key: str, connections: int, seconds: float) -> Row:
    """The same where there is no wrk; the client is then most of what is measured."""
    times: list[float] = []
    errors = 0
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    end = time.perf_counter() + seconds

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal errors
        while (began := time.perf_counter()) < end:
            async with session.post(path, data=BODY.encode(), headers=headers) as response:
                await response.read()
                errors += response.status != 200
            times.append((time.perf_counter() - began) * 1e3)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(session) for _ in range(connections)))
    cuts = statistics.quantiles(times, n=100)
    return Row(what, connections, len(times) / seconds, cuts[49], cuts[98], errors)


def show(rows: list[Row]) -> None:
    """Print the table."""
    print(
        f"{'':21} {'c':>3} {'requests/s':>11} {'p50 ms':>8} {'p99 ms':>8} {'CPU ms':>7} {'errors':>7}"
    )
    for row in rows:
        print(
            f"{row.what:21} {row.connections:3} {row.per_second:11,.0f} "
            f"{row.p50_ms:8.2f} {row.p99_ms:8.2f} {row.cpu_ms:7.2f} {row.errors:7}"
        )


def cpu_s(pid: int) -> float:
    """Processor time that a process has used, seconds."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def prove(services: Services) -> None:
    """Print that what was measured was also recorded."""
    verified = services.audit.verify()
    usage = services.metering.usage_rows(SYSTEM, "bench", limit=1)
    print(f"log: {verified.size:,} entries, verified; last request {usage[0].status}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--canned"]:
        serve_canned(int(sys.argv[2]))
    else:
        main()
