"""Questions that any assistant may be asked, where nobody named others."""

from __future__ import annotations

import json
from importlib.resources import files

from services.evaluation.models import Messages


def demo_questions() -> list[Messages]:
    """The questions of the bundled demo set, each as one user turn; none where it is not there."""
    path = files("services.preferences").joinpath("demo", "questions.json")
    if not path.is_file():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))
    texts = [row if isinstance(row, str) else str(row["question"]) for row in rows]
    return [({"role": "user", "content": text},) for text in texts]
