"""A receipt: where it comes from, what was checked, what it says, and what it cannot show."""

from __future__ import annotations

import json
from dataclasses import dataclass

import streamlit as st

from console import state, wiring
from console.components import amount, errors, heading
from console.components.text import plain
from console.i18n import language, number, percent, t, when
from services.attestation.checks import Check
from services.attestation.files import read_file
from services.attestation.page import verifier_page
from services.attestation.receipts import ReceiptFacts, VerifiedReceipt, facts_of
from services.attestation.words import Refused, sentence, translated_limit, word
from services.errors import NotFound
from services.tenants.models import Permission, User

MAX_UPLOAD_MB = 4
SOURCES = ("file", "paste", "issued")


@dataclass(frozen=True)
class Texts:
    """The exact bytes that a receipt is compared with, where they were given."""

    request: bytes | None
    response: bytes | None


def source(user: User | None) -> bytes | None:
    """Ask for a receipt: a file, pasted text, or one that was issued here."""
    asked = st.query_params.get("receipt")
    if asked:
        return _issued(user, asked)
    tenant_id = state.tenant_id()
    may_list = (
        user is not None
        and tenant_id is not None
        and user.actor().may(Permission.READ_AUDIT, tenant_id)
    )
    kind = st.segmented_control(
        t("verify.source"), SOURCES if may_list else SOURCES[:2], default="file", required=True,
        format_func=lambda name: t(f"verify.source_{name}"), key="verify.source",
        label_visibility="collapsed",
    )  # fmt: skip
    if kind == "issued" and user is not None and tenant_id is not None:
        return _one_of(user, tenant_id)
    if kind == "paste":
        pasted = st.text_area(
            t("verify.paste"), key="verify.paste", height=180, placeholder='{"envelope": …}'
        )
        return pasted.encode() if pasted.strip() else None
    dropped = st.file_uploader(
        t("verify.file"), type=["json"], key="verify.file", max_upload_size=4
    )
    return dropped.getvalue() if dropped is not None else None


def _issued(user: User | None, receipt_id: str) -> bytes | None:
    """The receipt of the address, for those who may read it."""
    if user is None:
        st.info(t("verify.sign_in_or_drop"), icon=":material/info:")
        return _without_address()
    try:
        found = wiring.services().receipts.get(user.actor(), receipt_id)
    except NotFound:
        st.info(t("verify.not_yours"), icon=":material/info:")
        return _without_address()
    st.caption(t("verify.loaded", id=found.receipt_id))
    return json.dumps(found.document()).encode()


def _without_address() -> bytes | None:
    dropped = st.file_uploader(
        t("verify.file"), type=["json"], key="verify.dropped", max_upload_size=4
    )
    return dropped.getvalue() if dropped is not None else None


def _one_of(user: User, tenant_id: str) -> bytes | None:
    recent = wiring.services().receipts.recent(user.actor(), tenant_id)
    if not recent:
        st.caption(t("verify.none_issued"))
        return None
    zone = wiring.services().tenants.get(user.actor(), tenant_id).timezone
    found = {receipt.receipt_id: receipt for receipt in recent}
    chosen = st.selectbox(
        t("verify.issued"), list(found), key="verify.issued",
        format_func=lambda one: f"{when(found[one].created_at, zone)} · {one}",
    )  # fmt: skip
    return json.dumps(found[chosen].document()).encode() if chosen else None


def texts() -> Texts:
    """Ask for the bytes of request and response."""
    with st.expander(t("verify.compare")):
        st.caption(t("verify.compare_text"))
        left, right = st.columns(2)
        request = left.file_uploader(
            t("verify.request"), key="verify.request", max_upload_size=MAX_UPLOAD_MB
        )
        response = right.file_uploader(
            t("verify.response"), key="verify.response", max_upload_size=MAX_UPLOAD_MB
        )
    return Texts(request.getvalue() if request else None, response.getvalue() if response else None)


def draw(document: bytes, compared: Texts, user: User | None) -> None:
    """Check the receipt and draw everything; a receipt that does not hold says nothing."""
    with errors.shown():
        try:
            found = wiring.services().receipts.verify_document(
                read_file(document), request=compared.request, response=compared.response
            )
        except Refused as error:
            _refused(error)
            return
        _outcome(found)
        checks(found.checks)
        facts(facts_of(found.statement), found.kid)
        limits(found)
        take_along(user, found)


def _refused(error: Refused) -> None:
    """Say why nothing that it says counts, in the words of all verifiers."""
    why = sentence(error.reason, error.values, error.where, language())
    st.error(f"**{errors.heading(error)}**  \n{plain(why)}", icon=":material/gpp_bad:")


