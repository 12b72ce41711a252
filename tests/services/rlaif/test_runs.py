"""Whole runs: a real worker, the unmodified library, a judge and an engine on loopback."""

from __future__ import annotations

import pytest

from services.errors import Conflict, InvalidInput, NotFound, NotPermitted, WrongConfiguration
from services.jobs.models import JobStatus
from services.preferences.evidence import INCONSISTENT, ai_verdict
from services.preferences.models import Turn
from services.preferences.queries import locked
from services.rlaif.models import CallState, Kind, Mode, Outcome, Selection, Spec
from services.rlaif.service import Rlaif
from services.rlaif.store import RunRow
from services.tenants.models import Actor, Role
from tests.fakes.anthropic import MODEL
from tests.services.rlaif.world import CLI, ENGINEER, TENANT, World, prompts, spec

MODES = [Mode.DIRECT, Mode.BATCH]
FREE = {CallState.VOID, CallState.FAILED}


def check_books(world: World) -> None:
    """What was spent is what the calls and candidates cost, nothing is held, nothing paid twice."""
    runs = world.rlaif.list(CLI, TENANT)
    own = sum(row.cost_micro for row in world.usage() if row.alias == "(candidates)")
    assert sum(run.spent_micro for run in runs) == own + sum(
        call.cost_micro for call in world.calls()
    )
    for run in runs:
        assert run.reserved_micro == 0
        assert run.spent_micro <= run.cap_micro
    assert world.judge.paid_twice == []


@pytest.mark.parametrize("mode", MODES)
def test_prompts_become_pairs_with_verdicts_in_both_orders(world: World, mode: Mode) -> None:
    run = world.done(3, mode=mode)
    assert (run.job.status, run.outcome) == (JobStatus.SUCCEEDED, Outcome.COMPLETE)
    assert (run.counts.prompts, run.counts.candidates, run.counts.pairs) == (3, 12, 6)
    assert run.counts.calls == {CallState.DONE: 12}
    pairs = world.pairs()
    assert len(pairs) == 6
    for pair in pairs:
        assert pair.history is not None
        assert pair.source == "generated"
        one, other = pair.history.judgments
        assert (one.first_response_id, one.second_response_id) == (
            other.second_response_id, other.first_response_id,
        )  # fmt: skip
        assert {one.judge, other.judge} == {MODEL}
        assert len(one.reason.splitlines()) == 5
        longer = max(pair.responses, key=lambda answer: answer.extra["temperature"])
        verdict = ai_verdict(pair.responses, pair.history.judgments)
        assert verdict is not None
        assert verdict.is_consistent
        if verdict.margin is not None and verdict.margin >= 0.5:
            assert pair.imported_preference == verdict.preferred_response_id == longer.id
    check_books(world)
    assert len(world.judge.batches) == (1 if mode is Mode.BATCH else 0)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_batch_costs_half(world: World) -> None:
    direct = world.done(2, mode=Mode.DIRECT)
    batch = world.rlaif.get(CLI, world.done(2, "again", mode=Mode.BATCH).id)
    of = {
        run.id: [call for call in world.calls() if call.run_id == run.id] for run in (direct, batch)
    }
    for call in of[batch.id]:
        exact = call.prompt_tokens * 2 + call.completion_tokens * 10
        assert call.cost_micro == -(-exact // 2)
    for call in of[direct.id]:
        assert call.cost_micro == call.prompt_tokens * 2 + call.completion_tokens * 10


def test_each_call_and_candidate_has_a_usage_row(world: World) -> None:
    run = world.done(2)
    rows = world.usage()
    assert sum(row.cost_micro for row in rows) == run.spent_micro
    assert {row.alias for row in rows} == {"(judge)", "(candidates)"}
    assert {row.served for row in rows if row.alias == "(judge)"} == {MODEL}


@pytest.mark.parametrize("mode", MODES)
def test_a_judge_that_contradicts_itself_decides_nothing_and_comes_first(
    world: World, mode: Mode
) -> None:
    run = world.done(1, "[biased]", mode=mode)
    assert (run.counts.consistent, run.counts.inconsistent) == (0, 2)
    for pair in world.pairs():
        assert pair.imported_preference is None
        assert pair.history is not None
        assert len(pair.history.judgments) == 2, "both verdicts are kept as they were given"
        with world.db.read() as session:
            assert locked(session, TENANT, pair.id).priority == INCONSISTENT


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_margin_below_the_bound_prefers_none(world: World) -> None:
    world.done(1, margin=10.0)
    assert [pair.imported_preference for pair in world.pairs()] == [None, None]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("word", "state", "asked"),
    [
        ("[refusal]", CallState.REFUSED, 1), ("[max_tokens]", CallState.CUT_OFF, 2),
        ("[malformed]", CallState.MALFORMED, 2), ("[contradiction]", CallState.MALFORMED, 2),
        ("[400]", CallState.FAILED, 1),
    ],
)  # fmt: skip
def test_what_gives_no_verdict_is_kept_by_name_and_people_still_get_the_pair(
    world: World, mode: Mode, word: str, state: CallState, asked: int
) -> None:
    run = world.done(1, word, mode=mode, pairs_per_prompt=1)
    assert run.outcome is Outcome.COMPLETE
    assert run.counts.calls == {state: 2 * asked}
    (pair,) = world.pairs()
    assert (pair.imported_preference, pair.history and pair.history.judgments) == (None, ())
    paid = state not in FREE
    assert all((call.cost_micro > 0) is paid and call.note for call in world.calls())
    check_books(world)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_verdict_that_was_cut_is_asked_again_with_twice_the_room(world: World) -> None:
    world.done(1, "[max_tokens]", pairs_per_prompt=1, max_tokens=500)
    assert sorted(body["max_tokens"] for body in world.judge.requests) == [500, 500, 1000, 1000]


