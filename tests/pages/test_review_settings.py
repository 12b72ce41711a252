from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from console import wiring
from labeling.models import ReviewPolicy
from services.bootstrap import Services
from services.tenants.models import Actor
from tests.pages.conftest import OpenPage, texts

ActorOf = Callable[[str], Actor]


def press(page: Any, label: str) -> Any:
    return next(button for button in page.button if button.label == label).click().run()


@pytest.mark.parametrize("role", ["annotator", "manager", "admin"])
def test_the_wrong_role_is_refused(open_page: OpenPage, role: str) -> None:
    page = open_page("review_settings", actor=role)
    assert "You may not do this" in page.error[0].value


def test_another_tenant_cannot_be_looked_at(open_page: OpenPage, actor_of: ActorOf) -> None:
    wiring.policies().change(actor_of("engineer"), "acme", ReviewPolicy(overlap=2, risky_overlap=4))
    page = open_page("review_settings", tenant="globex")
    # The shell falls back to the tenant in which the person has a role.
    assert page.number_input(key="review_settings.overlap").value == 2


def test_an_engineer_changes_the_rules(open_page: OpenPage, actor_of: ActorOf) -> None:
    page = open_page("review_settings")
    for name, value in (("overlap", 2), ("risky_overlap", 3), ("gold_every", 20)):
        page.number_input(key=f"review_settings.{name}").set_value(value)
    page.number_input(key="review_settings.too_fast_s").set_value(1.5)
    page.toggle(key="review_settings.reveal").set_value(False)
    page.text_area(key="review_settings.guidelines.tr").set_value("Doğru olanı seçin.")
    press(page, "Save")
    assert "Saved" in page.success[0].value
    assert wiring.policies().get(actor_of("annotator"), "acme") == ReviewPolicy(
        2, 3, False, 20, 1_500, {"tr": "Doğru olanı seçin."}
    )


def test_rules_that_cannot_hold_are_refused_in_words(
    open_page: OpenPage, actor_of: ActorOf
) -> None:
    page = open_page("review_settings")
    page.number_input(key="review_settings.gold_every").set_value(1)
    press(page, "Save")
    assert "expected 0 or at least 2, found 1" in page.error[0].value
    assert wiring.policies().get(actor_of("engineer"), "acme") == ReviewPolicy()


def test_risky_pairs_are_asked_of_no_fewer_people(open_page: OpenPage, actor_of: ActorOf) -> None:
    page = open_page("review_settings")
    page.number_input(key="review_settings.overlap").set_value(3)
    press(page, "Save")
    assert wiring.policies().get(actor_of("engineer"), "acme").risky_overlap == 3


def test_a_group_is_made_changed_and_ended(
    open_page: OpenPage, services: Services, actor_of: ActorOf
) -> None:
    annotator, engineer = actor_of("annotator"), actor_of("engineer")
    page = open_page("review_settings")
    assert "No group yet" in "".join(str(one.proto.body) for one in page.get("html"))
    members = page.multiselect(key="review_settings.members.new")
    assert {*members.options} == {"Annotator", "Engineer"}
    page.text_input(key="review_settings.name.new").set_value("*Law*")
    members.set_value([annotator.id])
    press(page, "Create group")
    (made,) = wiring.policies().groups(engineer, "acme")
    assert (made.name, made.members) == ("*Law*", (annotator.id,))
    assert r"**\*Law\***" in texts(page)
    page.multiselect(key=f"review_settings.members.{made.id}").set_value(
        [annotator.id, engineer.id]
    )
    page.button(f"FormSubmitter:review_settings.group.{made.id}-Save").click().run()
    assert "2 members" in texts(page)
    page.button(key=f"review_settings.end.{made.id}").click().run()
    assert wiring.policies().groups(engineer, "acme") == ()


def test_it_reads_turkish(open_page: OpenPage) -> None:
    page = open_page("review_settings", language="tr")
    assert page.title[0].value == "İnceleme ayarları"
    assert "Riskli çift başına kişi" in {one.label for one in page.number_input}
