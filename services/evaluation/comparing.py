"""Gathers what a comparison of adapters needs. Imports no scipy until something is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.errors import InvalidInput
from services.evaluation.heldout import HeldOutPair, prompt_key, read_held_out
from services.evaluation.models import AnswerPair, Evaluation
from services.evaluation.service import Evaluations
from services.preferences.labels import PairLabel, PairLabels
from services.tenants.models import Actor

if TYPE_CHECKING:
    from services.evaluation.comparison import Comparison

BASE = "base"


@dataclass(frozen=True)
class Texts:
    """What was read, for whoever looks at a prompt. All of it is untrusted.

    Attributes:
        pairs: The held-out pairs by id, as far as their file is still there.
        answers: By adapter and prompt key, what base and adapter answered.
    """

    pairs: Mapping[str, HeldOutPair]
    answers: Mapping[str, Mapping[str, AnswerPair]]


class Comparisons:
    """Comparisons over the evaluations of all tenants."""

    def __init__(self, evaluations: Evaluations) -> None:
        self._evaluations = evaluations
        self._labels = PairLabels(evaluations.db)

    def finished(self, actor: Actor, tenant_id: str) -> dict[str, Evaluation]:
        """The newest finished evaluation of each adapter, the newest first."""
        newest: dict[str, Evaluation] = {}
        for one in self._evaluations.list(actor, tenant_id, limit=1_000):
            if one.summary is not None:
                newest.setdefault(one.adapter, one)
        return newest

    def labels(self, actor: Actor, chosen: Sequence[Evaluation]) -> dict[str, PairLabel]:
        """Language and topic of the pairs that some evaluations scored."""
        ids = {
            score.pair_id
            for one in chosen
            for score in self._evaluations.pair_scores(actor, one.id)
        }
        return self._labels.of(actor, _tenant(chosen), ids) if chosen else {}

    def compare(
        self,
        actor: Actor,
        chosen: Sequence[Evaluation],
        *,
        against: str = BASE,
        language: str | None = None,
        topic: str | None = None,
    ) -> Comparison:
        """Compare two to six adapters of one tenant; see `comparison.compare`.

        Raises:
            NotFound: An evaluation is not of a tenant whose models the actor may read.
            InvalidInput: They cannot be compared.
        """
        from services.evaluation.comparison import Contender, compare

        _tenant(chosen)
        contenders = [
            Contender(one, self._evaluations.pair_scores(actor, one.id)) for one in chosen
        ]
        labels = self.labels(actor, chosen)
        return compare(contenders, labels, against=against, language=language, topic=topic)

    def texts(self, actor: Actor, chosen: Sequence[Evaluation]) -> Texts:
        """The held-out pairs and the answers of some evaluations."""
        pairs: dict[str, HeldOutPair] = {}
        for dataset_id in {one.dataset_id for one in chosen}:
            dataset = self._evaluations.dataset(actor, _tenant(chosen), dataset_id)
            file = dataset.folder / "eval.jsonl"
            if file.is_file():
                found, _seen = read_held_out(file, [])
                pairs |= {pair.pair_id: pair for pair in found}
        answers = {
            one.adapter: {
                prompt_key(answer.prompt): answer
                for answer in self._evaluations.answers(actor, one.id)
            }
            for one in chosen
        }
        return Texts(pairs, answers)


def _tenant(chosen: Sequence[Evaluation]) -> str:
    tenants = {one.tenant_id for one in chosen}
    if len(tenants) != 1:
        raise InvalidInput(f"expected adapters of one tenant, found those of {len(tenants)}")
    return tenants.pop()
