"""`param train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.cli.opened import TenantOption, actor, opened
from console.cli.output import AsJson, plain, print_json, say, show_facts, show_table
from console.cli.waiting import follow, status_of

if TYPE_CHECKING:
    from services.bootstrap import Services
    from services.training.models import DpoSpec, Run

app = typer.Typer()

RunArgument = Annotated[str, typer.Argument(help="Id of the run.")]
Wait = Annotated[bool, typer.Option("--wait", help="Stay until it has ended.")]


@app.command("dpo")
def dpo(
    tenant: TenantOption,
    alias: Annotated[
        str | None, typer.Option(help="What the adapter is for; the tenant's own by default.")
    ] = None,
    preset: Annotated[str, typer.Option(help="quick or standard.")] = "quick",
    dataset: Annotated[
        str | None, typer.Option(help="Id of a frozen dataset; the approved pairs by default.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Freeze unreviewed pairs too.")] = False,
    beta: Annotated[float | None, typer.Option(help="Pull towards the base model.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest, a step.")] = None,
    lora_r: Annotated[int | None, typer.Option(help="Rank of the adapter.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the pairs.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Longest prompt with answer.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs a step.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights and order.")] = None,
    loss: Annotated[
        str | None, typer.Option(help="sigmoid, hinge, ipo, robust, apo_zero or kto.")
    ] = None,
    label_smoothing: Annotated[
        float | None, typer.Option(help="robust: share of wrong labels.")
    ] = None,
    sft_weight: Annotated[
        float | None, typer.Option(help="Weight of the chosen answer's likelihood.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    quantization: Annotated[str | None, typer.Option(help="none or 4bit (GPU).")] = None,
    target_modules: Annotated[
        str | None, typer.Option(help="all-linear, attention or query-value.")
    ] = None,
    base_model: Annotated[
        str | None, typer.Option(help="A pulled base model; the installation's by default.")
    ] = None,
    advanced: Annotated[
        Path | None, typer.Option(help="YAML with everything else; see docs/training.md.")
    ] = None,
    like: Annotated[str | None, typer.Option(help="Take the settings over from this run.")] = None,
    backend: Annotated[str, typer.Option(help="Where it runs.")] = "local",
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Queue a DPO run on the tenant's approved pairs; the worker runs it."""
    given = {
        "beta": beta, "learning_rate": learning_rate, "lora_r": lora_r, "epochs": epochs,
        "max_steps": max_steps, "max_length": max_length, "batch_size": batch_size, "seed": seed, "loss_type": loss,
        "label_smoothing": label_smoothing, "sft_weight": sft_weight, "precision": precision,
        "quantization": quantization, "target_modules": target_modules, "alias": alias,
        "base_model": base_model,
    }  # fmt: skip
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if loss == "kto":
        changes.setdefault("sft_weight", 0.0)  # A preset's weight is not the caller's wish.
    if advanced is not None:
        changes["advanced"] = _advanced(advanced)
    if epochs is not None and max_steps is None:
        changes["max_steps"] = None  # A preset's steps would win over the asked passes.
    with opened() as services:
        services.tenants.get(actor(), tenant)

        start = _start(services, tenant, preset, like)

        def spec(dataset_id: str) -> DpoSpec:
            return type(start).from_json({**start.as_json(), **changes, "dataset_id": dataset_id})

        spec("unfrozen")  # Wrong options are told before a dataset is frozen for them.
        frozen = (
            dataset
            or (start.dataset_id if like else None)
            or services.preferences.snapshot(
                actor(), tenant, include_unreviewed=everything,
                unpaired=spec("unfrozen").loss_type == "kto",
            ).id
        )  # fmt: skip
        run = services.training.launch_dpo(
            actor(), tenant, spec(frozen), backend=backend, parent_id=like
        )
        if wait:
            follow(lambda: services.training.get(actor(), run.id).job, quiet=as_json)
            run = services.training.get(actor(), run.id)
    _show_run(run, as_json)
    if wait:
        raise typer.Exit(status_of(run.job))


def _start(services: Services, tenant: str, preset: str, like: str | None) -> DpoSpec:
    """What the options change: a preset, or another run's settings."""
    from services.training.models import DpoSpec

    if like is not None:
        return services.training.get(actor(), like).spec
    return DpoSpec.from_preset(
        preset, alias=tenant, dataset_id="unfrozen", base_model=services.settings.base_model
    )


