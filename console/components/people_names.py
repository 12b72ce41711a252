"""What an annotator is called on the screen."""

from __future__ import annotations

from console.i18n import t
from labeling.people import Person


def of(person: Person | None) -> str:
    """A name where the reader may know it, a code otherwise; None is the AI."""
    if person is None:
        return t("agreement.ai")
    name = person.name or t("agreement.annotator", code=person.code)
    return t("agreement.yourself", name=name) if person.is_reader else name
