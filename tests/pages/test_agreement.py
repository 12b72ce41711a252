from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from streamlit.testing.v1 import AppTest

from console import state
from services.bootstrap import Services
from services.preferences.models import PairStatus
from services.tenants.models import Actor
from tests.labeling.scene import ALI, BEA, Made, Scene
from tests.pages.conftest import SYSTEM, OpenPage, texts

GRADES = (-3, -2, -1, 0, 1, 2, 3)
HOSTILE = "<script>alert(1)</script> :red[boo] **bold**"


def _figures(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


@pytest.fixture
def agreeing(services: Services) -> Services:
    """Thirty-five pairs on which two people say the same and the AI the opposite."""
    with services.db.write() as session:
        scene = Scene(session)
        for number in range(35):
            value = GRADES[number % 7]
            pair = scene.pair(
                scores=(5.0 + value, 5.0 - value), imported=0, status=PairStatus.APPROVED
            )
            for by in (ALI, BEA):
                scene.vote(
                    pair,
                    by,
                    value,
                    active_ms=6_000,
                    ratings={pair.first: {"accuracy": 1 + number % 5}},
                )
    return services


@pytest.fixture
def disputed(services: Services) -> Made:
    with services.db.write() as session:
        scene = Scene(session)
        pair = scene.pair(status=PairStatus.DISPUTED, texts=("Ankara it is.", HOSTILE))
        scene.vote(
            pair, ALI, -2, note="The first one is true.", ratings={pair.first: {"accuracy": 5}}
        )
        first = scene.vote(pair, BEA, -1, note="x")
        scene.vote(
            pair, BEA, 1, note=HOSTILE, flags=["unsafe"], revises_id=first.id, is_revealed=True
        )
        scene.judge(pair, 2)
        return pair


def _open(open_page: OpenPage, view: str, **who: str) -> AppTest:
    page = open_page("agreement", **who)
    page.button_group(key="agreement.view").set_value(view).run()
    assert not page.exception
    return page


def test_the_wrong_role_is_refused(open_page: OpenPage) -> None:
    assert "You may not do this" in open_page("agreement", actor="annotator").error[0].value


@pytest.mark.parametrize("view", ["agreement", "disputes", "people"])
def test_another_tenants_votes_are_not_shown(
    open_page: OpenPage, services: Services, view: str
) -> None:
    with services.db.write() as session:
        scene = Scene(session, tenant_id="globex")
        for _ in range(3):
            pair = scene.pair(status=PairStatus.DISPUTED, texts=("Ankara it is.", "No."))
            for by, value in ((ALI, -1), (BEA, 1)):
                scene.vote(pair, by, value, at=datetime.now(UTC))
    page = _open(open_page, view)
    assert "Ankara" not in texts(page)
    assert not page.dataframe


@pytest.mark.parametrize("language", ["en", "tr"])
@pytest.mark.parametrize("view", ["agreement", "disputes", "people"])
def test_every_view_says_what_is_missing(open_page: OpenPage, view: str, language: str) -> None:
    page = _open(open_page, view, language=language)
    expected = {
        "agreement": ("No votes yet", "Henüz oy yok"),
        "disputes": ("Nobody disagrees", "Anlaşmazlık yok"),
        "people": ("Nobody has voted", "kimse oy vermedi"),
    }[view][language == "tr"]
    assert expected in texts(page)


def test_agreement_is_told_with_its_interval(open_page: OpenPage, agreeing: Services) -> None:
    page = open_page("agreement", actor="manager")
    assert _figures(page)["People (α)"] == "1.00"
    assert _figures(page)["AI against people (κ)"].startswith("\N{MINUS SIGN}")
    assert "α = 1.00 (0.8" in page.success[0].value
    assert list(page.dataframe[0].value["shared"])[0] == 35
    assert "Accuracy" in list(page.dataframe[2].value["criterion"])


def test_too_few_pairs_are_insufficient_data(open_page: OpenPage, disputed: Made) -> None:
    page = open_page("agreement")
    assert _figures(page)["People (α)"] == "–"
    assert "Insufficient data" in page.info[0].value
    assert "insufficient data: 1 of 30" in list(page.dataframe[0].value["people"])


def test_a_case_shows_both_reasons_and_no_names(open_page: OpenPage, disputed: Made) -> None:
    shown = texts(_open(open_page, "disputes"))
    assert "The first one is true." in shown
    assert "Annotator A" in shown
    assert "Annotator B" in shown
    assert "Before the AI was revealed" in shown
    for name in ("Ali", "Bea"):
        assert name not in shown
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_settling_needs_a_reason(open_page: OpenPage, services: Services, disputed: Made) -> None:
    page = _open(open_page, "disputes")
    page.button(key=f"agreement.left.{disputed.id}").click().run()
    assert "Reason" in page.error[0].value
    pair = services.preferences.pair(SYSTEM, "acme", disputed.id)
    assert pair.status is PairStatus.DISPUTED


@pytest.mark.parametrize(
    ("way", "status"),
    [
        ("left", PairStatus.APPROVED),
        ("right", PairStatus.APPROVED),
        ("neither", PairStatus.REJECTED),
        ("ask_again", PairStatus.UNREVIEWED),
    ],
)
def test_each_way_out_leaves_a_decision(
    open_page: OpenPage, services: Services, disputed: Made, way: str, status: PairStatus
) -> None:
    page = _open(open_page, "disputes")
    page.text_area(key=f"agreement.reason.{disputed.id}").set_value("Checked the source.")
    page.button(key=f"agreement.{way}.{disputed.id}").click().run()
    assert not page.exception
    assert not page.error
    pair = services.preferences.pair(SYSTEM, "acme", disputed.id)
    assert pair.status is status
    assert pair.history is not None
    assert pair.history.decisions[-1].reason == "Checked the source."
    assert "Nobody disagrees" in texts(page)


def test_a_manager_reads_disagreements_and_settles_none(
    open_page: OpenPage, disputed: Made
) -> None:
    page = _open(open_page, "disputes", actor="manager")
    assert "The first one is true." in texts(page)
    assert not [button for button in page.button if "better" in button.label]


def test_people_are_shown_by_codes_to_those_who_do_not_manage_them(
    open_page: OpenPage, agreeing: Services
) -> None:
    page = _open(open_page, "people", actor="manager")
    page.button_group(key="agreement.period").set_value("all").run()
    who = list(page.dataframe[0].value["who"])
    assert len(who) == 3
    assert all(name.startswith("Annotator ") for name in who[:2])
    assert list(page.dataframe[0].value["votes"]) == [35, 35, 70]
    assert _figures(page)["Pairs an hour"] == "600"


def test_a_period_leaves_out_what_is_older(open_page: OpenPage, agreeing: Services) -> None:
    page = _open(open_page, "people")
    page.button_group(key="agreement.period").set_value("week").run()
    assert not page.exception


@pytest.mark.parametrize("language", ["en", "tr"])
def test_an_annotator_sees_their_own_meters_beside_the_work(
    open_page: OpenPage, services: Services, actor_of: Callable[[str], Actor], language: str
) -> None:
    annotator = actor_of("annotator")
    with services.db.write() as session:
        scene = Scene(session)
        for _ in range(4):
            scene.vote(scene.pair(), annotator, 1, active_ms=9_000)
        scene.vote(scene.pair(), ALI, 1, active_ms=9_000)

    def page() -> None:
        from console import auth, state
        from console.components import my_meters

        my_meters.draw(auth.actor(), state.require_tenant())

    opened = open_page("review", actor="annotator", language=language)
    shown = AppTest.from_function(page, default_timeout=60)
    for key in (state.TOKEN, state.TENANT, state.LANGUAGE):
        shown.session_state[key] = opened.session_state[key]
    shown.run()
    assert not shown.exception
    assert [metric.value for metric in shown.metric][:2] == ["4", "400"]
    assert len(shown.dataframe[0].value) == 5