def _advanced(path: Path) -> dict[str, Any]:
    """The settings of a YAML file."""
    from services.errors import InvalidInput
    from services.training.advanced import Advanced

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"--advanced: expected a text file, found none at {path}") from error
    return Advanced.from_yaml(text).as_json()


@app.command("diff")
def diff(
    run: RunArgument,
    other: Annotated[str, typer.Argument(help="Id of the other run.")],
    as_json: AsJson = False,
) -> None:
    """What two runs were told differently."""
    from services.training.models import differences

    with opened() as services:
        told = differences(
            services.training.get(actor(), run), services.training.get(actor(), other)
        )
    if as_json:
        print_json([{"name": name, "first": one, "second": two} for name, one, two in told])
        return
    show_table(
        ("Setting", run[-6:], other[-6:]),
        ((name, str(one), str(two)) for name, one, two in told),
        empty="Both runs were told the same.",
    )


@app.command("settings")
def settings_of(run: RunArgument, as_json: AsJson = False) -> None:
    """The YAML of a run: what no option shows."""
    with opened() as services:
        more = services.training.get(actor(), run).spec.more
    if as_json:
        print_json(more.as_json())
    else:
        typer.echo(more.as_yaml(), nl=False)


@app.command("list")
def list_runs(tenant: TenantOption, as_json: AsJson = False) -> None:
    """The tenant's runs, newest first."""
    with opened() as services:
        services.tenants.get(actor(), tenant)
        runs = services.training.list(actor(), tenant)
    if as_json:
        print_json([_run(run) for run in runs])
        return
    show_table(
        ("Run", "Alias", "Status", ">Done", "Adapter", "Created"),
        (
            (r.id, r.spec.alias, r.job.status, f"{r.job.progress:.0%}", r.adapter, r.created_at)
            for r in runs
        ),
        empty=f"No runs yet; start one with: param train dpo --tenant {tenant}",
    )


@app.command("show")
def show(run: RunArgument, as_json: AsJson = False) -> None:
    """One run: where it stands, its last step, its adapter."""
    with opened() as services:
        found = services.training.get(actor(), run)
        points = services.training.metrics(actor(), run)
    last = points[-1] if points else None
    if as_json:
        print_json(_run(found) | {"last_point": plain(last)})
        return
    _show_run(found, as_json=False)
    if last:
        show_facts(
            {
                "Step": f"{last.step} of {last.max_steps}",
                "Loss": f"{last.loss:.4f}",
                "Margin": f"{last.margin:.4f}",
                "Accuracy": f"{last.accuracy:.0%} of the last batch",
                "Tokens a second": f"{last.tokens_per_s:.0f}",
            }
        )


@app.command("stop")
def stop(run: RunArgument, as_json: AsJson = False) -> None:
    """Ask a run to stop after its present step; it can be resumed."""
    with opened() as services:
        services.training.stop(actor(), run)
        found = services.training.get(actor(), run)
    if as_json:
        print_json(_run(found))
    else:
        say(f"Run {run}: {found.job.status.value}")


@app.command("resume")
def resume(run: RunArgument, wait: Wait = False, as_json: AsJson = False) -> None:
    """Go on with a stopped or failed run from its last saved step."""
    with opened() as services:
        services.training.resume(actor(), run)
        if wait:
            follow(lambda: services.training.get(actor(), run).job, quiet=as_json)
        found = services.training.get(actor(), run)
    if as_json:
        print_json(_run(found))
    else:
        say(f"Run {run}: {found.job.status.value}")
    if wait:
        raise typer.Exit(status_of(found.job))


def _run(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "tenant_id": run.tenant_id,
        "status": run.job.status,
        "progress": run.job.progress,
        "message": run.job.message,
        "error": run.job.error,
        "adapter": run.adapter,
        "spec": run.spec.as_json(),
        "mlflow_run_id": run.mlflow_run_id,
        "created_at": run.created_at,
    }


def _show_run(run: Run, as_json: bool) -> None:
    if as_json:
        print_json(_run(run))
        return
    show_facts(
        {
            "Run": run.id,
            "Status": f"{run.job.status.value}, {run.job.progress:.0%}: {run.job.message}",
            **({"Error": run.job.error} if run.job.error else {}),
            "Adapter": run.adapter or "none yet",
            "Dataset": run.spec.dataset_id,
        }
    )
