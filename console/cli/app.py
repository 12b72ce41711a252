"""The command tree, and what an error looks like."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from console.cli import (
    audit,
    clusters,
    custody,
    evaluation,
    evidence,
    labelstudio,
    models,
    pairs,
    policy,
    processes,
    rlaif,
    rollouts,
    signing_keys,
    tenants,
    training,
)
from console.cli.output import JSON_ASKED, complain
from console.exit_status import WRONG_USE, exit_status
from services.errors import ConsoleError, LimitExceeded, StorageFull


class ConsoleGroup(TyperGroup):
    """Turns an error of the console into one line on standard error and an exit status."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse words that are no text: nothing could be looked up or written by them."""
        if any(not _is_text(word) for word in args):
            complain("param: expected arguments in UTF-8, found other bytes in one of them")
            raise typer.Exit(WRONG_USE)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; see `console.exit_status` for the status of an error."""
        try:
            with _full_disk_told():
                return super().invoke(ctx)
        except ConsoleError as error:
            if ctx.meta.get(JSON_ASKED):
                told: dict[str, Any] = {"code": error.code, "message": error.message}
                if isinstance(error, LimitExceeded):
                    told["retry_after_s"] = error.retry_after_s
                complain(json.dumps({"error": told}))
            else:
                complain(f"param: {error.message}")
            raise typer.Exit(exit_status(error)) from error


def _is_text(word: str) -> bool:
    """Whether an argument is text; the shell's other bytes come as halves of surrogate pairs."""
    return not any("\ud800" <= mark <= "\udfff" for mark in word)


@contextmanager
def _full_disk_told() -> Iterator[None]:
    """Whatever was being written: a full disk is nobody's bug, and one sentence says it."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        what = error.filename or "a file"
        raise StorageFull(f"the disk is full: {what} could not be written") from error


app = typer.Typer(
    cls=ConsoleGroup,
    help="Own your AI parameters: review pairs, train adapters, prove, roll out, account.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for name, module, purpose in (
    ("tenants", tenants.tenants, "Organisations and their limits."),
    ("keys", tenants.keys, "API keys of a tenant."),
    ("users", tenants.users, "People and their roles."),
    ("model", models.app, "Base models on this machine."),
    ("pairs", pairs.app, "Preference pairs: in, out, counts."),
    ("labelstudio", labelstudio.app, "Pairs judged on a Label Studio server."),
    ("rlaif", rlaif.app, "Pairs by AI feedback: candidates, a judge, a cap."),
    ("train", training.app, "DPO runs."),
    ("eval", evaluation.app, "Base against adapter."),
    ("rollout", rollouts.app, "Who is served what."),
    ("cluster", clusters.app, "What a Kubernetes cluster can do."),
    ("policy", policy.app, "What may go in and come out."),
    ("audit", audit.audit, "The tamper-evident log."),
    ("custody", custody.app, "From an answer back to the people who decided."),
    ("signing-keys", signing_keys.app, "What receipts, checkpoints and events are signed with."),
    ("cost", evidence.cost, "What answers cost."),
):
    app.add_typer(module, name=name, help=purpose, no_args_is_help=True)
for command in (processes.up, processes.serve, processes.setup, processes.demo, evidence.verify):
    app.command()(command)
