"""A comparison as one HTML file that needs nothing else, and its prompts as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from console.components import compare_view, diff
from console.components.compare_view import MEASURES, span
from console.components.text import escaped
from console.i18n import language, number, t
from services.evaluation.comparing import Texts
from services.evaluation.comparison import Comparison
from services.evaluation.models import Evaluation
from services.spreadsheet import csv_of

WORST = 50
"""So many prompts are written out in the HTML file."""

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1c2321}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}p.note{color:#5b6663}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .6rem;
border-bottom:1px solid #d9dedc}th{font-weight:600}svg{max-width:100%;height:auto}
article{border:1px solid #d9dedc;border-radius:8px;padding:.6rem 1rem;margin:1rem 0}
.pc-raw{white-space:pre-wrap;overflow-wrap:anywhere}del{background:#fbdcd8}ins{background:#d5f0dd;text-decoration:underline}
@media(prefers-color-scheme:dark){body{background:#161a19;color:#e6ebe9}th,td,article{border-color:#3a4340}
del{background:#5b2a25}ins{background:#1f4a2e}p.note{color:#9aa5a1}svg text{fill:#e6ebe9}}
"""


def html(
    found: Comparison, chosen: Sequence[Evaluation], texts: Texts, *, tenant: str, at: str
) -> bytes:
    """The whole comparison in one file: no script, nothing loaded from anywhere.

    Args:
        tenant: Its name.
        at: When it was written, as people read it.
    """
    against = t("compare.against") + ": " + compare_view.against_name(found.against)
    common = t(
        "compare.common",
        prompts=found.n_prompts, pairs=found.n_pairs, left_out=found.n_left_out,
    )  # fmt: skip
    parts = [
        f"<h1>{escape(t('compare.title'))}</h1>",
        f'<p class="note">{escape(t("compare.written", at=at, tenant=tenant))} '
        f"{escape(against)}. {escape(common)}</p>",
        f"<h2>{escape(t('compare.held_out'))}</h2><p>{escape(t('compare.held_out_caption'))}</p>",
        _table(compare_view.table_names(), compare_view.table_rows(found)),
        *(_forest(found, measure) for measure in MEASURES),
        f"<h2>{escape(t('compare.beside'))}</h2><p>{escape(t('compare.beside_caption'))}</p>",
        _table(compare_view.beside_names(), compare_view.beside_rows(chosen)),
        f"<h2>{escape(t('compare.regressions'))}</h2>",
        *(_prompt(found, texts, place) for place in range(min(WORST, len(found.prompts)))),
    ]
    return (
        f'<!doctype html><html lang="{language()}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<title>{escape(t('compare.title'))}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>"
    ).encode()


def csv(found: Comparison, texts: Texts) -> bytes:
    """Every prompt with its margins, for a spreadsheet."""
    names = [row.adapter for row in found.rows]
    header = [
        "prompt_key", "pair_ids", "language", "topic", "prompt", "margin_compared_with",
        *(f"margin {name}" for name in names), *(f"change {name}" for name in names),
    ]  # fmt: skip
    return csv_of(
        header,
        [
            [
                one.prompt_key, " ".join(one.pair_ids), one.label.language, one.label.topic,
                compare_view.question(one, texts), one.margins["base"],
                *(one.margins[name] for name in names), *(one.change(name) for name in names),
            ]
            for one in found.prompts
        ],
    )  # fmt: skip


def _table(names: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in names.values())
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(row[name]))}</td>" for name in names) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _forest(found: Comparison, measure: str) -> str:
    """One measure's intervals over one axis, as a drawing that any browser shows."""
    spans = [span(row, measure) for row in found.rows]
    low, high = min([0.0, *(s[1] for s in spans)]), max([0.0, *(s[2] for s in spans)])
    width = (high - low) or 1.0

    def x(value: float) -> float:
        return 250 + 500 * (value - low) / width

    height = 40 + 34 * len(spans)
    marks = []
    for place, (row, (middle, left, right)) in enumerate(zip(found.rows, spans, strict=True)):
        y = 24 + 34 * place
        marks.append(
            f'<text x="0" y="{y + 5}">{escape(row.adapter)}</text>'
            f'<line x1="{x(left):.1f}" x2="{x(right):.1f}" y1="{y}" y2="{y}" stroke="#2f8f6b" '
            f'stroke-width="3"/><circle cx="{x(middle):.1f}" cy="{y}" r="6" fill="#2f8f6b"/>'
            f'<text x="760" y="{y + 5}">{escape(number(middle, 2))}</text>'
        )
    zero = (
        f'<line x1="{x(0):.1f}" x2="{x(0):.1f}" y1="6" y2="{height - 14}" stroke="#808884" '
        'stroke-dasharray="4 4"/>'
    )
    title = escape(t(f"compare.axis_{measure}"))
    return (
        f'<h3>{title}</h3><svg viewBox="0 0 840 {height}" role="img" aria-label="{title}" '
        f'font-size="14">{zero}{"".join(marks)}</svg>'
    )


def _prompt(found: Comparison, texts: Texts, place: int) -> str:
    one = found.prompts[place]
    changes = ", ".join(
        f"{row.adapter}: {number(one.change(row.adapter), 2)}" for row in found.rows
    )
    pair = texts.pairs.get(one.pair_ids[0])
    shown = ""
    if pair is not None:
        shown = (
            f'<div class="pc-raw" dir="auto"><b>{escaped(pair.prompt[-1]["content"])}</b></div>'
            f'<p class="note">{escape(t("compare.chosen_rejected"))}</p>'
            + diff.html_of(pair.rejected[-1]["content"], pair.chosen[-1]["content"])
        )
    answers = "".join(
        f'<p class="note">{escape(t("compare.answers_from", adapter=row.adapter))}</p>'
        + diff.html_of(own.base, own.adapter)
        for row in found.rows
        if (own := texts.answers.get(row.adapter, {}).get(one.prompt_key)) is not None
    )
    return f'<article><p class="note">{escape(changes)}</p>{shown}{answers}</article>'
