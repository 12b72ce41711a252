"""`param labelstudio`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.opened import TenantOption, actor, opened
from console.cli.output import AsJson, print_json, say, show_facts, show_table
from console.cli.waiting import follow, status_of
from console.exit_status import CHECK_FAILED
from services.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from labeling.label_studio.models import Project, ProjectState
    from labeling.label_studio.service import LabelStudio
    from services.bootstrap import Services

app = typer.Typer()

DEFAULT_TITLE = "Param Console"

Title = Annotated[str, typer.Option(help="Title of the project over there.")]
Here = Annotated[bool, typer.Option("--here", help="In this process instead of the worker's.")]
Wait = Annotated[bool, typer.Option("--wait", help="Stay until the worker has done it.")]


class FormLanguage(StrEnum):
    """Languages of the form."""

    EN = "en"
    TR = "tr"


@app.command("push")
def push(
    tenant: TenantOption,
    title: Title = DEFAULT_TITLE,
    limit: Annotated[int, typer.Option(help="At most so many pairs.")] = 100,
    source: Annotated[str | None, typer.Option(help="Only of this import source.")] = None,
    language: Annotated[str | None, typer.Option(help="Only pairs in this language.")] = None,
    predictions: Annotated[
        bool, typer.Option("--predictions", help="Show there what the AI prefers; blind otherwise.")
    ] = False,
    form: Annotated[FormLanguage, typer.Option(help="Language of the form.")] = FormLanguage.EN,
    here: Here = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Hand unreviewed pairs over to a project, which is made where it is missing."""
    from labeling.label_studio.models import Selection

    with opened() as services:
        services.tenants.get(actor(), tenant)
        label_studio = _label_studio(services)
        project, pairs = label_studio.push(
            actor(), tenant, Selection(limit=limit, source=source, language=language),
            title=title, is_blind=not predictions, language=form.value,
        )  # fmt: skip
        if not as_json:
            say(f"{pairs} pairs handed over to the project {project.title!r}.")
        _synchronise(services, label_studio, tenant, project, here, wait, as_json, False)


@app.command("pull")
def pull(
    tenant: TenantOption,
    title: Title = DEFAULT_TITLE,
    everything: Annotated[
        bool, typer.Option("--everything", help="Look at all annotations again.")
    ] = False,
    here: Here = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Take in the votes of a project, and send what waits to be sent."""
    with opened() as services:
        services.tenants.get(actor(), tenant)
        label_studio = _label_studio(services)
        project = _project(label_studio, tenant, title).project
        _synchronise(services, label_studio, tenant, project, here, wait, as_json, everything)


@app.command("status")
def status(tenant: TenantOption, as_json: AsJson = False) -> None:
    """How far the tenant's projects are, and what could not be taken in."""
    with opened() as services:
        services.tenants.get(actor(), tenant)
        found = _label_studio(services).projects(actor(), tenant)
    if as_json:
        print_json(found)
        return
    if not found:
        say("No pairs were handed over to Label Studio yet.")
    for one in found:
        _show(one)


@app.command("people")
def people(
    tenant: TenantOption,
    account: Annotated[int | None, typer.Option(help="Number of an account over there.")] = None,
    annotator: Annotated[
        str | None, typer.Option(help="User name of who that is here; `-` for nobody.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Who the accounts are; with --account and --annotator, say it."""
    with opened() as services:
        services.tenants.get(actor(), tenant)
        label_studio = _label_studio(services)
        if (account is None) != (annotator is None):
            raise InvalidInput("expected --account and --annotator together, found one of them")
        if account is not None and annotator is not None:
            user_id = None if annotator == "-" else _user(services, annotator)
            server = services.settings.label_studio_url
            label_studio.map_person(actor(), tenant, server, account, user_id)
        found = label_studio.people(actor(), tenant)
        names = dict(label_studio.annotators(actor(), tenant))
    if as_json:
        print_json(found)
        return
    show_table(
        (">Account", "Calls itself", "Is here"),
        (
            (one.remote_id, one.label, names.get(one.annotator_id or "", one.annotator_id))
            for one in found
        ),
        empty="Nobody has annotated yet.",
    )


@app.command("take-back")
def take_back(tenant: TenantOption, title: Title = DEFAULT_TITLE, as_json: AsJson = False) -> None:
    """Give the pairs that nobody has judged over there back to the desk."""
    with opened() as services:
        services.tenants.get(actor(), tenant)
        label_studio = _label_studio(services)
        project = _project(label_studio, tenant, title).project
        pairs = label_studio.take_back(actor(), tenant, project.id)
        label_studio.ask(actor(), tenant, project.id)
    if as_json:
        print_json({"project": project.id, "pairs": pairs})
    else:
        say(f"{pairs} pairs are at the desk again.")


def _label_studio(services: Services) -> LabelStudio:
    from labeling.label_studio.service import LabelStudio
    from labeling.queue import ReviewQueue

    queue = ReviewQueue(services.db, services.preferences)
    return LabelStudio(services.db, queue, services.jobs, services.settings)


def _project(label_studio: LabelStudio, tenant: str, title: str) -> ProjectState:
    for one in label_studio.projects(actor(), tenant):
        if one.project.title == title:
            return one
    raise NotFound(f"tenant {tenant} has no Label Studio project {title!r}")


def _user(services: Services, name: str) -> str:
    for user in services.tenants.list_users(actor()):
        if user.username == name.casefold():
            return user.id
    raise NotFound(f"there is no user {name!r}")


def _synchronise(
    services: Services,
    label_studio: LabelStudio,
    tenant: str,
    project: Project,
    here: bool,
    wait: bool,
    as_json: bool,
    everything: bool,
) -> None:
    code = 0
    if here:
        label_studio.run_here(actor(), tenant, project.id, everything=everything)
    else:
        job = label_studio.ask(actor(), tenant, project.id, everything=everything)
        if wait:
            ended = follow(lambda: services.jobs.get(actor(), job.id), quiet=as_json)
            code = status_of(ended)
    state = _project(label_studio, tenant, project.title)
    if as_json:
        print_json(state)
    else:
        _show(state)
    if code == CHECK_FAILED:
        raise typer.Exit(code)


def _show(state: ProjectState) -> None:
    project = state.project
    facts = {
        "Project": project.title,
        "Address": project.url or "not made yet",
        "Blind": project.is_blind,
        "In step": project.synced_at or "never yet",
        "Webhook": project.hook_note or ("yes" if project.hook_id else "no"),
    }
    if state.job is not None:
        facts["Last job"] = f"{state.job.status.value}: {state.job.error or state.job.message}"
    facts |= {f"tasks {name.value}": count for name, count in state.tasks.items()}
    facts |= {f"annotations {name.value}": count for name, count in state.annotations.items()}
    show_facts(facts)
    if state.problems:
        show_table(
            (">Annotation", ">Account", "Pair", "What", "Why"),
            (
                (one.annotation_id, one.remote_user, one.pair_id, one.outcome.value, one.reason)
                for one in state.problems
            ),
        )