def _outcome(found: VerifiedReceipt) -> None:
    if found.holds:
        st.success(
            f"**{t('verify.holds')}**  \n{t('verify.holds_text')}", icon=":material/verified:"
        )
    else:
        st.error(f"**{t('verify.fails')}**  \n{t('verify.fails_text')}", icon=":material/gpp_bad:")


def take_along(user: User | None, found: VerifiedReceipt) -> None:
    """Offer what others need to check the receipt by themselves."""
    heading.section(t("verify.take"), t("verify.take_caption"))
    receipt_id = found.statement["predicate"]["receiptId"]
    with st.container(horizontal=True):
        if user is not None and _is_readable(user, receipt_id):
            st.download_button(
                t("verify.take_bundle"), lambda: _bundle(user, receipt_id),
                file_name=f"proof-{receipt_id}.json", mime="application/json",
                icon=":material/inventory_2:", on_click="ignore", key="verify.bundle",
            )  # fmt: skip
        st.download_button(
            t("verify.take_page"), verifier_page()[0], file_name="verify.html", mime="text/html",
            icon=":material/public:", on_click="ignore", key="verify.page",
        )  # fmt: skip
        st.download_button(
            t("verify.take_keys"), lambda: json.dumps(wiring.services().keyring.jwks(), indent=1),
            file_name="jwks.json", mime="application/json",
            icon=":material/key:", on_click="ignore", key="verify.keys",
        )  # fmt: skip


def _is_readable(user: User, receipt_id: str) -> bool:
    try:
        wiring.services().receipts.get(user.actor(), receipt_id)
    except NotFound:
        return False
    return True


def _bundle(user: User, receipt_id: str) -> str:
    wiring.services().audit.sequence()
    found = wiring.services().evidence.bundles.make(user.actor(), receipt_id)
    return json.dumps(found, indent=1)


def checks(found: list[Check]) -> None:
    """Draw each check with a sign and a word, then the detail."""
    heading.section(t("verify.checks"))
    st.dataframe(
        [
            {
                "result": f"✓ {t('verify.yes')}" if check.ok else f"✗ {t('verify.no')}",
                "check": word("checks", check.name, language()),
                "detail": check.told(language()),
            }
            for check in found
        ],
        column_config={
            "result": st.column_config.Column(t("verify.result"), width="small"),
            "check": st.column_config.Column(t("verify.check"), width="medium"),
            "detail": st.column_config.Column(t("verify.detail"), width="large"),
        },
        hide_index=True,
        height="content",
    )


def facts(found: ReceiptFacts, kid: str) -> None:
    """Draw what the receipt says."""
    heading.section(t("verify.facts"))
    answered = {
        t("verify.served"): found.served,
        t("verify.adapter_digest"): found.adapter_digest or t("verify.no_adapter"),
        t("verify.base"): found.base_model,
        t("verify.base_digest"): found.base_digest or "–",
        t("verify.alias"): found.alias,
        t("verify.arm"): t("verify.arm_share", arm=t(f"verify.arm_{found.arm}"),
                           share=percent(found.percent / 100)),
    }  # fmt: skip
    billed = {
        t("verify.tokens"): f"{number(found.prompt_tokens)} + {number(found.completion_tokens)}",
        t("verify.cost"): t("verify.cost_by", cost=amount.shown(found.cost_micro),
                            version=found.price_version),
        t("verify.policy"): t("verify.policy_found", version=found.policy_version,
                              digest=found.policy_digest[:12], count=found.findings),
        t("verify.ended"): t("verify.ended_partial") if found.partial else found.finish_reason,
        t("verify.received"): _moment(found.received_at.isoformat(), when(found.received_at)),
        t("verify.completed"): _moment(found.completed_at.isoformat(), when(found.completed_at)),
    }  # fmt: skip
    ids = {
        t("verify.issuer"): found.issuer,
        t("verify.tenant"): found.tenant_id,
        t("verify.actor"): found.actor_id,
        t("verify.receipt_id"): found.receipt_id,
        t("verify.request_id"): found.request_id,
        t("verify.audit_seq"): number(found.audit_seq),
        t("verify.key_id"): kid,
    }
    st.dataframe(
        [{"name": name, "value": value} for name, value in (answered | billed | ids).items()],
        column_config={
            "name": st.column_config.Column(t("verify.what"), width="medium"),
            "value": st.column_config.Column(t("verify.value"), width="large"),
        },
        hide_index=True,
        height="content",
    )


def _moment(exact: str, local: str) -> str:
    return f"{local} · {exact}"


def limits(found: VerifiedReceipt) -> None:
    """Draw what no check here can show."""
    heading.section(t("verify.limits"), t("verify.limits_caption"))
    lines = [translated_limit(text, language()) for text in found.not_established]
    st.markdown("\n".join(f"- {line}" for line in lines))
