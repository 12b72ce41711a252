"""Which pages there are, where they stand, and whose they are: one row a page.

Leaving a page out of a person's navigation is courtesy. The service behind the page decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from console.i18n import t
from services.tenants.models import Actor, Permission

PAGES = Path(__file__).parents[1] / "pages"
START = "start"
"""Never an address: Streamlit asks the page at the bare address for a name as well."""
_P = Permission


@dataclass(frozen=True)
class Row:
    """One page.

    Attributes:
        file: Name of the file in `pages/`, also its address.
        title: Key of its title.
        section: Key of the heading it stands under; empty for none.
        icon: Name of a Material symbol.
        permission: What a role must grant in the chosen tenant; None asks only for a sign-in.
        public: Open to everybody, signed in or not.
    """

    file: str
    title: str
    section: str
    icon: str
    permission: Permission | None = None
    public: bool = False

    @property
    def name(self) -> str:
        """The file without its ending."""
        return self.file.removesuffix(".py")

    def open_to(self, actor: Actor | None, tenant_id: str | None) -> bool:
        """Whether this person may open the page in this tenant."""
        if self.public:
            return True
        if actor is None:
            return False
        return self.permission is None or actor.may(self.permission, tenant_id or "*")


ROWS: tuple[Row, ...] = (
    Row("home.py", "nav.home", "", "cycle"),
    Row("review.py", "nav.review", "nav.section_pairs", "rate_review", _P.REVIEW),
    Row("pairs.py", "nav.pairs", "nav.section_pairs", "compare_arrows", _P.READ_PAIRS),
    Row("generate.py", "nav.generate", "nav.section_pairs", "auto_awesome", _P.READ_PAIRS),
    Row("agreement.py", "nav.agreement", "nav.section_pairs", "handshake", _P.READ_PAIRS),
    Row("quality.py", "nav.quality", "nav.section_pairs", "fact_check", _P.READ_PAIRS),
    Row("review_settings.py", "nav.review_settings", "nav.section_pairs", "tune", _P.EDIT_PAIRS),
    Row("labelstudio.py", "nav.labelstudio", "nav.section_pairs", "sync_alt", _P.READ_PAIRS),
    Row("train.py", "nav.train", "nav.section_models", "model_training", _P.READ_MODELS),
    Row("evaluate.py", "nav.evaluate", "nav.section_models", "balance", _P.READ_MODELS),
    Row("compare.py", "nav.compare", "nav.section_models", "stacked_bar_chart", _P.READ_MODELS),
    Row("lineage.py", "nav.lineage", "nav.section_models", "account_tree", _P.READ_MODELS),
    Row("rollouts.py", "nav.rollouts", "nav.section_models", "call_split", _P.READ_MODELS),
    Row("gateway.py", "nav.gateway", "nav.section_models", "hub", _P.OPERATE),
    Row("cost.py", "nav.cost", "nav.section_trust", "payments", _P.READ_COST),
    Row("audit.py", "nav.audit", "nav.section_trust", "history", _P.READ_AUDIT),
    Row("verify.py", "nav.verify", "nav.section_trust", "verified_user", public=True),
    Row("signing_keys.py", "nav.signing_keys", "nav.section_trust", "key", _P.READ_AUDIT),
    Row("tenants.py", "nav.tenants", "nav.section_admin", "apartment", _P.READ_TENANT),
    Row("policy.py", "nav.policy", "nav.section_admin", "shield", _P.READ_TENANT),
    Row("users.py", "nav.users", "nav.section_admin", "group", _P.MANAGE_USERS),
)


def page(
    actor: Actor | None,
    tenant_id: str | None,
    *,
    otherwise: Callable[[], None],
) -> st.Page:
    """Offer the pages that are open to this person and find the one that was asked for.

    A page that is not open keeps its address and draws `otherwise` there, so that somebody who
    signs in, or changes the tenant, lands where they wanted to go.
    """
    sections: dict[str, list[st.Page]] = {}
    for row in ROWS:
        is_open = row.open_to(actor, tenant_id)
        sections.setdefault(t(row.section) if row.section else "", []).append(
            st.Page(
                PAGES / row.file if is_open else otherwise,
                title=t(row.title),
                icon=f":material/{row.icon}:",
                url_path=START if row is ROWS[0] else row.name,
                default=row is ROWS[0],
                visibility="visible" if is_open else "hidden",
            )
        )
    # The start page's own address is the bare one; whoever writes its name is sent there.
    start = _to_start if ROWS[0].open_to(actor, tenant_id) else otherwise
    named = st.Page(start, title=t(ROWS[0].title), url_path=ROWS[0].name, visibility="hidden")
    sections[""].append(named)
    return st.navigation(sections, position="sidebar", expanded=True)


def _to_start() -> None:
    st.switch_page(PAGES / ROWS[0].file)


def link(name: str, actor: Actor | None, tenant_id: str | None, label: str | None = None) -> None:
    """Draw a link to a page, or only its label where the page is not open to this person.

    Args:
        name: The page's file without its ending.
        label: Already translated; the page's own title by default.
    """
    row = next((row for row in ROWS if row.name == name), None)
    if row is None or not row.open_to(actor, tenant_id):
        st.markdown(label or (t(row.title) if row else name))
        return
    st.page_link(PAGES / row.file, label=label or t(row.title), icon=f":material/{row.icon}:")
