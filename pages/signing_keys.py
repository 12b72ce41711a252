"""Signing keys: what receipts, checkpoints and events are signed with, replaced and revoked here."""

from __future__ import annotations

from console import auth, wiring
from console.components import heading, keys_view
from console.i18n import t
from services.tenants.models import EVERY_TENANT, Permission


def page() -> None:
    """Draw the keys; replacing and revoking is for those who administer the installation."""
    heading.draw(t("nav.signing_keys"), t("signing_keys.caption"))
    keys = wiring.services().evidence.signing_keys
    keys.reconcile()
    found = keys.list()
    keys_view.draw(found)
    if auth.actor().may(Permission.MANAGE_TENANT, EVERY_TENANT):
        keys_view.change(found)
    else:
        keys_view.explain()


page()
