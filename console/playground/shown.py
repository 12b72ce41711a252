"""HTML of what the page shows beside the chat. Every value is escaped here and nowhere else."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import cache
from html import escape
from typing import Any
from urllib.parse import quote

from markdown_it import MarkdownIt

from console.playground.client import Answer
from console.playground.texts import TEXTS

MARK = (
    '<svg viewBox="0 0 32 32" width="26" height="26" aria-hidden="true">'
    '<rect width="32" height="32" rx="8" fill="#0f6b5c"/>'
    '<path d="M9 16a7 7 0 0 1 12.2-4.7M23 16a7 7 0 0 1-12.2 4.7" fill="none" stroke="#fff" '
    'stroke-width="2.6" stroke-linecap="round"/>'
    '<path d="M22.6 7.2v4.9h-4.9M9.4 24.8v-4.9h4.9" fill="none" stroke="#fff" stroke-width="2.6" '
    'stroke-linecap="round" stroke-linejoin="round"/>'
    '<circle cx="16" cy="16" r="2.2" fill="#9fe3d3"/></svg>'
)


@cache
def _markdown() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False, "breaks": True})
    reader.enable(["table", "strikethrough"])
    return reader.disable(["image", "link", "autolink", "reference", "html_block", "html_inline"])


def text(value: str, *, as_markdown: bool) -> str:
    """Text of a model or a person as safe HTML, on one line.

    Args:
        as_markdown: Draw lists, emphasis, code and tables; never links, pictures or tags. Else
            the characters are shown as they are.

    The chat component reads what it is given as Markdown once more; a block without an empty
    line passes through that unchanged.
    """
    kind, html = "pg-raw", escape(value)
    if as_markdown:
        kind, html = "pg-md", _markdown().render(value)
    return f'<div class="{kind}">{html.strip()}</div>'.replace("\r", "").replace("\n", "&#10;")


def heading(language: str) -> str:
    """The page's head."""
    texts = TEXTS[language]
    return (
        f'<div class="pg-head">{MARK}<div><h1>{escape(texts["title"])}</h1>'
        f"<p>{escape(texts['lead'])}</p></div></div>"
    )


def account(name: str, language: str) -> str:
    """For whom somebody is signed in."""
    return (
        f'<div class="pg-account"><span>{escape(TEXTS[language]["signed_in_as"])}</span> '
        f"<b>{escape(name)}</b></div>"
    )


def problem(sentence: str) -> str:
    """One sentence about what went wrong; nothing for an empty one."""
    return f'<p class="pg-problem" role="alert">{escape(sentence)}</p>' if sentence else ""


def facts(answer: Answer | None, language: str) -> str:
    """What is known of the last answer."""
    texts = TEXTS[language]
    title = f"<h2>{escape(texts['facts'])}</h2>"
    if answer is None:
        return f'<section class="pg-facts">{title}<p>{escape(texts["no_facts"])}</p></section>'
    arm = answer.arm if answer.arm in {"stable", "canary", "pinned", "fallback"} else ""
    rows = (
        ("served", f"<code>{escape(answer.model or texts['unknown'])}</code>"),
        (
            "arm",
            f'<span class="pg-arm pg-{arm}">{escape(texts[f"arm_{arm}"])}</span>'
            if arm
            else escape(texts["unknown"]),
        ),
        ("tokens", escape(_tokens(answer, texts))),
        ("cost", escape(_cost(answer, texts))),
        ("latency", escape(_latency(answer, texts))),
        ("receipt", f"<code>{escape(answer.receipt_id or texts['unknown'])}</code>"),
    )
    body = "".join(f"<dt>{escape(texts[name])}</dt><dd>{value}</dd>" for name, value in rows)
    note = texts["stopped"] if answer.is_stopped else ""
    if answer.finish_reason == "length":
        note = texts["cut"]
    return f'<section class="pg-facts">{title}<dl>{body}</dl>{_note(note)}</section>'


def receipt_links(
    answer: Answer | None, receipt: Mapping[str, Any] | None, console_url: str, language: str
) -> str:
    """Where the receipt can be checked and had; nothing before there is one."""
    if answer is None or not answer.receipt_id:
        return ""
    texts = TEXTS[language]
    page = f"{console_url}/verify?receipt={quote(answer.receipt_id, safe='')}"
    links = (
        f'<a href="{escape(page)}" target="_blank" rel="noopener noreferrer">'
        f"{escape(texts['verify_link'])}</a>"
    )
    if receipt is not None:
        document = json.dumps(receipt, ensure_ascii=False, indent=2).encode()
        packed = base64.b64encode(document).decode()
        name = f"receipt-{answer.receipt_id}.json"
        links += (
            f'<a download="{escape(name)}" href="data:application/json;base64,{packed}">'
            f"{escape(texts['download'])}</a>"
        )
    return f'<nav class="pg-links">{links}</nav>'


def checks(found: Mapping[str, Any] | None, language: str) -> str:
    """What a check of the receipt found; nothing before it was asked for."""
    if found is None:
        return ""
    texts = TEXTS[language]
    rows = "".join(_check(check, texts) for check in found.get("checks") or ())
    holds = found.get("ok") is True
    verdict = texts["holds"] if holds else texts["broken"]
    if found.get("error"):
        rows += f"<li>{escape(str(found['error']))}</li>"
    open_questions = "".join(
        f"<li>{escape(str(question))}</li>" for question in found.get("not_established") or ()
    )
    if open_questions:
        open_questions = (
            f"<details><summary>{escape(texts['open_questions'])}</summary>"
            f"<ul>{open_questions}</ul></details>"
        )
    return (
        f'<section class="pg-checks" role="status"><h3 class="pg-{"ok" if holds else "bad"}">'
        f"{escape(verdict)}</h3><ul>{rows}</ul>{open_questions}</section>"
    )


def _check(check: Mapping[str, Any], texts: Mapping[str, str]) -> str:
    ok = check.get("ok") is True
    mark = (
        f'<span class="pg-{"ok" if ok else "bad"}">{escape(texts["pass" if ok else "fail"])}</span>'
    )
    return (
        f"<li><b>{escape(str(check.get('name', '')))}</b> {mark}"
        f"<small>{escape(str(check.get('detail', '')))}</small></li>"
    )


def _note(sentence: str) -> str:
    return f'<p class="pg-note">{escape(sentence)}</p>' if sentence else ""


def _tokens(answer: Answer, texts: Mapping[str, str]) -> str:
    if answer.prompt_tokens is None or answer.completion_tokens is None:
        return texts["unknown"]
    return texts["tokens_value"].format(
        prompt=f"{answer.prompt_tokens:,}", completion=f"{answer.completion_tokens:,}"
    )


def _cost(answer: Answer, texts: Mapping[str, str]) -> str:
    if answer.cost_micro is None:
        return texts["unknown"]
    whole, part = divmod(answer.cost_micro, 1_000_000)
    return f"{whole:,}.{part:06d} USD"


def _latency(answer: Answer, texts: Mapping[str, str]) -> str:
    total = f"{answer.total_ms / 1000:.1f}"
    if answer.first_token_ms is None:
        return texts["total_value"].format(total=total)
    return texts["latency_value"].format(first=f"{answer.first_token_ms / 1000:.1f}", total=total)
