"""Data sets as files: the same pairs and choices always give the same bytes.

A folder holds `train.jsonl` and `eval.jsonl` in a form that TRL reads, `dropped.jsonl` (every
other pair of the tenant, with the gate and the reason), `warned.jsonl` (what gates only warn of),
`provenance.jsonl` (where each row came from and who decided), `README.md` (the data set card) and
`manifest.json` (RFC 8785 canonical JSON with the digest of each of them). `docs/dataset-format.md`
describes every field.

The tenant's pairs are read once. What one pair tells is decided at once, and its row waits in a
spool file; what several pairs tell together is decided when all are read.
"""

from __future__ import annotations

import gc
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import rfc8785
from sqlalchemy.orm import Session

from services.preferences import card, manifests
from services.preferences.choices import Choices
from services.preferences.collecting import Collected, Collector, Entry, Selection
from services.preferences.exports import Files
from services.preferences.gates import groups
from services.preferences.gates.models import RANK, Action, Finding, Rules
from services.preferences.gates.truncation import TrainingTokenizer
from services.preferences.models import Manifest
from services.preferences.splits import PlacedPrompt, overlapping, sides
from services.preferences.staging import write_synced
from services.preferences.store import PairRow
from services.tenants.names import pseudonym

Progress = Callable[[float, str], None]
"""Is told how far the work is: the done part, 0 to 1, and what is being done."""


_USUAL = gc.get_threshold()


def silent(_fraction: float, _what: str) -> None:
    """Nobody watches."""


