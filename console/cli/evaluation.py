"""`param eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.cli.opened import TenantOption, actor, opened
from console.cli.output import AsJson, print_json, say, show_facts, show_table
from console.cli.waiting import follow, status_of
from services.errors import InvalidInput, NotFound
from services.evaluation.questions import read_questions

if TYPE_CHECKING:
    from services.bootstrap import Services
    from services.evaluation.comparison import Comparison
    from services.evaluation.models import Evaluation, Summary

app = typer.Typer()

AdapterArgument = Annotated[str, typer.Argument(help="Name of the adapter.")]


@app.command("run")
def run(
    adapter: AdapterArgument,
    tenant: TenantOption,
    dataset: Annotated[
        str | None, typer.Option(help="Id of another dataset than the one it was held out of.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="Questions that both answer: JSON Lines with `prompt` and, if you like, "
            "`reference`; or self-instruct's tasks."
        ),
    ] = None,
    texts: Annotated[bool, typer.Option(help="Measure perplexity on neutral text.")] = True,
    tasks: Annotated[bool, typer.Option(help="Do the local lm-eval tasks.")] = True,
    judge: Annotated[
        bool, typer.Option("--judge", help="Have the AI judge compare the answers; costs money.")
    ] = False,
    judge_cap: Annotated[
        float, typer.Option(help="What the judge may cost at most, USD.", min=0.000001)
    ] = 1.0,
    text_count: Annotated[
        int, typer.Option(help="How many neutral texts are read.", min=2, max=1_000)
    ] = 60,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until it has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue an evaluation of an adapter against its base, on held-out pairs."""
    from services.evaluation.models import Checks

    asked = None if prompts is None else read_questions(prompts)
    with opened() as services:
        found = services.evaluations.launch(
            actor(),
            tenant,
            adapter,
            dataset_id=dataset,
            prompts=None if asked is None else [one.prompt for one in asked],
            references=None if asked is None else [one.reference for one in asked],
            checks=Checks(
                texts=texts,
                tasks=tasks,
                judge=judge,
                text_count=text_count,
                judge_cap_micro=round(1e6 * judge_cap),
            ),
        )
        if wait:
            follow(lambda: services.evaluations.get(actor(), found.id).job, quiet=as_json)
            found = services.evaluations.get(actor(), found.id)
    _show(found, as_json)
    if wait:
        raise typer.Exit(status_of(found.job))