def test_a_busy_judge_is_waited_for_and_nothing_is_owed(world: World) -> None:
    world.judge.troubles.extend(["429", "529", "500", "429"])
    run = world.done(1)
    assert run.outcome is Outcome.COMPLETE
    assert run.counts.calls == {CallState.DONE: 4}
    check_books(world)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_batches_wait_out_a_busy_server_too(world: World) -> None:
    world.judge.troubles.extend(["529", "", "500", "429"])
    run = world.done(1, mode=Mode.BATCH)
    assert run.counts.calls == {CallState.DONE: 4}
    check_books(world)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("word", ["[expired]", "[errored]"])
def test_what_a_batch_did_not_do_is_asked_again_but_not_for_ever(world: World, word: str) -> None:
    run = world.done(1, word, mode=Mode.BATCH, pairs_per_prompt=1)
    assert run.outcome is Outcome.COMPLETE
    assert run.counts.calls == {CallState.VOID: 10}
    assert len(world.judge.batches) == 5
    assert all(call.cost_micro == 0 for call in world.calls())


def test_no_credit_stops_the_run_and_a_resume_pays_for_nothing_twice(world: World) -> None:
    world.judge.credit = 3
    run = world.done(2, concurrency=1)
    assert run.job.status is JobStatus.FAILED
    assert run.job.error is not None
    assert "credit is too low" in run.job.error
    assert run.counts.calls[CallState.DONE] == 3
    assert len(world.pairs()) == 1, "what is judged in both orders is there for people"
    world.judge.credit = None
    world.rlaif.resume(ENGINEER, run.id)
    run = world.work(run)
    assert run.counts.calls == {CallState.DONE: 8}
    assert len(world.pairs()) == 4
    check_books(world)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_no_credit_within_a_batch_stops_the_run_too(world: World) -> None:
    world.judge.credit = 3
    run = world.done(2, mode=Mode.BATCH)
    assert run.job.status is JobStatus.FAILED
    assert run.job.error is not None
    assert "too little credit" in run.job.error
    world.judge.credit = None
    world.rlaif.resume(ENGINEER, run.id)
    run = world.work(run)
    assert run.counts.calls[CallState.DONE] == 8
    check_books(world)


