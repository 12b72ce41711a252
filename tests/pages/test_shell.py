from __future__ import annotations

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from console import state
from services.bootstrap import Services
from services.tenants.models import Actor, Limits
from tests.pages.conftest import SHELL, OpenPage, texts

LIMITS = Limits(tps=1, rpm=1, daily_tokens=1)


def test_somebody_who_is_not_signed_in_sees_only_the_sign_in(open_page: OpenPage) -> None:
    for name in ("home", "pairs", "users"):
        page = open_page(name, actor=None)
        assert page.title[0].value == "Sign in"
        assert not page.selectbox


def test_signing_in_opens_the_page_that_was_asked_for(
    open_page: OpenPage, services: Services, actor_of: Callable[[str], Actor]
) -> None:
    _user, password = services.tenants.create_user(
        actor_of("root"),
        "nur",
        display_name="Nur",
        grants=dict(actor_of("admin").grants),
        language="tr",
    )
    page = open_page("users", actor=None)
    page.text_input[0].set_value(" nur ")
    page.text_input[1].set_value(password)
    page.button[0].click().run()
    assert page.title[0].value == "Kullanıcılar"
    assert page.session_state[state.TOKEN]
    assert state.COOKIE_TICKET in page.session_state


def test_a_wrong_password_is_refused_in_the_readers_language(open_page: OpenPage) -> None:
    page = open_page("home", actor=None, language="tr")
    page.text_input[0].set_value("nobody")
    page.text_input[1].set_value("not-the-password")
    page.button[0].click().run()
    assert "Oturum açılmadı" in page.error[0].value
    assert page.title[0].value == "Oturum aç"


def test_signing_out_ends_the_session_on_the_server(
    open_page: OpenPage, services: Services
) -> None:
    page = open_page("home")
    token = page.session_state[state.TOKEN]
    page.button(key="shared.sign_out").click().run()
    assert page.title[0].value == "Sign in"
    assert services.tenants.resume(token) is None
    assert state.TENANT not in page.session_state


def test_a_session_that_ended_elsewhere_ends_here(open_page: OpenPage, services: Services) -> None:
    page = open_page("home")
    services.tenants.sign_out(page.session_state[state.TOKEN])
    page.run()
    assert page.title[0].value == "Sign in"


def test_the_picker_offers_only_tenants_with_a_role(open_page: OpenPage) -> None:
    assert open_page("home", actor="engineer").selectbox(key=state.TENANT).options == ["Acme"]
    assert open_page("home", actor="root").selectbox(key=state.TENANT).options == ["Acme", "Globex"]


def test_a_tenant_without_a_role_cannot_be_chosen_by_hand(open_page: OpenPage) -> None:
    page = open_page("home", actor="engineer", tenant="globex")
    assert page.session_state[state.TENANT] == "acme"


def test_the_language_is_kept_for_the_user(open_page: OpenPage, services: Services) -> None:
    page = open_page("home")
    page.button_group(key="shared.language_choice").set_value("tr").run()
    assert "Oturumu kapat" in texts(page)
    user = services.tenants.resume(page.session_state[state.TOKEN])
    assert user is not None
    assert user.language == "tr"


@pytest.fixture
def by_address(services: Services, actor_of: Callable[[str], Actor]) -> Callable[[str], AppTest]:
    """Open the start page as root with `?tenant=…`, as from a link that somebody sent."""

    def open_(tenant: str) -> AppTest:
        opened = AppTest.from_file(str(SHELL), default_timeout=60)
        opened.session_state[state.LANGUAGE] = "en"
        opened.session_state[state.TOKEN] = _token(services, actor_of("root"))
        opened.query_params[state.TENANT] = tenant
        opened.run()
        assert not opened.exception, opened.exception
        return opened

    return open_


def _token(services: Services, root: Actor) -> str:
    _user, password = services.tenants.create_user(
        root, "visitor", display_name="V", grants=dict(root.grants)
    )
    return services.tenants.sign_in("visitor", password).token


def test_an_address_names_a_tenant_by_its_name_or_its_id(
    by_address: Callable[[str], AppTest], services: Services, actor_of: Callable[[str], Actor]
) -> None:
    made = services.tenants.create(actor_of("root"), "Zeta Ltd.", limits=LIMITS)
    assert by_address(made.id).session_state[state.TENANT] == made.id


def test_an_address_with_no_such_tenant_opens_the_first(
    by_address: Callable[[str], AppTest],
) -> None:
    assert by_address("nobodys").session_state[state.TENANT] == "acme"


def test_tenants_of_the_same_name_are_told_apart_by_their_ids(
    open_page: OpenPage, services: Services, actor_of: Callable[[str], Actor]
) -> None:
    made = services.tenants.create(actor_of("root"), "Acme", limits=LIMITS, tenant_id="acme-2")
    page = open_page("home", actor="root")
    assert page.selectbox(key=state.TENANT).options == [
        "Acme (acme)",
        f"Acme ({made.id})",
        "Globex",
    ]
    page.selectbox(key=state.TENANT).select_index(1).run()
    assert page.session_state[state.TENANT] == made.id


@pytest.mark.parametrize("name", ["home", "tenants", "users"])
def test_a_tenants_name_is_never_markdown(
    open_page: OpenPage, services: Services, actor_of: Callable[[str], Actor], name: str
) -> None:
    made = services.tenants.create(actor_of("root"), "![x](http://evil.test/x.png)", limits=LIMITS)
    page = open_page(name, actor="root", tenant=made.id)
    assert "evil" in texts(page)
    assert "![x](" not in texts(page)
