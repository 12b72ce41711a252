"""What a manifest says of a data set."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.preferences.choices import Choices
from services.preferences.collecting import Entry
from services.preferences.gates import measures
from services.preferences.gates.models import GATES, Action, Finding, Rules
from services.preferences.gates.truncation import TrainingTokenizer
from services.preferences.models import PairStatus, ReviewKind
from services.preferences.store import DecisionRow, PairRow, ReviewRow
from services.tenants.names import pseudonym

VERSION = "param-console/dataset/v2"
PARTS = ("train", "eval", "dropped")


@dataclass
class Tally:
    """What the manifest says of the pairs."""

    rules: Rules
    reasons: Counter[str] = field(default_factory=Counter)
    gates: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    unreviewed: list[str] = field(default_factory=list)
    demo: list[str] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)
    measures: measures.Measures = field(default_factory=measures.Measures)

    def drop(self, finding: Finding) -> None:
        """Count a pair that is left out."""
        self.reasons[finding.reason] += 1
        self.gates[finding.gate] += 1

    def take(self, entry: Entry, origin: dict[str, Any]) -> None:
        """Count a pair that is in the set."""
        self.languages[origin["language"]] += 1
        self.sources[origin["source"]] += 1
        if origin["status"] == PairStatus.UNREVIEWED.value:
            self.unreviewed.append(entry.pair_id)
        if origin["mark"] == "demo":
            self.demo.append(entry.pair_id)
        if origin["chosen_version"] > 1 or origin["rejected_version"] > 1:
            self.edited.append(entry.pair_id)
        self.measures.add(
            entry.chosen_length, entry.rejected_length, entry.chosen_by, entry.rejected_by
        )

    def of_set(self, gate: str) -> int:
        """1 where a gate of the whole set warns, else 0."""
        if self.rules.action(gate) is Action.OFF:
            return 0
        agreement = self.rules.agreement
        return int(
            (gate == "length_bias" and self.measures.has_length_bias())
            or (gate == "source_balance" and self.measures.has_one_source())
            or (gate == "agreement" and agreement is not None and measures.is_doubtful(agreement))
        )


def content(
    session: Session,
    tenant_id: str,
    choices: Choices,
    tally: Tally,
    digests: dict[str, Any],
    tokenizer: TrainingTokenizer | None,
) -> dict[str, Any]:
    """The manifest; the digest of the card, which is made from it, is added to `files` later."""
    from services.preferences import near  # loads numpy, which only an export needs

    rules = choices.rules
    status = ["approved", "unreviewed"] if choices.include_unreviewed else ["approved"]
    return {
        "format": VERSION,
        "tenant": tenant_id,
        "query": {"status": status, "pairs_a_prompt": rules.pairs_a_prompt},
        "form": {"shape": choices.form.shape.value, "also": list(choices.form.also)},
        "split": {
            "by": "prompt cluster",
            "near": str(near.THRESHOLD),
            "eval_fraction": str(choices.eval_fraction),
            "seed": choices.seed,
        },
        "files": digests,
        "counts": {part: digests[f"{part}.jsonl"]["rows"] for part in PARTS},
        "dropped": dict(tally.reasons),
        "gates": [
            {
                "gate": gate.name,
                "action": rules.action(gate.name).value,
                "of_set": gate.of_set,
                "pairs": tally.of_set(gate.name) if gate.of_set else tally.gates[gate.name],
                "is_checked": _is_checked(gate.name, rules, tokenizer),
            }
            for gate in GATES
        ],
        "measures": {"length": tally.measures.length(), "writers": tally.measures.sources()},
        "agreement": rules.agreement.as_json() if rules.agreement else None,
        "tokenizer": tokenizer
        and {"model": tokenizer.name, "sha256": tokenizer.sha256, "max_length": rules.max_length},
        "languages": dict(tally.languages),
        "sources": dict(tally.sources),
        "annotators": _annotators(session, tenant_id),
        "unreviewed": tally.unreviewed,
        "demo": tally.demo,
        "edited": tally.edited,
    }


def _is_checked(gate: str, rules: Rules, tokenizer: TrainingTokenizer | None) -> bool:
    """Whether a gate looked at all: one may be off, or have nothing to look with."""
    if rules.action(gate) is Action.OFF:
        return False
    if gate == "truncated_identical":
        return tokenizer is not None
    return gate != "agreement" or rules.agreement is not None


def _annotators(session: Session, tenant_id: str) -> list[str]:
    """Pseudonyms of all who decided or voted on the approved pairs."""
    approved = (
        PairRow.tenant_id == tenant_id,
        PairRow.status == PairStatus.APPROVED.value,
    )
    deciders = (
        select(DecisionRow.actor_id)
        .join(PairRow, PairRow.id == DecisionRow.pair_id)
        .where(*approved, DecisionRow.number == PairRow.decisions)
    )
    voters = (
        select(ReviewRow.annotator_id)
        .join(PairRow, PairRow.id == ReviewRow.pair_id)
        .where(*approved, ReviewRow.kind == ReviewKind.VOTE.value, ReviewRow.is_gold.is_(False))
    )
    ids = {*session.scalars(deciders.distinct()), *session.scalars(voters.distinct())}
    return sorted(pseudonym(tenant_id, actor_id) for actor_id in ids)
