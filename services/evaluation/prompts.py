"""Questions that any assistant may be asked, where nobody named others."""

from __future__ import annotations

from services.evaluation.models import Messages
from services.preferences.demo.content import questions


def demo_questions() -> list[Messages]:
    """The questions of the bundled demo set, each as one user turn."""
    return [({"role": "user", "content": found.question},) for found in questions()]
