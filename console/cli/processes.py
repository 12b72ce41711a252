"""`param up`, `param serve`, `param setup`, `param demo`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.output import (
    AsJson,
    print_json,
    print_json_line,
    say,
    show_table,
)

if TYPE_CHECKING:
    from console.demo import Stage
    from console.processes.supervision import Report
    from services.settings import Settings
    from services.tenants.demo import Credential

MARKS = {
    "note": "i",
    "starting": "…", "ready": "✓", "ended": "✗", "restarting": "↻",
    "silent": "?", "leftover": "!", "stopped": "-", "killed": "✗",
}  # fmt: skip


def up(
    engine: Annotated[
        str | None, typer.Option(help="embedded, vllm, or the URL of a running engine.")
    ] = None,
    pull: Annotated[bool, typer.Option("--pull", help="Fetch a missing base model.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start everything and keep it up until Ctrl-C."""
    from console import serve as processes
    from services.settings import load

    def ready(settings: Settings) -> None:
        if as_json:
            print_json_line({"name": "all", "happening": "ready", "text": settings.console_url})
            return
        say("")
        say(f"Param Console   {settings.console_url}")
        say(f"Playground      {settings.playground_url}")
        say(f"Gateway         {settings.gateway_url}/v1")
        say("Ctrl-C stops everything; once more ends it at once.")
        say("")

    processes.up(load(), engine=engine, report=_reporter(as_json), on_ready=ready, pull=pull)


def _reporter(as_json: bool) -> Report:
    def report(name: str, happening: str, text: str) -> None:
        if as_json:
            print_json_line({"name": name, "happening": happening, "text": text})
        else:
            say(f"{MARKS.get(happening, ' ')} {name:<10} {happening:<10} {text}")

    return report


def serve(
    name: Annotated[str, typer.Argument(help="gateway, engine, console, playground or worker.")],
    engine: Annotated[
        str, typer.Option(help="Which engine `serve engine` is: embedded or vllm.")
    ] = "embedded",
    as_json: AsJson = False,
) -> None:
    """Run one process in the foreground."""
    from console import serve as processes
    from services.settings import load

    processes.serve(name, load(), engine=engine)


def setup(
    demo: Annotated[
        bool, typer.Option("--demo", help="Also make the demo tenants, people and pairs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Prepare PARAM_HOME; safe to repeat.

    Brings the database up to date, fetches the base model, and makes demo data if asked for.
    """
    from console.first_run import prepare
    from services.settings import load

    settings = load()
    if as_json:
        _setup_json(settings, demo)
        return
    pairs = prepare(settings, demo=demo, report=say, show_credentials=_show_credentials)
    if demo:
        say(f"{pairs} pairs imported. A key for the playground: param keys create ailydian-hq")


def _setup_json(settings: Settings, demo: bool) -> None:
    from console.first_run import prepare

    made: list[Credential] = []
    pairs = 0
    try:
        pairs = prepare(
            settings, demo=demo, report=lambda _text: None, show_credentials=made.extend
        )
    finally:
        # Fresh passwords are printed even where a later part fails: nobody can ask for them again.
        users = [
            {"username": c.username, "password": c.password, "role": c.role, "tenants": c.tenants}
            for c in made
        ]
        if users or sys.exc_info()[0] is None:
            print_json({"model": settings.base_model, "pairs": pairs, "users": users})


def _show_credentials(made: list[Credential]) -> None:
    if not made:
        say("Accounts are there already; another password: param users reset-password NAME")
        return
    say("")
    show_table(
        ("User", "Password", "Role", "Tenants"),
        (
            (c.username, c.password, c.role, ", ".join(c.tenants).replace("*", "all tenants"))
            for c in made
        ),
    )
    say("Keep these passwords now: they are stored hashed and are not shown again.")
    say("")


def demo(as_json: AsJson = False) -> None:
    """Walk the whole loop, headless, and prove each stage."""
    from console.demo import run_demo
    from services.settings import load

    def report(stage: Stage) -> None:
        if not as_json:
            mark = "✓" if stage.ok else "✗"
            say(f"{mark} {stage.seconds:>6.1f} s  {stage.name:<22} {stage.proof}")

    result = run_demo(load(), report)
    if as_json:
        print_json(result.as_json())
    else:
        _show_demo(result.answer_before, result.answer_after, result.adapter, result.ok)
    if not result.ok:
        raise typer.Exit(1)


def _show_demo(before: str, after: str, adapter: str, ok: bool) -> None:
    say("")
    show_table(
        ("", "Answer"),
        (
            ("before, base model", before or None),
            (f"after, {adapter or 'no adapter'}", after or None),
        ),
    )
    say("The loop is closed." if ok else "The loop is not closed; the stage above says why.")
