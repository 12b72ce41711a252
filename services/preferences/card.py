"""The data set card: a page about the files that needs no program to be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_TURN = {"conversational": "lists of messages", "plain": "texts"}


def text(manifest: Mapping[str, Any]) -> str:
    """The card in Markdown, with the header that Hugging Face reads.

    Args:
        manifest: The content of `manifest.json`; nothing else goes into the card, so that equal
            data sets have equal cards.
    """
    counts, split = manifest["counts"], manifest["split"]
    return "\n".join(
        [
            *_header(manifest),
            f"# Preference pairs of {_safe(manifest['tenant'])}",
            "",
            f"{counts['train']:,} pairs to train on, {counts['eval']:,} held out, "
            f"{counts['dropped']:,} left out. Prompts that are nearly the same are on one side; "
            f"{split['eval_fraction']} of them are held out (seed {split['seed']}).",
            "",
            f"`prompt`, `chosen` and `rejected` are {_TURN[manifest['form']['shape']]}; "
            "`pair_id` leads to the row in `provenance.jsonl` that tells where the pair came from, "
            "which versions of its answers were decided on, and by whom (a pseudonym). "
            "`dropped.jsonl` names every pair that was left out, `warned.jsonl` every doubt.",
            "",
            "## Gates",
            "",
            *_table(("Gate", "Does", "Found"), map(_gate, manifest["gates"])),
            "",
            "## Measures",
            "",
            *_measures(manifest),
            "",
            "## Where the pairs come from",
            "",
            *_table(("Source", "Pairs"), _counted(manifest["sources"])),
            "",
            *_table(("Language", "Pairs"), _counted(manifest["languages"])),
            "",
            f"Annotators: {len(manifest['annotators'])}. Pairs that nobody reviewed: "
            f"{len(manifest['unreviewed']):,}. Pairs approved for a demonstration only: "
            f"{len(manifest['demo']):,}. Pairs with an edited answer: "
            f"{len(manifest['edited']):,}.",
            "",
            "The licence of the prompts and of the generators' answers is theirs; this card grants "
            "none.",
            "",
        ]
    )


def _header(manifest: Mapping[str, Any]) -> list[str]:
    known = sorted(set(manifest["languages"]) & {"tr", "en"})
    return [
        "---",
        *(["language:", *(f"- {language}" for language in known)] if known else []),
        "tags:",
        "- preference",
        "- dpo",
        "- trl",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        "    path: train.jsonl",
        "  - split: test",
        "    path: eval.jsonl",
        "---",
        "",
    ]


def _gate(gate: Mapping[str, Any]) -> tuple[str, str, str]:
    if not gate["is_checked"]:
        return gate["gate"], gate["action"], "not checked"
    if gate["of_set"]:
        return gate["gate"], gate["action"], "a doubt" if gate["pairs"] else "none"
    return gate["gate"], gate["action"], f"{gate['pairs']:,}"


def _measures(manifest: Mapping[str, Any]) -> list[str]:
    length, agreement = manifest["measures"]["length"], manifest["agreement"]
    tokenizer = manifest["tokenizer"]
    lines = []
    if length["pairs"]:
        lines.append(
            f"- The chosen answer is the longer one in {length['p_chosen_longer']:.1%} of the "
            f"pairs (mean {length['chosen_mean']:,} against {length['rejected_mean']:,} "
            f"characters, Cohen's d {length['cohens_d']})."
        )
    if agreement is None:
        lines.append("- Agreement of the annotators: not measured.")
    elif agreement["alpha"] is None:
        lines.append(f"- Agreement: insufficient data ({agreement['pairs']} pairs rated twice).")
    else:
        lines.append(
            f"- Krippendorff's alpha (ordinal) {agreement['alpha']} "
            f"[{agreement['low']}, {agreement['high']}] over {agreement['pairs']} pairs."
        )
    if tokenizer is None:
        lines.append("- No tokenizer was at hand: pairs were not compared after truncation.")
    else:
        lines.append(
            f"- Compared after {tokenizer['max_length']} tokens of {_safe(tokenizer['model'])}."
        )
    return lines


def _counted(counts: Mapping[str, int]) -> Iterable[tuple[str, str]]:
    return ((_safe(name), f"{count:,}") for name, count in sorted(counts.items()))


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [header, ("---",) * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _safe(name: str) -> str:
    """A name that strangers gave, without what would end a table's cell or begin a tag."""
    kept = "".join(" " if letter.isspace() else letter for letter in name if letter not in "|<>`\\")
    return kept.strip() or "?"
