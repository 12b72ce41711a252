from __future__ import annotations

from services.bootstrap import Services
from tests.pages.conftest import SYSTEM, OpenPage, texts


def test_a_manager_sees_the_keys_and_changes_none(open_page: OpenPage) -> None:
    page = open_page("signing_keys", actor="manager")
    shown = page.dataframe[0].value
    assert list(shown["purpose"]) == ["Receipts", "Checkpoints", "Events"]
    assert set(shown["state"]) == {"in use"}
    assert "Only an administrator" in page.info[0].value
    assert [chooser.key for chooser in page.selectbox] == ["tenant"]


def test_an_administrator_replaces_a_key(open_page: OpenPage, services: Services) -> None:
    page = open_page("signing_keys", actor="root")
    before = services.keyring.key("receipt").kid
    next(button for button in page.button if button.label == "Replace").click().run()
    assert services.keyring.key("receipt").kid != before
    assert "signs from now on" in page.success[0].value
    assert list(page.dataframe[0].value["state"])[:2] == ["in use", "replaced; still verifies"]


def test_an_administrator_revokes_a_key_with_a_reason(
    open_page: OpenPage, services: Services
) -> None:
    kid = services.keyring.key("event").kid
    page = open_page("signing_keys", actor="root")
    page.selectbox(key="signing_keys.revoked").set_value(kid)
    revoke = next(button for button in page.button if button.label == "Revoke")
    revoke.click().run()
    assert "expected 1 to 200 characters" in page.error[0].value
    page.selectbox(key="signing_keys.revoked").set_value(kid)
    page.text_input(key="signing_keys.why").set_value("laptop lost")
    next(button for button in page.button if button.label == "Revoke").click().run()
    assert "counts up to entry" in page.success[0].value
    assert "laptop lost" in list(page.dataframe[0].value["reason"])
    services.audit.sequence()
    told = services.audit.entries(SYSTEM, None, action="signing_key.revoked")
    assert told[0].details["reason"] == "laptop lost"
    assert "Traceback" not in texts(page)
