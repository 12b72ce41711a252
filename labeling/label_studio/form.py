"""The form that annotators fill in over there, and what it is filled with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from labeling.label_studio.models import FormLanguage
from labeling.models import Verdict
from services.preferences.evidence import AiVerdict
from services.preferences.models import CRITERIA, FLAGS, Response, Turn

SIDES = ("a", "b")
VERDICTS: Mapping[str, Verdict] = {
    "a3": -3, "a2": -2, "a1": -1, "tie": 0, "b1": 1, "b2": 2, "b3": 3, "both_bad": "both_bad",
}  # fmt: skip
"""What each choice means; the response that is shown as A is our left one."""

KEY = "param_task"
"""Names our task in the data of the task over there."""

SHOWN = ("turns", "response_a", "response_b")

TITLE_LENGTHS = range(3, 51)
"""Characters that the server takes in the title of a project."""
MARK = "Param Console"

_WORDS: Mapping[FormLanguage, Mapping[str, str]] = {
    "en": {
        "prompt": "Prompt",
        "response_a": "Response A",
        "response_b": "Response B",
        "question": "Which response is better?",
        "a3": "A is much better",
        "a2": "A is better",
        "a1": "A is slightly better",
        "tie": "Equally good",
        "b1": "B is slightly better",
        "b2": "B is better",
        "b3": "B is much better",
        "both_bad": "Both are bad",
        "required": "Choose one of the eight",
        "relevance": "Relevance",
        "helpfulness": "Helpfulness",
        "accuracy": "Accuracy",
        "safety": "Safety",
        "clarity": "Clarity",
        "ratings": "Ratings (optional)",
        "edits": "Mend a response (optional)",
        "flags": "Flags: somebody else should look at this",
        "unsafe": "Unsafe",
        "factual_error": "Factual error",
        "bad_prompt": "Bad prompt",
        "needs_expert": "Needs an expert",
        "note": "Note",
    },
    "tr": {
        "prompt": "İstem",
        "response_a": "Yanıt A",
        "response_b": "Yanıt B",
        "question": "Hangi yanıt daha iyi?",
        "a3": "A çok daha iyi",
        "a2": "A daha iyi",
        "a1": "A biraz daha iyi",
        "tie": "Aynı derecede iyi",
        "b1": "B biraz daha iyi",
        "b2": "B daha iyi",
        "b3": "B çok daha iyi",
        "both_bad": "İkisi de kötü",
        "required": "Sekiz seçenekten birini seçin",
        "relevance": "İlgililik",
        "helpfulness": "Yararlılık",
        "accuracy": "Doğruluk",
        "safety": "Güvenlik",
        "clarity": "Açıklık",
        "ratings": "Puanlar (isteğe bağlı)",
        "edits": "Bir yanıtı düzeltin (isteğe bağlı)",
        "flags": "İşaretler: buna başka biri de bakmalı",
        "unsafe": "Güvenli değil",
        "factual_error": "Bilgi hatası",
        "bad_prompt": "Kötü istem",
        "needs_expert": "Uzman gerekli",
        "note": "Not",
    },
}

_STYLE = (
    ".pc-prompt{background:#f4f5f7;border-radius:6px;padding:8px 12px;margin-bottom:12px}"
    ".pc-pair{display:flex;gap:16px;margin-bottom:12px}"
    ".pc-col{flex:1 1 0;min-width:0;white-space:pre-wrap;overflow-wrap:anywhere;"
    "border:1px solid #cbd5e1;border-radius:6px;padding:12px}"
)


def config(language: FormLanguage) -> str:
    """The labeling configuration, XML; the same language gives the same text."""
    words = {name: escape(text, quote=True) for name, text in _WORDS[language].items()}

    def choices(names: Sequence[str], *, with_keys: bool = False) -> str:
        return "".join(
            f'<Choice value="{words[name]}" alias="{name}"'
            + (f' hotkey="{number}"' if with_keys else "")
            + "/>"
            for number, name in enumerate(names, 1)
        )

    def column(side: str) -> str:
        return (
            f'<View className="pc-col"><Header value="{words[f"response_{side}"]}" size="5"/>'
            f'<Text name="response_{side}" value="$response_{side}"/></View>'
        )

    def ratings(side: str) -> str:
        stars = "".join(
            f'<Header value="{words[criterion]}" size="6"/>'
            f'<Rating name="{criterion}_{side}" toName="response_{side}" maxRating="5"/>'
            for criterion in CRITERIA
        )
        return f'<View className="pc-col"><Header value="{words[f"response_{side}"]}" size="6"/>{stars}</View>'

    def edit(side: str) -> str:
        return (
            f'<View className="pc-col"><Header value="{words[f"response_{side}"]}" size="6"/>'
            f'<TextArea name="edit_{side}" toName="response_{side}" value="$response_{side}" '
            'rows="8" editable="true" maxSubmissions="1" showSubmitButton="false"/></View>'
        )

    def both(part: Any) -> str:
        return f'<View className="pc-pair">{"".join(part(side) for side in SIDES)}</View>'

    return (
        f"<View><Style>{_STYLE}</Style>"
        f'<View className="pc-prompt"><Header value="{words["prompt"]}" size="5"/>'
        '<Paragraphs name="prompt" value="$turns" layout="dialogue" nameKey="role" '
        'textKey="content"/></View>'
        f"{both(column)}"
        f'<Header value="{words["question"]}" size="5"/>'
        '<Choices name="preference" toName="prompt" choice="single-radio" showInline="true" '
        f'required="true" requiredMessage="{words["required"]}">'
        f"{choices(list(VERDICTS), with_keys=True)}</Choices>"
        f'<Header value="{words["ratings"]}" size="5"/>{both(ratings)}'
        f'<Header value="{words["edits"]}" size="5"/>{both(edit)}'
        f'<Header value="{words["flags"]}" size="5"/>'
        '<Choices name="flags" toName="prompt" choice="multiple" showInline="true">'
        f"{choices(FLAGS)}</Choices>"
        f'<Header value="{words["note"]}" size="5"/>'
        '<TextArea name="note" toName="prompt" rows="3" editable="true" maxSubmissions="1" '
        'showSubmitButton="false"/></View>'
    )


def instruction(guidelines: Mapping[str, str], language: FormLanguage) -> str:
    """The tenant's guidelines as HTML that shows them as they were written."""
    text = guidelines.get(language) or next((one for one in guidelines.values() if one), "")
    return escape(text).replace("\n", "<br>")