def test_the_cap_is_never_passed_and_a_higher_one_goes_on(world: World) -> None:
    run = world.launch(4, concurrency=4)
    need = 30_000
    low = world.rlaif.resume
    with world.db.write() as session:
        session.get_one(RunRow, run.id).cap_micro = need
    run = world.work(run)
    assert (run.job.status, run.outcome) == (JobStatus.SUCCEEDED, Outcome.CAP_REACHED)
    assert 0 < run.spent_micro <= need
    assert "the cap of 0.030000 USD is reached" in run.job.message
    done = run.counts.calls[CallState.DONE]
    assert done < 16
    with pytest.raises(InvalidInput, match="expected more than"):
        low(ENGINEER, run.id, cap_micro=run.spent_micro)
    low(ENGINEER, run.id, cap_micro=10_000_000)
    run = world.work(run)
    assert run.outcome is Outcome.COMPLETE
    assert run.counts.calls[CallState.DONE] == 16
    check_books(world)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_cap_smaller_than_one_call_spends_nothing_on_the_judge(world: World) -> None:
    run = world.done(1, cap_micro=5_000)
    assert run.outcome is Outcome.CAP_REACHED
    assert run.counts.calls == {}
    assert world.judge.requests == []


def test_batches_take_what_the_cap_allows_one_after_another(world: World) -> None:
    run = world.done(4, mode=Mode.BATCH, cap_micro=60_000)
    assert run.outcome is Outcome.COMPLETE
    assert len(world.judge.batches) > 2, "what is not held for one batch is free for the next"
    check_books(world)
    run = world.done(4, "again", mode=Mode.BATCH, cap_micro=25_000)
    assert run.outcome is Outcome.CAP_REACHED
    assert 0 < run.counts.calls[CallState.DONE] < 16
    check_books(world)


def test_what_an_earlier_run_paid_for_is_not_asked_again(world: World) -> None:
    world.done(2)
    before = len(world.judge.requests)
    run = world.done(2)
    assert run.outcome is Outcome.COMPLETE
    assert len(world.judge.requests) == before
    assert len(world.pairs()) == 4
    for pair in world.pairs():
        assert pair.history is not None
        assert len(pair.history.judgments) == 2, "nor are its verdicts doubled"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_equal_and_empty_answers_make_no_pair(world: World) -> None:
    for word in ("[same]", "[empty]"):
        run = world.done(2, word)
        assert (run.outcome, run.counts.candidates, run.counts.pairs) == (Outcome.COMPLETE, 8, 0)
    assert world.pairs() == []
    assert world.judge.requests == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_every_candidate_is_judged_before_one_is_judged_again(world: World) -> None:
    world.done(1, pairs_per_prompt=2)
    used = [answer.extra["temperature"] for pair in world.pairs() for answer in pair.responses]
    assert sorted(used) == [0.3, 0.5, 0.7, 0.9]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_never_more_calls_at_once_than_asked(world: World) -> None:
    world.judge.slow_s = 0.02
    world.done(4, concurrency=2)
    assert world.judge.most_at_once == 2


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_pairs_of_an_evaluation_set_are_never_trained_on(world: World) -> None:
    world.done(1, is_evaluation=True)
    assert all(pair.is_evaluation for pair in world.pairs())


def test_pairs_that_are_there_are_judged_where_they_are(world: World) -> None:
    world.import_pairs(3, source="wanted", purpose="evaluation")
    world.import_pairs(2, source="others", words="more")
    run = world.rlaif.launch(
        ENGINEER, TENANT,
        spec(kind=Kind.JUDGE, selection=Selection.UNJUDGED, from_source="wanted"),
    )  # fmt: skip
    run = world.work(run)
    assert (run.outcome, run.counts.pairs, run.counts.published) == (Outcome.COMPLETE, 3, 3)
    judged = {pair.id: len(pair.history.judgments) for pair in world.pairs() if pair.history}
    assert sorted(judged.values()) == [0, 0, 2, 2, 2]
    assert world.rlaif.waiting(CLI, TENANT, Selection.UNJUDGED) == 2


def test_a_pair_whose_answer_was_edited_is_judged_again(world: World) -> None:
    from services.preferences.queries import add_version, get

    world.done(1, pairs_per_prompt=1)
    (pair,) = world.pairs()
    with world.db.write() as session:
        found = get(session, TENANT, pair.id)
        worse = next(one for one in found.responses if one.id != pair.imported_preference)
        text = "A much better answer, with all that was asked for and more and more and more."
        add_version(session, worse, found, text, author_id="user-a", at=pair.created_at)
        locked(session, TENANT, pair.id).is_stale = True
    assert world.rlaif.waiting(CLI, TENANT, Selection.STALE) == 1
    run = world.rlaif.launch(ENGINEER, TENANT, spec(kind=Kind.JUDGE))
    run = world.work(run)
    (pair,) = world.pairs()
    assert pair.history is not None
    assert not pair.is_stale
    assert len(pair.history.judgments) == 4, "the older verdicts stay"
    verdict = ai_verdict(pair.history.versions, pair.history.judgments)
    assert verdict is not None
    assert not verdict.is_stale
    assert world.rlaif.waiting(CLI, TENANT, Selection.STALE) == 0


