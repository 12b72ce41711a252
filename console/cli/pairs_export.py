"""`param pairs export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.opened import TenantOption, actor, opened
from console.cli.output import AsJson, print_json, show_facts, show_table
from services.errors import InvalidInput

if TYPE_CHECKING:
    from services.preferences.gates.models import Action
    from services.preferences.models import Manifest


class Shape(StrEnum):
    """The forms of TRL."""

    CONVERSATIONAL = "conversational"
    PLAIN = "plain"


class Extra(StrEnum):
    """Files beside the JSON Lines."""

    CSV = "csv"
    PARQUET = "parquet"
    KTO = "kto"


def export_pairs(
    tenant: TenantOption,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Unreviewed pairs too, marked so in the manifest.")
    ] = False,
    shape: Annotated[
        Shape, typer.Option("--format", help="Lists of messages, or texts.")
    ] = Shape.CONVERSATIONAL,
    also: Annotated[list[Extra] | None, typer.Option(help="More files; may be repeated.")] = None,
    eval_fraction: Annotated[float, typer.Option(help="Share of the prompts held out.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Another seed holds other prompts out.")] = 0,
    gate: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=drop|warn|off", help="Set a gate; may be repeated."),
    ] = None,
    max_length: Annotated[int, typer.Option(help="Tokens after which training cuts.")] = 1_024,
    pairs_a_prompt: Annotated[int, typer.Option(help="Pairs of one prompt that are taken.")] = 8,
    as_json: AsJson = False,
) -> None:
    """Write the pairs that pass the gates: train, eval and dropped rows, manifest and card."""
    from console.agreed import measured
    from labeling.agreement import Agreements
    from services.preferences import exports
    from services.preferences.gates.models import Rules

    with opened() as services:
        services.tenants.get(actor(), tenant)
        rules = Rules(
            actions=_actions(gate or []),
            max_length=max_length,
            pairs_a_prompt=pairs_a_prompt,
            agreement=measured(Agreements(services.db), actor(), tenant),
        )
        form = exports.Form(exports.Shape(shape.value), tuple(extra.value for extra in also or []))
        manifest = services.preferences.export(
            actor(), tenant, out, include_unreviewed=everything, eval_fraction=eval_fraction,
            seed=seed, rules=rules, form=form,
        )  # fmt: skip
    if as_json:
        print_json(manifest)
    else:
        _show(manifest)


def _actions(settings: list[str]) -> dict[str, Action]:
    from services.preferences.gates.models import Action

    actions = {}
    for setting in settings:
        name, _, action = setting.partition("=")
        if action not in set(Action):
            raise InvalidInput(
                f"--gate: expected NAME=drop, NAME=warn or NAME=off, found {setting!r}"
            )
        actions[name] = Action(action)
    return actions


def _show(manifest: Manifest) -> None:
    show_facts(
        {
            "Folder": manifest.folder,
            "Training pairs": manifest.n_train,
            "Held-out pairs": manifest.n_eval,
            "Dropped": manifest.n_dropped,
            "sha256": manifest.sha256,
        }
    )
    show_table(
        ("Gate", "Does", ">Found"),
        (
            (one["gate"], one["action"], one["pairs"] if one["is_checked"] else "not checked")
            for one in manifest.content["gates"]
            if one["pairs"] or not one["is_checked"]
        ),
        empty="No gate found anything.",
    )