@app.command("cost")
def cost_of(
    adapter: AdapterArgument,
    tenant: TenantOption,
    prompts: Annotated[
        Path | None, typer.Option(help="Questions that both would answer; see `run`.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What the judge of an evaluation would cost; nothing is asked and nothing is paid."""
    asked = None if prompts is None else [one.prompt for one in read_questions(prompts)]
    with opened() as services:
        found = services.evaluations.judge_cost(actor(), tenant, adapter, prompts=asked)
    if as_json:
        print_json(found)
        return
    left = "no budget" if found.left_micro is None else f"{found.left_micro / 1e6:.6f} USD"
    show_facts(
        {
            "questions to the judge": found.calls,
            "expected": f"{found.expected_micro / 1e6:.6f} USD",
            "at most": f"{found.most_micro / 1e6:.6f} USD",
            "left of the month": left,
            "price": found.price_version,
        }
    )


@app.command("compare")
def compare(
    adapters: Annotated[list[str], typer.Argument(help="One adapter, or two to six.")],
    tenant: TenantOption,
    against: Annotated[
        str, typer.Option(help="What they are compared with: `base`, or one of them.")
    ] = "base",
    language: Annotated[str | None, typer.Option(help="Only pairs in it: tr, en.")] = None,
    topic: Annotated[str | None, typer.Option(help="Only pairs about it.")] = None,
    as_json: AsJson = False,
) -> None:
    """The latest evaluation of one adapter and its verdict; or several on the same prompts."""
    from services.evaluation.comparing import Comparisons

    with opened() as services:
        if len(adapters) == 1:
            _show(_latest(services, tenant, adapters[0]), as_json)
            return
        chosen = [_latest(services, tenant, name, finished=True) for name in adapters]
        found = Comparisons(services.evaluations).compare(
            actor(), chosen, against=against, language=language, topic=topic
        )
    if as_json:
        print_json(found)
        return
    _show_comparison(found)


@app.command("gate")
def gate_of(adapter: AdapterArgument, tenant: TenantOption, as_json: AsJson = False) -> None:
    """Whether an adapter may be promoted without a stated reason; exit status 1 if not."""
    with opened() as services:
        services.registry.get(actor(), tenant, adapter)
        found = services.evaluations.gate(actor(), tenant, adapter)
    if as_json:
        print_json(found)
    else:
        say("The gate is passed." if found.passed else "The gate is not passed:")
        for reason in found.reasons:
            say(f"- {reason}")
    raise typer.Exit(0 if found.passed else 1)


@app.command("policy")
def policy(
    tenant: TenantOption,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="NAME=VALUE, such as quality=non-inferior or max_nll_rise=none."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What the tenant asks of a promotion; `--set` changes it."""
    with opened() as services:
        if change:
            found = services.evaluations.policies.change(actor(), tenant, _changes(change))
        else:
            found = services.evaluations.policies.get(actor(), tenant)
    if as_json:
        print_json(found)
        return
    show_facts({name: str(value) for name, value in found.as_json().items()})


def _changes(given: list[str]) -> dict[str, Any]:
    """`NAME=VALUE` as a policy has them."""
    found: dict[str, Any] = {}
    for one in given:
        name, sign, value = one.partition("=")
        if not sign:
            raise InvalidInput(f"--set: expected NAME=VALUE, found {one!r}")
        found[name.strip()] = _value(value.strip())
    return found


def _value(text: str) -> Any:
    words: dict[str, Any] = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _latest(services: Services, tenant: str, name: str, *, finished: bool = False) -> Evaluation:
    services.registry.get(actor(), tenant, name)
    found = services.evaluations.latest_for(actor(), tenant, name)
    if found is None or (finished and found.summary is None):
        raise NotFound(
            f"adapter {name!r}: expected {'a finished' if finished else 'an'} evaluation, found "
            f"none; start one with: param eval run {name} --tenant {tenant} --wait"
        )
    return found


def _show_comparison(found: Comparison) -> None:
    show_table(
        ("Adapter", ">Accuracy", f">{found.against}", ">95 % interval", ">p (Holm)", "Verdict"),
        [
            (
                row.adapter, f"{row.accuracy:.1%}", f"{row.against:.1%}",
                f"{row.low:+.1%} to {row.high:+.1%}", f"{row.p_adjusted:.3g}", row.verdict.value,
            )
            for row in found.rows
        ],
    )  # fmt: skip
    say(
        f"{found.n_prompts} prompts ({found.n_pairs} pairs) in common, {found.n_left_out} pairs "
        "left out."
    )


def _show(found: Evaluation, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    show_facts({"Evaluation": found.id, "Adapter": found.adapter, "Status": found.job.status.value})
    if found.summary is None:
        say(found.job.error or "No result yet.")
        return
    _show_summary(found.summary)


def _show_summary(summary: Summary) -> None:
    show_table(
        ("On held-out pairs", ">Base", ">Adapter"),
        (
            ("accuracy", f"{summary.base_accuracy:.1%}", f"{summary.adapter_accuracy:.1%}"),
            ("accuracy, per token", f"{summary.base_accuracy_per_token:.1%}",
             f"{summary.adapter_accuracy_per_token:.1%}"),
            ("mean margin (nats)", f"{summary.base_margin:.2f}", f"{summary.adapter_margin:.2f}"),
            ("answers that repeat themselves", f"{summary.base_degenerate} of {summary.n_answers}",
             f"{summary.adapter_degenerate} of {summary.n_answers}"),
        ),
    )  # fmt: skip
    say(f"Verdict: {summary.verdict.value}. {summary.sentence}")
    _show_beside(summary)


def _show_beside(summary: Summary) -> None:
    """What was measured beside the held-out pairs, a line each."""
    if (texts := summary.texts) is not None:
        say(
            f"Neutral text: perplexity {texts.base_perplexity:.1f} -> "
            f"{texts.adapter_perplexity:.1f} on {texts.n_texts} texts."
        )
    for task in summary.tasks:
        say(
            f"Task {task.task}: {task.base:.1%} -> {task.adapter:.1%} on {task.n} documents "
            f"({task.verdict.value})."
        )
    if (overlap := summary.overlap) is not None:
        say(
            f"References ({overlap.n}): ROUGE-L {overlap.rouge_l.base:.3f} -> "
            f"{overlap.rouge_l.adapter:.3f}, BLEU {overlap.bleu.base:.3f} -> "
            f"{overlap.bleu.adapter:.3f}."
        )
    if (judged := summary.judged) is not None:
        say(
            f"Judge {judged.judge}: wins {judged.win_rate.mean:.1%} of {judged.n}, "
            f"{judged.controlled:.1%} at equal lengths ({judged.controlled_low:.1%} to "
            f"{judged.controlled_high:.1%})."
        )