def test_an_estimate_says_what_will_be_done_and_what_it_can_cost_at_most(world: World) -> None:
    asked = prompts(2)
    before = world.rlaif.estimate(ENGINEER, TENANT, spec(), asked)
    assert (before.candidates, before.pairs, before.calls, before.measured_calls) == (8, 4, 8, 0)
    assert 0 < before.expected_micro < before.most_micro
    assert world.judge.requests == []
    run = world.done(2)
    assert run.spent_micro <= before.most_micro
    world.done(10, "for more verdicts", pairs_per_prompt=1)
    after = world.rlaif.estimate(ENGINEER, TENANT, spec(), asked)
    assert after.measured_calls == 28
    # The judge's part is learned; so is what it says about this very run.
    judged = sum(call.cost_micro for call in world.calls() if call.run_id == run.id)
    assert abs(after.judge_micro - judged) < judged


def test_a_stopped_run_keeps_what_it_has_and_goes_on(world: World) -> None:
    world.judge.slow_s = 0.05
    run = world.launch(6, concurrency=1)

    def begun(found: object) -> bool:
        return len(world.judge.bills) >= 3

    from threading import Thread

    def stop() -> None:
        world.until(run, begun)
        world.rlaif.stop(ENGINEER, run.id)

    stopper = Thread(target=stop)
    stopper.start()
    found = world.work(run)
    stopper.join()
    assert found.job.status is JobStatus.STOPPED
    assert 3 <= found.counts.calls[CallState.DONE] < 24
    assert CallState.LOST not in found.counts.calls, "what was on its way came back first"
    world.rlaif.resume(ENGINEER, run.id)
    found = world.work(run)
    assert found.counts.calls == {CallState.DONE: 24}
    check_books(world)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_stopped_batch_is_cancelled_there_and_what_it_did_is_read(world: World) -> None:
    world.judge.ends_batches = False
    run = world.launch(2, mode=Mode.BATCH)
    from threading import Thread

    def stop() -> None:
        world.until(run, lambda _: bool(world.judge.batches))
        world.rlaif.stop(ENGINEER, run.id)

    stopper = Thread(target=stop)
    stopper.start()
    assert world.work(run).job.status is JobStatus.STOPPED
    stopper.join()
    assert next(iter(world.judge.batches.values()))["processing_status"] == "ended"
    world.judge.ends_batches = True
    world.rlaif.resume(ENGINEER, run.id)
    found = world.work(run)
    assert found.counts.calls == {CallState.VOID: 8, CallState.DONE: 8}
    check_books(world)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_engine_may_be_restarted_in_between(world: World) -> None:
    world.engine.stop()
    from threading import Timer

    Timer(0.6, world.engine.restart).start()
    assert world.done(1).outcome is Outcome.COMPLETE


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"cap_micro": 0}, "cap_micro"), ({"temperatures": (0.3,)}, "temperatures"),
        ({"temperatures": (0.3, 5.0)}, "temperatures"), ({"concurrency": 0}, "concurrency"),
        ({"max_new_tokens": 1.5}, "max_new_tokens"), ({"source": " "}, "source"),
        ({"margin": -1}, "margin"), ({"attempts": 9}, "attempts"),
    ],
)  # fmt: skip
def test_orders_that_cannot_be_carried_out_are_refused_and_nothing_is_queued(
    world: World, changes: dict[str, object], named: str
) -> None:
    with pytest.raises(InvalidInput, match=named):
        world.launch(1, **changes)
    assert world.rlaif.list(CLI, TENANT) == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_order_survives_being_written_down(world: World) -> None:
    made = spec(
        temperatures=(0.1, 1.0), pairs_per_prompt=1, mode=Mode.BATCH, selection=Selection.UNJUDGED
    )
    assert Spec.from_json(made.as_json()) == made
    with pytest.raises(InvalidInput, match="unknown|expected"):
        Spec.from_json({**made.as_json(), "extra": 1})


