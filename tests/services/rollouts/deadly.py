"""A database and a backend that a test can have a driver die in, before and after all they do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy.orm import Session

from services.db import Database
from services.rollouts.backends import Applied, Capabilities, EffectiveSplit, Plan, Previous

BEFORE = {"percent": 7, "models": ["old"], "note": "set by somebody long ago"}


class Fate(Protocol):
    """Decides whether a driver lives on."""

    def passes(self, point: str) -> None:
        """Let the driver pass a point, or not."""
        ...


class DeadlyDatabase(Database):
    """Three points in each write: before it, before its commit, after its commit."""

    def __init__(self, url: str, fate: Fate) -> None:
        super().__init__(url)
        self._fate = fate

    @contextmanager
    def write(self) -> Iterator[Session]:
        self._fate.passes("before a write")
        with super().write() as session:
            yield session
            self._fate.passes("before a commit")
        self._fate.passes("after a commit")


@dataclass
class FileBackend:
    """A cluster that is one file; it keeps every share that it was ever told."""

    path: Path
    fate: Fate
    name: str = "file"

    def _state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path.read_text())
        return found

    def _put(self, **changes: Any) -> None:
        self.fate.passes("before a change of the cluster")
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps({**self._state(), **changes}))
        fresh.rename(self.path)
        self.fate.passes("after a change of the cluster")

    def probe(self, target: Mapping[str, str]) -> Capabilities:
        self.fate.passes("at a probe")
        return Capabilities(self.name, str(self.path.name), is_sticky=False)

    def capture(self, plan: Plan) -> Previous:
        self.fate.passes("at a capture")
        state = self._state()
        return Previous(self.name, {"live": state["live"]})

    def effective(self, plan: Plan) -> EffectiveSplit:
        self.fate.passes("at a look at the cluster")
        live = self._state()["live"]
        is_there = plan.rollout.candidate in live["models"]
        return EffectiveSplit(live["percent"] if is_there else None, is_there, True, "the file")

    def apply(self, plan: Plan) -> Applied:
        live = {"percent": plan.percent, "models": ["old", plan.rollout.candidate]}
        self._put(live=live, told=[*self._state()["told"], plan.percent])
        plan.witness({"live": str(plan.percent)})
        return Applied(plan.percent, changed=True)

    def restore(self, plan: Plan, previous: Previous) -> None:
        self._put(live=previous.state["live"])
        plan.witness({"live": "as before"})
