from __future__ import annotations

from services.bootstrap import Services
from services.tenants.models import Role
from tests.pages.conftest import SYSTEM, OpenPage, texts


def _user_id(services: Services, username: str) -> str:
    users = services.tenants.list_users(SYSTEM)
    return next(user.id for user in users if user.username == username)


def test_the_wrong_role_is_refused_by_address(open_page: OpenPage) -> None:
    for role in ("annotator", "engineer", "manager"):
        page = open_page("users", actor=role)
        assert "You may not do this" in page.error[0].value
        assert not page.title


def test_people_of_other_tenants_are_not_listed(open_page: OpenPage, services: Services) -> None:
    services.tenants.create_user(
        SYSTEM, "zoe", display_name="Zoe", grants={"globex": frozenset({Role.MANAGER})}
    )
    assert "Zoe" not in texts(open_page("users", actor="admin"))
    assert "Zoe" in texts(open_page("users", actor="root"))


def test_an_administrator_sees_the_users_of_the_tenant(open_page: OpenPage) -> None:
    page = open_page("users", actor="admin")
    assert page.title[0].value == "Users"
    assert all(name in texts(page) for name in ("Annotator", "Engineer", "Manager"))


def test_a_new_user_gets_a_password_that_is_shown_once(
    open_page: OpenPage, services: Services
) -> None:
    page = open_page("users", actor="admin")
    page.text_input(key="users.username").set_value("nur")
    page.text_input(key="users.display_name").set_value("Nur Çelik")
    page.button_group(key="users.roles").set_value([Role.ANNOTATOR])
    next(button for button in page.button if button.label == "Create user").click().run()
    password = page.code[0].value
    assert services.tenants.sign_in("nur", password).user.grants == {
        "acme": frozenset({Role.ANNOTATOR})
    }
    page.run()
    assert password not in texts(page)


def test_a_user_without_a_role_is_refused_in_words(open_page: OpenPage) -> None:
    page = open_page("users", actor="admin", language="tr")
    page.text_input(key="users.username").set_value("nur")
    page.text_input(key="users.display_name").set_value("Nur")
    next(button for button in page.button if button.label == "Kullanıcıyı oluştur").click().run()
    assert "Bu hâliyle kullanılamıyor" in page.error[0].value
    assert page.text_input(key="users.username").value == "nur"


def test_roles_change_in_this_tenant_only(open_page: OpenPage, services: Services) -> None:
    user_id = _user_id(services, "manager")
    elsewhere = {"acme": frozenset({Role.MANAGER}), "globex": frozenset({Role.ENGINEER})}
    services.tenants.set_grants(SYSTEM, user_id, elsewhere)
    page = open_page("users", actor="root")
    page.button_group(key=f"users.roles.{user_id}.acme").set_value([Role.ANNOTATOR])
    page.button(key=f"users.save.{user_id}").click().run()
    [user] = [user for user in services.tenants.list_users(SYSTEM) if user.id == user_id]
    assert user.grants == {**elsewhere, "acme": frozenset({Role.ANNOTATOR})}


def test_a_fresh_password_ends_old_sign_ins(open_page: OpenPage, services: Services) -> None:
    user_id = _user_id(services, "manager")
    page = open_page("users", actor="admin")
    page.button(key=f"users.reset.{user_id}").click().run()
    assert services.tenants.sign_in("manager", page.code[0].value)


def test_a_user_is_shut_out_and_let_in_again(open_page: OpenPage, services: Services) -> None:
    user_id = _user_id(services, "manager")
    page = open_page("users", actor="admin")
    page.button(key=f"users.disable.{user_id}").click().run()
    assert "shut out; all sign-ins have ended" in page.success[0].value
    assert open_page("home", actor="manager").title[0].value == "Sign in"
    page.button(key=f"users.disable.{user_id}").click().run()
    assert "may sign in again" in page.success[0].value


def test_nobody_shuts_themselves_out(open_page: OpenPage, services: Services) -> None:
    page = open_page("users", actor="admin")
    assert page.button(key=f"users.disable.{_user_id(services, 'admin')}").disabled
