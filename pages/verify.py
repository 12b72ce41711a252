"""Verify: is a receipt genuine, and what does it say? Open to everybody."""

from __future__ import annotations

from console import auth
from console.components import heading, receipt_view
from console.i18n import t


def page() -> None:
    """Take a receipt in and draw what holds."""
    heading.draw(t("nav.verify"), t("verify.caption"))
    document = receipt_view.source(auth.user())
    compared = receipt_view.texts()
    if document is not None:
        receipt_view.draw(document, compared, auth.user())


page()
