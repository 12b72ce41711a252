from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from services.bootstrap import Services
from services.tenants.models import Actor
from tests.pages import seeds
from tests.pages.conftest import OpenPage, texts


def _document(services: Services, receipt_id: str) -> dict[str, Any]:
    return services.receipts.get(seeds.SYSTEM, receipt_id).document()


def _paste(page: AppTest, document: dict[str, Any] | str) -> AppTest:
    page.button_group(key="verify.source").set_value("paste").run()
    body = document if isinstance(document, str) else json.dumps(document)
    page.text_area(key="verify.paste").set_value(body).run()
    assert not page.exception
    return page


def _checks(page: AppTest) -> dict[str, str]:
    table = page.dataframe[0].value
    return dict(zip(table["check"], table["result"], strict=True))


def test_it_is_open_to_somebody_who_is_not_signed_in(open_page: OpenPage) -> None:
    page = open_page("verify", actor=None)
    assert page.title[0].value == "Verify"
    assert len(page.get("file_uploader")) == 3
    assert not page.dataframe


def test_a_stranger_verifies_a_receipt_and_reads_what_it_says(
    open_page: OpenPage, services: Services
) -> None:
    receipt_id = seeds.receipt(services)
    page = _paste(open_page("verify", actor=None), _document(services, receipt_id))
    assert "The receipt holds" in page.success[0].value
    assert set(_checks(page).values()) == {"✓ holds"}
    facts = dict(page.dataframe[1].value.itertuples(index=False))
    assert facts["Answered by"] == "acme-3fa2c1d09b7e"
    assert facts["Adapter, SHA-256"].startswith("3fa2c1d09b7e")
    assert facts["Arm"] == "candidate (candidate at 10%)"
    assert facts["Tokens, prompt + answer"] == "12 + 34"
    assert facts["Cost"] == "0.000015 USD (price table 1)"
    assert "no hardware attests it" in texts(page)


def test_a_file_is_read_as_pasted_text_is(open_page: OpenPage, services: Services) -> None:
    document = json.dumps(_document(services, seeds.receipt(services))).encode()
    page = open_page("verify", actor=None)
    page.file_uploader(key="verify.file").set_value(("r.json", document, "application/json"))
    page.file_uploader(key="verify.request").set_value(("q.json", seeds.REQUEST, "text/plain"))
    page.file_uploader(key="verify.response").set_value(("a.json", b"other", "text/plain")).run()
    found = _checks(page)
    assert found["Request"] == "✓ holds"
    assert found["Answer"] == "✗ fails"
    assert "Not everything holds" in page.error[0].value


def test_a_changed_receipt_says_nothing_but_that_it_does_not_hold(
    open_page: OpenPage, services: Services
) -> None:
    document = _document(services, seeds.receipt(services))
    payload = base64.b64decode(document["envelope"]["payload"]).replace(
        b'"micro":"15"', b'"micro":"14"'
    )
    document["envelope"]["payload"] = base64.b64encode(payload).decode()
    page = open_page("verify", actor=None, language="tr")
    body = json.dumps(document).encode()
    page.file_uploader(key="verify.file").set_value(("r.json", body, "application/json")).run()
    assert "Kanıt geçerli değil" in page.error[0].value
    assert not page.dataframe
    assert not page.success


def test_what_is_no_receipt_is_refused_in_one_sentence(open_page: OpenPage) -> None:
    page = _paste(open_page("verify", actor=None), "{not json")
    assert "expected strict JSON" in page.error[0].value
    assert not page.dataframe


def test_an_audit_entry_that_is_another_fails_the_check(
    open_page: OpenPage, services: Services
) -> None:
    document = _document(services, seeds.receipt(services))
    with services.db.engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER audit_log_no_update")
        connection.exec_driver_sql("UPDATE audit_log SET leaf_hash = '00'")
    page = _paste(open_page("verify", actor=None), document)
    assert _checks(page)["Audit log"] == "✗ fails"


def _at(open_page: OpenPage, receipt_id: str, actor: str | None) -> AppTest:
    page = open_page("verify", actor=actor)
    page.query_params["receipt"] = receipt_id
    page.run()
    assert not page.exception
    return page


def test_the_address_loads_a_receipt_for_those_who_may_read_it(
    open_page: OpenPage, services: Services
) -> None:
    page = _at(open_page, seeds.receipt(services), "manager")
    assert "The receipt holds" in page.success[0].value
    assert seeds.SALT.hex() not in texts(page)


def test_the_address_shows_nothing_to_others(
    open_page: OpenPage, services: Services, actor_of: Callable[[str], Actor]
) -> None:
    mine, foreign = seeds.receipt(services), seeds.receipt(services, "globex")
    signed_out = _at(open_page, mine, None)
    assert "A receipt's id alone shows nothing" in signed_out.info[0].value
    for actor, receipt_id in (("annotator", mine), ("manager", foreign), ("manager", "nothing")):
        page = _at(open_page, receipt_id, actor)
        assert "No receipt of this id is in your tenants" in page.info[0].value
        assert not page.dataframe
        assert not page.success


def test_a_manager_chooses_among_the_receipts_of_the_tenant(
    open_page: OpenPage, services: Services
) -> None:
    mine, foreign = seeds.receipt(services), seeds.receipt(services, "globex")
    page = open_page("verify", actor="manager")
    page.button_group(key="verify.source").set_value("issued").run()
    options = " ".join(page.selectbox(key="verify.issued").options)
    assert mine in options
    assert foreign not in options
    assert "The receipt holds" in page.success[0].value


def test_details_and_limits_are_read_in_turkish_too(
    open_page: OpenPage, services: Services
) -> None:
    document = json.dumps(_document(services, seeds.receipt(services))).encode()
    page = open_page("verify", actor=None, language="tr")
    page.file_uploader(key="verify.file").set_value(("r.json", document, "application/json")).run()
    details = " ".join(page.dataframe[0].value["detail"])
    assert "yanında başka bir şey yok" in details
    assert "makbuzlar için güvenilir" in details
    assert "trusted" not in details
    assert "donanım tanıklığı yoktur" in texts(page)


def test_a_refusal_is_read_in_turkish_too(open_page: OpenPage) -> None:
    page = open_page("verify", actor=None, language="tr")
    page.file_uploader(key="verify.file").set_value(("r.json", b"{", "application/json")).run()
    assert "katı JSON beklenirdi" in page.error[0].value