def description(project_id: str) -> str:
    """What tells our project from others over there."""
    return f"{MARK} {project_id}"


def task_data(
    key: str, pair_id: str, turns: Sequence[Turn], left: Response, right: Response
) -> dict[str, Any]:
    """What a task shows: the texts, and which they are; no score, no name of a model."""
    return {
        KEY: key,
        "pair_id": pair_id,
        "left_id": left.id,
        "right_id": right.id,
        "turns": [{"role": turn.role, "content": turn.content} for turn in turns],
        "response_a": left.text,
        "response_b": right.text,
    }


def shows_the_same(found: Mapping[str, Any], sent: Mapping[str, Any]) -> bool:
    """Whether annotators are shown what was sent: everybody over there can change a task."""
    return all(found.get(name) == sent[name] for name in SHOWN)


def prediction(verdict: AiVerdict, left_id: str) -> dict[str, Any]:
    """What the AI prefers, as a prediction: the choice alone.

    Ratings are left out on purpose: stars that somebody has not touched come back as if that
    person had given them.
    """
    if verdict.preferred_response_id is None:
        choice = "tie"
    else:
        side = "a" if verdict.preferred_response_id == left_id else "b"
        choice = f"{side}{min(3, max(1, verdict.strength))}"
    return {
        "model_version": (verdict.judge or "imported scores")[:200],
        "score": 0.0 if verdict.margin is None else round(min(1.0, verdict.margin / 10), 4),
        "result": [
            {
                "id": "preference",
                "from_name": "preference",
                "to_name": "prompt",
                "type": "choices",
                "value": {"choices": [choice]},
            }
        ],
    }