def write(
    session: Session,
    tenant_id: str,
    choices: Choices,
    folder: Path,
    *,
    tokenizer: TrainingTokenizer | None = None,
    progress: Progress = silent,
) -> Manifest:
    """Write a data set into an empty folder; the spool lies beside it meanwhile.

    Args:
        session: One consistent state.
        tokenizer: That of the model that is to be trained; None leaves its gate unchecked, and
            the manifest says so.

    Raises:
        StorageFull: The disk is full.
    """
    with _rare_collections(), tempfile.TemporaryFile(dir=folder.parent) as spool:
        found = _collected(session, tenant_id, choices, spool, tokenizer, progress)
        progress(0.7, "comparing prompts")
        parts = _judge_together(found, choices)
        progress(0.85, "writing")
        tally = manifests.Tally(choices.rules)
        with Files(folder, choices.form) as files:
            for entry in found.entries:
                _put(entry, parts[entry.prompt], spool, files, tally, choices.rules)
        digests = files.digests()
    content = manifests.content(session, tenant_id, choices, tally, digests, tokenizer)
    readme = card.text(content).encode()
    write_synced(folder / "README.md", readme)
    digests["README.md"] = {
        "sha256": hashlib.sha256(readme).hexdigest(), "bytes": len(readme),
        "rows": readme.count(b"\n"),
    }  # fmt: skip
    data = rfc8785.dumps(content)
    write_synced(folder / "manifest.json", data)
    return Manifest(
        folder=folder,
        sha256=hashlib.sha256(data).hexdigest(),
        n_train=content["counts"]["train"],
        n_eval=content["counts"]["eval"],
        n_dropped=content["counts"]["dropped"],
        content=content,
    )


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let garbage be collected a tenth as often: so many small objects come and go, none in circles.

    It takes a sixth of the time otherwise. The setting is the process's; two exports at once only
    cost each other some of the gain.
    """
    gc.set_threshold(10 * _USUAL[0], *_USUAL[1:])
    try:
        yield
    finally:
        gc.set_threshold(*_USUAL)


def _collected(
    session: Session,
    tenant_id: str,
    choices: Choices,
    spool: BinaryIO,
    tokenizer: TrainingTokenizer | None,
    progress: Progress,
) -> Collected:
    total = session.query(PairRow.id).filter(PairRow.tenant_id == tenant_id).count() or 1
    is_compared = choices.rules.action("truncated_identical") is not Action.OFF
    selection = Selection(
        include_unreviewed=choices.include_unreviewed,
        with_both_bad="kto" in choices.form.also,
        tokenizer=tokenizer if is_compared else None,
        max_length=choices.rules.max_length,
    )
    return Collector(
        session, tenant_id, selection, spool,
        name_of=lambda actor_id: pseudonym(tenant_id, actor_id),
        seen=lambda count: progress(0.7 * count / total, "reading and checking pairs"),
    ).collect()  # fmt: skip


def _judge_together(found: Collected, choices: Choices) -> list[str]:
    """Add what the gates over several pairs find.

    Returns:
        The part of each prompt; meaningless for prompts without a candidate.
    """
    from services.preferences import near  # loads numpy, which only an export needs

    candidates = [entry for entry in found.entries if entry.offset >= 0]
    used = sorted(
        {entry.prompt for entry in candidates}
        | {index for index, prompt in enumerate(found.prompts) if prompt.is_evaluation}
    )
    named = near.clusters([found.prompts[index].text for index in used])
    cluster = dict(zip(used, named, strict=True))
    _near_evaluation(found, candidates, cluster)
    _groups(found, candidates, choices)
    left = [entry for entry in candidates if not _dropping(entry, choices.rules)]
    taken = sorted({entry.prompt for entry in left})
    placed = [
        PlacedPrompt(found.prompts[index].key, found.prompts[index].bound, cluster[index])
        for index in taken
    ]
    part = sides(placed, eval_fraction=choices.eval_fraction, seed=choices.seed)
    torn = {taken[index] for index in overlapping(placed, part)}
    for entry in left:
        if entry.prompt in torn:
            reason = "held out, and nearly the same prompt is trained on"
            entry.findings.append(Finding("split_overlap", reason))
    parts = ["train"] * len(found.prompts)
    for index, where in zip(taken, part, strict=True):
        parts[index] = where
    return parts


def _near_evaluation(
    found: Collected, candidates: Iterable[Entry], cluster: dict[int, int]
) -> None:
    kept_out = {number for index, number in cluster.items() if found.prompts[index].is_evaluation}
    for entry in candidates:
        is_evaluation = found.prompts[entry.prompt].is_evaluation
        if cluster[entry.prompt] in kept_out and not is_evaluation:
            reason = "prompt: nearly the same as an evaluation prompt"
            entry.findings.append(Finding("leakage", reason))


def _groups(found: Collected, candidates: Iterable[Entry], choices: Choices) -> None:
    """Contradictions among the pairs that are left, then prompts with too many of them."""
    left = [entry for entry in candidates if not _dropping(entry, choices.rules)]
    edges = [
        groups.Edge(
            entry.pair_id,
            entry.prompt.to_bytes(8, "big") + entry.chosen_key,
            entry.prompt.to_bytes(8, "big") + entry.rejected_key,
        )
        for entry in left
    ]
    _add(left, groups.contradictions(edges))
    of_prompt: dict[int, list[str]] = {}
    for entry in left:
        if not _dropping(entry, choices.rules):
            of_prompt.setdefault(entry.prompt, []).append(entry.pair_id)
    crowded: dict[str, Finding] = {}
    if choices.rules.action("crowded_prompt") is not Action.OFF:
        for pair_ids in of_prompt.values():
            limit = choices.rules.pairs_a_prompt
            crowded |= groups.crowded(pair_ids, limit=limit, seed=choices.seed)
    _add(left, crowded)


def _add(entries: Iterable[Entry], findings: dict[str, Finding]) -> None:
    if findings:
        for entry in entries:
            if finding := findings.get(entry.pair_id):
                entry.findings.append(finding)


def _dropping(entry: Entry, rules: Rules) -> list[Finding]:
    """What drops the pair, the gate that stands first in the list first."""
    found = [one for one in entry.findings if rules.action(one.gate) is Action.DROP]
    return sorted(found, key=lambda one: RANK[one.gate])


def _put(
    entry: Entry, part: str, spool: BinaryIO, files: Files, tally: manifests.Tally, rules: Rules
) -> None:
    """Write what became of one pair."""
    against = _dropping(entry, rules)
    if against:
        tally.drop(against[0])
        dropped = {"gate": against[0].gate, "reason": against[0].reason}
        files.line("dropped", {"pair_id": entry.pair_id, **dropped})
        # Only the review spoke against it, and only KTO has a use for it.
        if entry.is_both_bad and all(one.gate == "review" for one in against):
            files.both_bad(part, _spooled(entry, spool)[0])
        return
    row, origin = _spooled(entry, spool)
    warnings = [one for one in entry.findings if rules.action(one.gate) is Action.WARN]
    for finding in sorted(warnings, key=lambda one: RANK[one.gate]):
        named = {"gate": finding.gate, "reason": finding.reason}
        files.line("warned", {"pair_id": entry.pair_id, "part": part, **named})
    for gate in {finding.gate for finding in warnings}:
        tally.gates[gate] += 1
    files.pair(part, row)
    files.line("provenance", {**origin, "part": part})
    tally.take(entry, origin)


def _spooled(entry: Entry, spool: BinaryIO) -> tuple[dict[str, Any], dict[str, Any]]:
    spool.seek(entry.offset)
    line = orjson.loads(spool.readline())
    return line["row"], line["origin"]
