"""The promotion gate, its policy, and every way to become champion."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from services.audit.outbox import OutboxRow
from services.db import Database
from services.errors import GateFailed, InvalidInput, NotPermitted
from services.evaluation.findings import JudgeFinding, Range, TaskFinding, TextFinding, Verdict
from services.evaluation.gate import gate
from services.evaluation.models import Evaluation, Summary
from services.evaluation.policy import DEFAULT_POLICY, GatePolicy, Quality, policy_from
from services.rollouts.service import Rollouts
from services.tenants.models import Actor, Limits
from services.tenants.service import Tenants
from tests.services.evaluation.world import (
    ENGINEER,
    MANAGER,
    STRANGER,
    World,
    build,
    finished,
    scores,
    summary,
)
from tests.support import ROOT

SYSTEM = Actor.system("test")
GOOD = summary(scores(gained=25, right=175))


def judged(found: Summary, policy: GatePolicy = DEFAULT_POLICY) -> list[str]:
    """The codes of what is missing."""
    facts: dict[str, Any] = dict.fromkeys(Evaluation.__dataclass_fields__, None)
    answer = gate(Evaluation(**facts | {"summary": found, "policy": policy}))
    assert answer.passed is (not answer.reasons)
    assert [one.sentence for one in answer.shortfalls] == list(answer.reasons)
    return [one.code for one in answer.shortfalls]


def texts(low: float, high: float) -> TextFinding:
    middle = (low + high) / 2
    return TextFinding(120, 2_000, 20.0, 21.0, Range(middle, low, high, 0.5, "t"))


def judge(low: float, high: float) -> JudgeFinding:
    rate = Range(0.5, low, high, 0.5, "t")
    return JudgeFinding("j", 30, 10, 10, 10, 5, rate, (low + high) / 2, low, high, 0.0, 1.0)


def task(verdict: Verdict) -> TaskFinding:
    return TaskFinding("param_facts_en", 40, 0.9, 0.6, 0, 12, -0.4, -0.2, 0.001, 0.004, verdict)


@pytest.mark.parametrize(
    ("changes", "policy", "missing"),
    [
        ({}, {}, []),
        ({"verdict": Verdict.INCONCLUSIVE}, {}, ["quality"]),
        ({"verdict": Verdict.NON_INFERIOR}, {}, ["quality"]),
        ({"verdict": Verdict.NON_INFERIOR}, {"quality": "non-inferior"}, []),
        ({"verdict": Verdict.WORSE}, {"quality": "non-inferior"}, ["quality"]),
        ({}, {"min_prompts": 201}, ["too_few"]),
        ({}, {"min_prompts": 200}, []),
        ({"chosen_shift": Range(-0.2, -0.3, -0.06, 0.1, "t")}, {}, ["displaced"]),
        ({"chosen_shift": Range(-0.2, -0.3, -0.04, 0.1, "t")}, {}, []),
        ({"adapter_degenerate": 1}, {}, ["degenerate"]),
        ({"texts": None}, {}, ["no_texts"]),
        ({"texts": None}, {"max_nll_rise": None}, []),
        ({"texts": texts(-0.01, 0.019)}, {}, []),
        ({"texts": texts(-0.01, 0.02)}, {}, ["texts"]),
        ({"texts": texts(-0.01, 0.02)}, {"max_nll_rise": 0.03}, []),
        ({"tasks": ()}, {}, ["no_tasks"]),
        ({"tasks": ()}, {"max_task_loss": None}, []),
        ({"tasks": (task(Verdict.WORSE),)}, {}, ["task_worse"]),
        ({"task_loss_low": -0.05}, {}, ["tasks"]),
        ({"task_loss_low": -0.049}, {}, []),
        ({}, {"needs_judge": True}, ["no_judge"]),
        ({"judged": judge(0.4, 0.6)}, {"needs_judge": True}, []),
        ({"judged": judge(0.3, 0.49)}, {}, ["judge"]),
        ({"verdict": Verdict.WORSE, "texts": None, "tasks": ()}, {},
         ["quality", "no_texts", "no_tasks"]),
    ],
)  # fmt: skip
def test_each_rule_closes_the_gate_alone(
    changes: dict[str, Any], policy: dict[str, Any], missing: list[str]
) -> None:
    assert judged(replace(GOOD, **changes), policy_from(policy)) == missing


def test_an_adapter_without_evaluation_does_not_pass() -> None:
    assert gate(None).reasons == ("The adapter was never evaluated.",)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"quality": "fine"}, "quality: expected better or non-inferior, found 'fine'"),
        ({"min_prompts": 19}, "min_prompts: expected a whole number from 20 on, found 19"),
        ({"min_prompts": 20.5}, "min_prompts"),
        ({"min_prompts": True}, "min_prompts"),
        ({"max_nll_rise": 0}, "max_nll_rise: expected a number above 0"),
        ({"max_nll_rise": float("nan")}, "max_nll_rise"),
        ({"max_task_loss": "5 %"}, "max_task_loss"),
        ({"needs_judge": "yes"}, "needs_judge: expected true or false, found 'yes'"),
        ({"min_promts": 30}, "expected quality, .*, found 'min_promts'"),
    ],
)
def test_a_wrong_policy_is_refused_by_name(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        policy_from(values)


def test_a_policy_is_the_tenants_own_versioned_and_in_the_log(
    database: Database, tmp_path: Path
) -> None:
    world = build(database, tmp_path)
    policies = world.evaluations.policies
    assert policies.get(MANAGER, "legal") == DEFAULT_POLICY
    made = policies.change(ENGINEER, "legal", {"quality": "non-inferior", "max_nll_rise": None})
    assert (made.quality, made.max_nll_rise, made.min_prompts) == (Quality.NON_INFERIOR, None, 20)
    assert policies.get(MANAGER, "legal") == made
    assert policies.change(ENGINEER, "legal", {"quality": "non-inferior"}) == made
    again = policies.change(ENGINEER, "legal", {"max_nll_rise": 0.05})
    assert (again.quality, again.max_nll_rise) == (Quality.NON_INFERIOR, 0.05)
    assert policies.get(STRANGER, "medical") == DEFAULT_POLICY
    for refused in (MANAGER, STRANGER):
        with pytest.raises(NotPermitted):
            policies.change(refused, "legal", {"min_prompts": 40})
    with pytest.raises(NotPermitted):
        policies.get(STRANGER, "legal")
    with database.read() as session:
        rows = session.scalars(select(OutboxRow).order_by(OutboxRow.id)).all()
    told = [row.details for row in rows if row.action == "evaluation.policy_set"]
    assert [one["version"] for one in told] == [1, 2]
    assert told[1]["max_nll_rise"] == "0.05"


def test_an_evaluation_is_judged_by_the_policy_of_now(database: Database, tmp_path: Path) -> None:
    world = build(database, tmp_path)
    found = finished(world, scores(gained=25, right=175))
    assert found.summary is not None
    codes = [one.code for one in gate(found).shortfalls]
    assert codes == ["degenerate"]
    world.evaluations.policies.change(ENGINEER, "legal", {"min_prompts": 500})
    answer = world.evaluations.gate(MANAGER, "legal", world.adapter.name)
    assert [one.code for one in answer.shortfalls] == ["too_few", "degenerate"]


def rollouts(world: World) -> Rollouts:
    tenants = Tenants(world.db)
    tenants.create(
        SYSTEM, "Legal", tenant_id="legal",
        limits=Limits(tps=1, rpm=1, daily_tokens=1),
    )  # fmt: skip
    return Rollouts(world.db, tenants, world.registry, world.evaluations)


def test_a_promotion_without_reason_moves_no_champion(database: Database, tmp_path: Path) -> None:
    world = build(database, tmp_path)
    started = rollouts(world).start(ENGINEER, "legal", "legal", world.adapter.name, percent=10)
    with pytest.raises(GateFailed, match="never evaluated"):
        rollouts_again(world).promote(ENGINEER, started.id)
    assert world.registry.champion(ENGINEER, "legal", "legal") is None
    rollouts_again(world).promote(ENGINEER, started.id, reason="the board asked for it")
    champion = world.registry.champion(ENGINEER, "legal", "legal")
    assert champion is not None
    with database.read() as session:
        rows = session.scalars(select(OutboxRow)).all()
    (told,) = [row.details for row in rows if row.action == "adapter.champion_set"]
    assert told["admission"] == "override"
    assert told["reason"] == "the board asked for it"
    assert told["shortfalls"] == ["The adapter was never evaluated."]


def rollouts_again(world: World) -> Rollouts:
    return Rollouts(world.db, Tenants(world.db), world.registry, world.evaluations)


@pytest.mark.parametrize(
    ("said", "allowed"),
    [
        (r"\bChampionRow\(", {"services/registry/service.py", "services/registry/store.py"}),
        (r"\.set_champion_in_session\(", {"services/registry/service.py", "services/rollouts"}),
        (r"registry\.set_champion\(", set()),
        (r"\bAdmission\(|Admission\.(by_gate|restored)\(",
         {"services/rollouts"}),
        (r"set_registered_model_alias\(", {"services/registry/mirror.py"}),
    ],
)  # fmt: skip
def test_nothing_else_makes_a_champion(said: str, allowed: set[str]) -> None:
    """Commands and pages too reach the champion through a rollout's promotion alone."""
    found = {
        str(path.relative_to(ROOT))
        for room in ("services", "console", "pages", "labeling")
        for path in (ROOT / room).rglob("*.py")
        if re.search(said, path.read_text(encoding="utf-8"))
    }
    assert {path for path in found if not path.startswith(tuple(allowed))} == set()
    for name in allowed:
        assert any(path.startswith(name) for path in found), name