def test_who_may_not_make_pairs_starts_stops_and_resumes_nothing(world: World) -> None:
    run = world.launch(1)
    foreign = Actor("user", "f", "Foreign", {"globex": frozenset({Role.ENGINEER})})
    manager = Actor("user", "m", "Manager", {TENANT: frozenset({Role.MANAGER})})
    annotator = Actor("user", "a", "Annotator", {TENANT: frozenset({Role.ANNOTATOR})})
    for actor in (foreign, manager, annotator):
        with pytest.raises(NotPermitted):
            world.rlaif.launch(actor, TENANT, spec(), prompts(1))
        with pytest.raises(NotPermitted):
            world.rlaif.estimate(actor, TENANT, spec(), prompts(1))
    for actor, refused in ((manager, NotPermitted), (foreign, NotFound), (annotator, NotFound)):
        with pytest.raises(refused):
            world.rlaif.stop(actor, run.id)
        with pytest.raises(refused):
            world.rlaif.resume(actor, run.id)
    assert world.rlaif.get(manager, run.id).id == run.id
    for look in (
        lambda: world.rlaif.get(foreign, run.id),
        lambda: world.rlaif.calls(foreign, run.id),
    ):
        with pytest.raises(NotFound):
            look()
    with pytest.raises(NotPermitted):
        world.rlaif.list(foreign, TENANT)
    assert world.rlaif.list(CLI, "globex") == []


def test_verdicts_of_one_tenant_are_not_used_for_another(world: World) -> None:
    world.done(1)
    before = len(world.judge.requests)
    run = world.rlaif.launch(CLI, "globex", spec(), prompts(1))
    world.work(run)
    assert len(world.judge.requests) == 2 * before


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_adapter_that_the_tenant_does_not_have_is_refused(world: World) -> None:
    with pytest.raises(NotFound, match="nobody-000000000000"):
        world.launch(1, model="nobody-000000000000")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_nothing_to_judge_and_nothing_to_resume_are_told(world: World) -> None:
    with pytest.raises(Conflict, match="at least one pair to judge"):
        world.rlaif.launch(ENGINEER, TENANT, spec(kind=Kind.JUDGE))
    with pytest.raises(InvalidInput, match="prompts: expected at least one"):
        world.rlaif.launch(ENGINEER, TENANT, spec(), [])
    run = world.done(1)
    with pytest.raises(Conflict, match="it has ended"):
        world.rlaif.resume(ENGINEER, run.id)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_judge_without_a_price_is_refused(world: World) -> None:
    from dataclasses import replace

    settings = replace(world.settings, judge_price="")
    priceless = Rlaif(world.db, world.jobs, world.metering, world.registry, settings)
    with pytest.raises(WrongConfiguration, match="PARAM_JUDGE_PRICE"):
        priceless.estimate(ENGINEER, TENANT, spec(), prompts(1))
    known = replace(settings, judge_model="claude-sonnet-5-5")
    found = Rlaif(world.db, world.jobs, world.metering, world.registry, known)
    assert found.estimate(ENGINEER, TENANT, spec(), prompts(1)).price_version.startswith(
        "published"
    )


class Kept:
    """Requests that a tenant keeps."""

    def __init__(self, kept: bool) -> None:
        self.kept = kept

    def is_kept(self, tenant_id: str) -> bool:
        return self.kept

    def prompts(
        self, actor: Actor, tenant_id: str, *, limit: int, since: object = None
    ) -> list[list[dict[str, str]]]:
        asked = [{"role": "user", "content": "What is it?"}]
        return [asked, asked, [{"role": "assistant", "content": "no question"}]][:limit]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_prompts_come_from_traffic_only_where_it_is_kept(world: World) -> None:
    made = (world.db, world.jobs, world.metering, world.registry, world.settings)
    for traffic in (None, Kept(False)):
        rlaif = Rlaif(*made, traffic=traffic)
        assert not rlaif.has_traffic(TENANT)
        with pytest.raises(Conflict, match="are kept"):
            rlaif.traffic_prompts(ENGINEER, TENANT, limit=5)
    rlaif = Rlaif(*made, traffic=Kept(True))
    assert rlaif.has_traffic(TENANT)
    found = rlaif.traffic_prompts(ENGINEER, TENANT, limit=5)
    assert found.prompts == ((Turn("user", "What is it?"),),)
    assert found.repeated == 1
