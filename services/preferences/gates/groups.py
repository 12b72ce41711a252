"""Gates over the pairs of one prompt: contradictions, and how many pairs a prompt may have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.preferences.gates.models import Finding


@dataclass(frozen=True, slots=True)
class Edge:
    """One pair as an arrow from the better answer to the worse one.

    Attributes:
        chosen: Names prompt and text of the better answer; equal ones have equal names.
    """

    pair_id: str
    chosen: bytes
    rejected: bytes


def contradictions(edges: Sequence[Edge]) -> dict[str, Finding]:
    """The pairs that cannot all be right, since some answer would be better than itself.

    An arrow lies on a circle exactly if both its ends are in one strongly connected component, so
    that a million pairs of one prompt take no longer than those of a million prompts.

    Returns:
        A finding by pair id, for every pair on a circle of preferences.
    """
    # Without an answer that is better here and worse there, there is no circle.
    if {edge.chosen for edge in edges}.isdisjoint(edge.rejected for edge in edges):
        return {}
    from scipy import sparse  # takes longer to import than most sets to check

    names: dict[bytes, int] = {}
    sources = [names.setdefault(edge.chosen, len(names)) for edge in edges]
    targets = [names.setdefault(edge.rejected, len(names)) for edge in edges]
    graph = sparse.coo_matrix(
        ([True] * len(edges), (sources, targets)), shape=(len(names), len(names))
    )
    _, component = sparse.csgraph.connected_components(graph.tocsr(), connection="strong")
    arrows = {(edge.chosen, edge.rejected) for edge in edges}
    return {
        edge.pair_id: Finding("contradiction", _words(edge, arrows))
        for edge, source, target in zip(edges, sources, targets, strict=True)
        if component[source] == component[target]
    }


def _words(edge: Edge, arrows: set[tuple[bytes, bytes]]) -> str:
    if (edge.rejected, edge.chosen) in arrows:
        return "the opposite was decided too"
    return "part of a circle of preferences"


def crowded(pair_ids: Iterable[str], *, limit: int, seed: int) -> dict[str, Finding]:
    """The pairs of one prompt that are too many; which ones is drawn by lot, by the seed.

    Args:
        limit: How many are taken.
    """
    ids = list(pair_ids)
    if len(ids) <= limit:
        return {}
    drawn = sorted(ids, key=lambda pair_id: hashlib.sha256(f"{seed}|{pair_id}".encode()).digest())
    finding = Finding("crowded_prompt", f"more than {limit} pairs of one prompt")
    return dict.fromkeys(drawn[limit:], finding)
