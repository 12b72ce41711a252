from __future__ import annotations

from collections.abc import Iterator

import pytest
import streamlit as st
from starlette.applications import Starlette
from starlette.testclient import TestClient

from console import auth

ORIGIN = {"origin": "http://testserver"}


@pytest.fixture
def browser(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    monkeypatch.setenv("PARAM_HOME", str(tmp_path_factory.mktemp("home")))
    st.cache_resource.clear()
    with TestClient(Starlette(routes=auth.routes())) as client:
        yield client
    st.cache_resource.clear()


def test_a_ticket_gives_a_cookie_that_no_script_can_read(browser: TestClient) -> None:
    ticket = auth.issue_ticket("the-token", 3600)
    answer = browser.post("/session", content=ticket, headers=ORIGIN)
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 204
    assert "=the-token;" in cookie
    assert {"HttpOnly", "SameSite=strict", "Max-Age=3600", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie


def test_behind_https_the_cookie_is_secure(browser: TestClient) -> None:
    headers = {**ORIGIN, "x-forwarded-proto": "https"}
    answer = browser.post("/session", content=auth.issue_ticket("t", 60), headers=headers)
    assert "Secure" in answer.headers["set-cookie"].split("; ")


def test_a_ticket_is_good_once(browser: TestClient) -> None:
    ticket = auth.issue_ticket("the-token", 3600)
    assert browser.post("/session", content=ticket, headers=ORIGIN).status_code == 204
    assert browser.post("/session", content=ticket, headers=ORIGIN).status_code == 403


def test_a_ticket_from_another_site_is_refused(browser: TestClient) -> None:
    ticket = auth.issue_ticket("the-token", 3600)
    foreign = {"origin": "http://elsewhere.example"}
    assert browser.post("/session", content=ticket, headers=foreign).status_code == 403
    assert browser.post("/session", content=auth.issue_ticket("t", 1)).status_code == 403


def test_a_late_ticket_is_refused(browser: TestClient) -> None:
    ticket = auth.issue_ticket("the-token", 3600, good_for_s=-1)
    assert browser.post("/session", content=ticket, headers=ORIGIN).status_code == 403


def test_an_invented_ticket_is_refused(browser: TestClient) -> None:
    assert browser.post("/session", content="x", headers=ORIGIN).status_code == 403
    assert browser.post("/session", content="ş" * 30, headers=ORIGIN).status_code == 403
    assert browser.post("/session", content="x" * 1000, headers=ORIGIN).status_code == 413
    assert browser.get("/session").status_code == 405


def test_a_sign_out_removes_the_cookie(browser: TestClient) -> None:
    answer = browser.post("/session", content=auth.issue_ticket(None), headers=ORIGIN)
    assert "Max-Age=0" in answer.headers["set-cookie"]
