from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest

from console import wiring
from labeling.label_studio.models import Person, Selection
from labeling.label_studio.state import add_person
from services.bootstrap import Services
from services.jobs import hints
from services.jobs.models import JobStatus
from services.tenants.models import Actor
from tests.fakes.label_studio import TOKEN, FakeLabelStudio
from tests.labeling.label_studio.servers import Annotators
from tests.pages import seeds
from tests.pages.conftest import SYSTEM, OpenPage, texts


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as fake:
        monkeypatch.setenv("PARAM_LABEL_STUDIO_URL", fake.url)
        monkeypatch.setenv("PARAM_LABEL_STUDIO_TOKEN", TOKEN)
        yield fake


@pytest.fixture
def annotators(server: FakeLabelStudio) -> Iterator[Annotators]:
    with closing(Annotators(server.url)) as found:
        yield found


def unreviewed(services: Services, tenant_id: str = "acme") -> int:
    return services.preferences.load_demo(SYSTEM, tenant_id).imported


def synchronised(services: Services) -> str:
    """A project whose tasks are there; its id."""
    unreviewed(services)
    project, _ = wiring.label_studio().push(SYSTEM, "acme", Selection(limit=3), title="Spring")
    wiring.label_studio().run_here(SYSTEM, "acme", project.id)
    return project.id


def test_an_annotator_is_refused_by_address(server: FakeLabelStudio, open_page: OpenPage) -> None:
    page = open_page("labelstudio", actor="annotator")
    assert "You may not do this" in page.error[0].value
    assert not page.title


def test_projects_of_another_tenant_are_not_seen(
    server: FakeLabelStudio, open_page: OpenPage, services: Services
) -> None:
    unreviewed(services, "globex")
    wiring.label_studio().push(SYSTEM, "globex", Selection(), title="Theirs")
    page = open_page("labelstudio")
    assert "No pairs in Label Studio" in texts(page)
    assert "Theirs" not in texts(page)


def test_without_a_server_the_page_says_what_to_set(open_page: OpenPage) -> None:
    page = open_page("labelstudio")
    assert "PARAM_LABEL_STUDIO_URL" in page.info[0].value
    assert not [one for one in page.button if str(one.key).startswith("labelstudio.")]


def test_a_manager_sees_how_far_it_is_and_changes_nothing(
    server: FakeLabelStudio, open_page: OpenPage, services: Services
) -> None:
    synchronised(services)
    page = open_page("labelstudio", actor="manager")
    assert page.subheader[0].value == "Spring"
    assert {metric.label: metric.value for metric in page.metric}["Tasks open there"] == "3"
    assert not [one for one in page.button if str(one.key).startswith("labelstudio.")]


def test_handing_over_queues_the_synchronisation(
    server: FakeLabelStudio, open_page: OpenPage, services: Services
) -> None:
    total = unreviewed(services)
    page = open_page("labelstudio")
    page.text_input(key="labelstudio.title").set_value("Autumn")
    page.number_input(key="labelstudio.limit").set_value(5)
    page.button(key="labelstudio.submit").click().run()
    assert not page.exception
    assert "5 pairs are handed over" in texts(page)
    (job,) = services.jobs.list(SYSTEM, "acme", hints.LABEL_STUDIO)
    (found,) = wiring.label_studio().projects(SYSTEM, "acme")
    assert job.payload == {"project": found.project.id}
    assert (found.project.title, found.project.is_blind) == ("Autumn", True)
    assert total > 5


def test_an_account_is_named_and_its_vote_comes_in(
    server: FakeLabelStudio,
    annotators: Annotators,
    open_page: OpenPage,
    services: Services,
    actor_of: Callable[[str], Actor],
) -> None:
    project = synchronised(services)
    account = annotators.enrol("ada")
    task = min(server.tasks)
    annotators.annotate(task, account, "a3")
    wiring.label_studio().run_here(SYSTEM, "acme", project)
    page = open_page("labelstudio")
    assert "Who is who" in texts(page)
    assert page.dataframe[0].value["outcome"].tolist() == ["Waits"]
    (box,) = [one for one in page.selectbox if str(one.key).startswith("labelstudio.person.")]
    assert "example.com" in box.label
    box.set_value(actor_of("annotator").id).run()
    assert not page.exception
    assert "Kept." in texts(page)
    assert wiring.label_studio().run_here(SYSTEM, "acme", project) == 1
    page = open_page("labelstudio")
    assert {metric.label: metric.value for metric in page.metric}["Votes"] == "1"


def test_text_from_over_there_is_shown_as_text(
    server: FakeLabelStudio, open_page: OpenPage, services: Services
) -> None:
    synchronised(services)
    person = Person(server.url, 9, "**<script>`alert(1)</script>", None)
    with services.db.write() as session:
        add_person(session, "acme", person, actor_id="x", at=datetime.now(UTC))
    page = open_page("labelstudio")
    (box,) = [one for one in page.selectbox if str(one.key).startswith("labelstudio.person.")]
    assert box.label.startswith("`**<script>alert(1)</script>")


def test_the_page_speaks_turkish(
    server: FakeLabelStudio, open_page: OpenPage, services: Services
) -> None:
    synchronised(services)
    page = open_page("labelstudio", language="tr")
    assert "Şimdi eşitle" in texts(page)
    assert "Orada açık görevler" in texts(page)


def test_a_failed_synchronisation_says_why(
    server: FakeLabelStudio, open_page: OpenPage, services: Services
) -> None:
    project = synchronised(services)
    job = wiring.label_studio().ask(SYSTEM, "acme", project)
    seeds.job_is(
        services, job.id, JobStatus.FAILED, message="failed", error="no Label Studio answers"
    )
    page = open_page("labelstudio")
    assert "no Label Studio answers" in page.code[0].value
