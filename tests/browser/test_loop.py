"""The loop as people walk it: review, train, compare, roll out, chat, verify, account.

Each stage is a fixture that does its part in the browser, so that a test asks for the stages it
needs and can also be run alone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from console.playground.texts import TEXTS
from services.bootstrap import Services
from services.evaluation.models import Summary
from services.jobs.models import JobStatus
from services.metering.models import Usage
from services.preferences.models import PairStatus, ReviewKind
from services.rollouts.models import Rollout, RolloutState
from services.tenants.models import Actor
from services.training.models import Run
from tests.browser.installation import Installation
from tests.browser.visitors import Customer, Visitor
from tests.browser.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(900)]

SYSTEM = Actor.system("test")
HERE, ELSEWHERE = "ailydian-hq", "medical-ai"
STEPS = 3
QUESTION = "What is the capital of Turkey?"
PAGES = (
    "home", "review", "pairs", "generate", "agreement", "quality", "review_settings", "labelstudio", "train",
    "evaluate", "compare", "lineage", "rollouts", "gateway", "cost", "audit", "verify", "signing_keys",
    "tenants", "policy", "users",
)  # fmt: skip
OPEN_TO = {
    "annotator": {"home", "review", "verify"},
    "engineer": set(PAGES) - {"users"},
    "manager": set(PAGES) - {"gateway", "review", "review_settings", "users"},
    "admin": {
        "home",
        "gateway",
        "cost",
        "audit",
        "verify",
        "signing_keys",
        "tenants",
        "policy",
        "users",
    },
}
Enter = Callable[..., Visitor]


@pytest.fixture
def enter(browser: Any, installed: Installation) -> Iterator[Enter]:
    """Sign somebody in, in a browser of their own; all of them leave at the end."""
    visitors: list[Visitor] = []

    def sign_in(username: str, *, locale: str = "en-GB") -> Visitor:
        visitors.append(Visitor(browser, installed, locale=locale))
        visitors[-1].sign_in(username)
        return visitors[-1]

    yield sign_in
    for visitor in visitors:
        visitor.leave()


@pytest.fixture(scope="module")
def approved(services: Services) -> int:
    """The pairs that nobody reviewed, approved as they were imported."""
    services.preferences.approve_imported(SYSTEM, HERE, mark="browser test")
    return services.preferences.stats(SYSTEM, HERE).by_status[PairStatus.APPROVED]


@dataclass(frozen=True)
class Trained:
    """A run as the engineer saw it.

    Attributes:
        loads: How often the page was loaded while the run went on.
    """

    run: Run
    adapter: str
    loads: int


@pytest.fixture(scope="module")
def trained(browser: Any, installed: Installation, services: Services, approved: int) -> Trained:
    """A short run, launched on the Train page and watched there to its end."""
    with Visitor(browser, installed) as engineer:
        engineer.sign_in("engineer")
        engineer.open("train")
        assert engineer.chosen("train.dataset") == engineer.text("train.freeze", count=approved)
        engineer.fill("train.quick.max_steps", str(STEPS))
        before = engineer.loads
        engineer.press("train.start")
        run = until(lambda: services.training.list(SYSTEM, HERE), "a run is launched")[0]
        engineer.sees(engineer.text("train.launched", id=run.id[-6:]))
        engineer.picture("train-running")
        engineer.sees(engineer.text("train.adapter"))
        engineer.settle()
        run = services.training.get(SYSTEM, run.id)
        assert run.adapter is not None
        engineer.sees(run.adapter)
        engineer.picture("train-done")
        return Trained(run, run.adapter, engineer.loads - before)


@pytest.fixture(scope="module")
def judged(
    browser: Any, installed: Installation, services: Services, trained: Trained
) -> tuple[Summary, str]:
    """The adapter's evaluation, launched and read on the Evaluate page; and that page's text."""
    with Visitor(browser, installed) as engineer:
        engineer.sign_in("engineer")
        engineer.open("evaluate")
        # Texts and tasks have tests of their own; here they would only take minutes more.
        for part, label in (("texts", "with_texts"), ("tasks", "with_tasks")):
            label = engineer.text(f"evaluate.{label}")
            engineer.part(f"evaluate.{part}").get_by_text(label).click()
        engineer.fill("evaluate.questions", QUESTION)
        engineer.press("evaluate.start")
        engineer.sees(engineer.text("evaluate.margins"))
        engineer.settle()
        engineer.picture("evaluate-done")
        found = services.evaluations.latest_for(SYSTEM, HERE, trained.adapter)
        assert found is not None
        assert found.summary is not None
        return found.summary, engineer.main()


@pytest.fixture(scope="module")
def rollout(browser: Any, installed: Installation, services: Services, trained: Trained) -> Rollout:
    """The adapter as a candidate with 10 % of the traffic, begun on the Rollouts page."""
    with Visitor(browser, installed) as engineer:
        engineer.sign_in("engineer")
        engineer.open("rollouts")
        engineer.part("rollouts.kind").get_by_text(engineer.text("rollouts.by_hand")).click()
        engineer.press("rollouts.start")
        engineer.sees(engineer.text("rollouts.started"))
        engineer.settle()
        engineer.picture("rollouts-started")
    (begun,) = services.rollouts.list(SYSTEM, HERE)
    until(
        lambda: trained.adapter in {model.id for model in services.engine.models()},
        "the engine has loaded the candidate",
    )
    return begun


@pytest.fixture(scope="module")
def key(browser: Any, installed: Installation) -> str:
    """An API key, made on the Tenants page and read from its only showing."""
    with Visitor(browser, installed) as admin:
        admin.sign_in("admin")
        admin.open("tenants")
        admin.part("tenants.key_name").locator("input").fill("intranet")
        admin.tab.get_by_role("button", name=admin.text("tenants.create_key")).click()
        dialog = admin.tab.get_by_role("dialog")
        dialog.get_by_text(admin.text("secret.once")).wait_for()
        admin.picture("tenants-key")
        text = str(dialog.locator("code").inner_text()).strip()
        admin.tab.keyboard.press("Escape")
        dialog.wait_for(state="detached")
        admin.open("tenants")
        assert text not in admin.tab.content()
        return text


@dataclass(frozen=True)
class Chatted:
    """An answer in the playground.

    Attributes:
        facts: What the page says about it.
        checks: What the button "verify" found, as the page says it.
        link: Where the page says that the receipt can be checked.
        receipt: The file that the page offers.
    """

    facts: dict[str, str]
    checks: str
    link: str
    receipt: Path


@pytest.fixture(scope="module")
def chatted(
    browser: Any,
    installed: Installation,
    rollout: Rollout,
    key: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Chatted:
    """A customer who signs in with the key, asks, and verifies the answer."""
    customer = Customer(browser, installed)
    customer.enter(key)
    customer.sees("Ailydian HQ")
    customer.ask(QUESTION)
    facts = customer.facts()
    customer.press("verify")
    customer.sees(TEXTS["en"]["holds"])
    customer.picture("playground")
    with customer.tab.expect_download() as download:
        customer.tab.get_by_text(TEXTS["en"]["download"]).click()
    receipt = tmp_path_factory.mktemp("downloads") / "receipt.json"
    download.value.save_as(receipt)
    link = customer.tab.get_by_role("link", name=TEXTS["en"]["verify_link"])
    found = Chatted(
        facts,
        str(customer.tab.locator(".pg-checks").inner_text()),
        str(link.get_attribute("href")),
        receipt,
    )
    customer.leave()
    return found


@pytest.fixture(scope="module")
def usage(services: Services, chatted: Chatted) -> Usage:
    """The usage row of the customer's answer."""
    rows = services.metering.usage_rows(SYSTEM, HERE, 100)
    (row,) = [row for row in rows if row.request_id == chatted.facts["receipt"]]
    return row


@pytest.mark.parametrize("role", OPEN_TO)
def test_each_role_is_offered_its_pages_and_refused_the_others(enter: Enter, role: str) -> None:
    visitor = enter(role)
    assert set(visitor.offered()) == OPEN_TO[role]
    for name in PAGES:
        if name not in OPEN_TO[role]:
            visitor.open(name)
            visitor.sees(visitor.text("errors.page_not_open"))
            assert visitor.text("errors.not_permitted") in visitor.main()


def test_three_pairs_are_reviewed_in_turkish_by_keyboard_alone(
    enter: Enter, services: Services
) -> None:
    annotator = enter("annotator")
    annotator.corner()
    annotator.part("shared.language_choice").get_by_text("Türkçe").click()
    annotator.language = "tr"
    annotator.sees(annotator.text("nav.review"))
    annotator.open("review")
    total = services.preferences.stats(SYSTEM, HERE).total
    for mine, pressed in enumerate(("1", "6", "0")):
        annotator.sees(annotator.text("review.progress", reviewed=mine, total=total, mine=mine))
        annotator.has_card()
        annotator.picture(f"review-{mine + 1}-tr")
        annotator.tab.keyboard.press(pressed)
    annotator.sees(annotator.text("review.progress", reviewed=3, total=total, mine=3))
    by = services.preferences.stats(SYSTEM, HERE).by_status
    assert (by[PairStatus.APPROVED], by[PairStatus.REJECTED]) == (2, 1)
    for status in (PairStatus.APPROVED, PairStatus.REJECTED):
        for found in services.preferences.pairs(SYSTEM, HERE, status=status).pairs:
            pair = services.preferences.pair(SYSTEM, HERE, found.id)
            (vote,) = [review for review in pair.history.reviews if review.kind is ReviewKind.VOTE]
            own = {response.id for response in pair.responses}
            assert (vote.preferred_response_id in own) is (status is PairStatus.APPROVED)


def test_a_sign_in_survives_reload_and_restart_and_ends_with_the_sign_out(
    browser: Any, installed: Installation
) -> None:
    with Visitor(browser, installed) as manager:
        manager.sign_in("manager")
        manager.tab.reload()
        manager.is_in()
        (kept,) = sessions(manager)
        assert (kept["httpOnly"], kept["sameSite"]) == (True, "Strict")
        installed.await_restart("console", installed.kill("console"))
        manager.tab.reload()
        manager.is_in()
        manager.sign_out()
        manager.tab.reload()
        manager.is_out()
        assert sessions(manager) == []
        # Whoever kept a copy of the cookie is out as well.
        manager.context.add_cookies([kept])
        manager.tab.reload()
        manager.is_out()


def sessions(visitor: Visitor) -> list[Any]:
    """The cookies that remember a sign-in."""
    cookies = visitor.context.cookies()
    return [cookie for cookie in cookies if cookie["name"].startswith("param_session")]


def test_a_run_is_seen_to_finish_without_reloading(services: Services, trained: Trained) -> None:
    assert trained.run.job.status is JobStatus.SUCCEEDED
    assert trained.loads == 0
    assert trained.adapter.startswith(f"{HERE}-")
    adapter = services.registry.get(SYSTEM, HERE, trained.adapter)
    assert (adapter.name, adapter.run_id) == (trained.adapter, trained.run.id)
    assert services.training.metrics(SYSTEM, trained.run.id)[-1].step == STEPS


def test_the_adapter_is_judged_against_its_base(
    judged: tuple[Summary, str], trained: Trained
) -> None:
    summary, page = judged
    assert trained.adapter in page
    assert summary.n_pairs > 0
    assert f"{summary.base_accuracy:.1%}" in page
    assert f"{summary.adapter_accuracy:.1%}" in page
    assert QUESTION in page


def test_the_candidate_gets_ten_percent(rollout: Rollout, trained: Trained) -> None:
    assert rollout.state is RolloutState.STEPPING
    assert (rollout.candidate, rollout.stable, rollout.percent) == (trained.adapter, None, 10)


def test_a_key_is_shown_once_and_works(installed: Installation, key: str) -> None:
    answer = httpx.get(
        f"{installed.settings.gateway_url}/v1/whoami", headers={"authorization": f"Bearer {key}"}
    )
    assert answer.json()["tenant"]["id"] == HERE


def test_a_customer_sees_model_arm_tokens_and_cost(
    chatted: Chatted, usage: Usage, services: Services
) -> None:
    assert chatted.facts["served"] == usage.served
    assert chatted.facts["arm"] == usage.arm
    expected = f"{usage.prompt_tokens:,} in, {usage.completion_tokens:,} out"
    assert chatted.facts["tokens"] == expected
    assert chatted.facts["cost"] == f"0.{usage.cost_micro:06d} USD"
    assert usage.cost_micro > 0
    (entry,) = [
        entry
        for entry in services.audit.tail(SYSTEM, HERE, limit=200)
        if entry.subject == f"request:{usage.request_id}"
    ]
    assert entry.details["stream"] is True


def test_a_receipt_holds_in_the_playground_and_on_the_verify_page(
    browser: Any, installed: Installation, enter: Enter, chatted: Chatted
) -> None:
    assert TEXTS["en"]["fail"] not in chatted.checks.split()
    # The customer has no account at the console: the file itself is the proof there.
    with Visitor(browser, installed) as stranger:
        stranger.tab.goto(chatted.link)
        stranger.sees(stranger.text("verify.sign_in_or_drop"))
        stranger.tab.set_input_files('input[type="file"] >> nth=0', chatted.receipt)
        stranger.sees(stranger.text("verify.holds"))
        stranger.settle()
        stranger.picture("verify-stranger")
    engineer = enter("engineer")
    engineer.tab.goto(chatted.link)
    engineer.sees(engineer.text("verify.holds"))
    engineer.sees_cell(chatted.facts["served"])


def test_a_changed_receipt_is_refused_on_the_verify_page(
    browser: Any, installed: Installation, chatted: Chatted, tmp_path: Path
) -> None:
    document = json.loads(chatted.receipt.read_text())
    payload = json.loads(base64.b64decode(document["envelope"]["payload"]))
    payload["predicate"]["cost"]["micro"] = "0"
    document["envelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    forged = tmp_path / "forged.json"
    forged.write_text(json.dumps(document))
    with Visitor(browser, installed) as stranger:
        stranger.open("verify")
        stranger.tab.set_input_files('input[type="file"] >> nth=0', forged)
        stranger.sees(stranger.text("errors.verification_failed"))
        assert stranger.text("verify.holds") not in stranger.main()


def test_a_manager_finds_the_answer_in_cost_and_audit(enter: Enter, usage: Usage) -> None:
    manager = enter("manager")
    manager.open("cost")
    manager.sees_cell(f"{usage.prompt_tokens} + {usage.completion_tokens}")
    manager.sees_cell(f"{usage.cost_micro / 1_000_000:.6f} USD")
    manager.sees_cell(usage.served)
    manager.open("audit")
    manager.sees_cell(f"request:{usage.request_id}")
    manager.sees_cell("inference.answered")
    manager.press("audit.verify")
    manager.sees(manager.text("audit.root"))


def test_people_of_another_tenant_see_nothing_of_this_one(
    enter: Enter, trained: Trained, chatted: Chatted, judged: tuple[Summary, str]
) -> None:
    receipt = chatted.facts["receipt"]
    visitor = enter("medical.engineer")
    for page in PAGES:
        visitor.open(page, HERE, run=trained.run.id, receipt=receipt)
        read = visitor.main()
        for secret in (trained.adapter, HERE, "Ailydian", receipt, QUESTION):
            assert secret not in read, page
        assert visitor.chosen("tenant") == "Medical AI", page


def test_the_gateway_refuses_another_tenants_adapter(
    installed: Installation, services: Services, trained: Trained, chatted: Chatted
) -> None:
    issued = services.tenants.create_key(SYSTEM, ELSEWHERE, "test")
    headers = {"authorization": f"Bearer {issued.key}"}
    with httpx.Client(base_url=installed.settings.gateway_url, headers=headers) as http:
        until(lambda: http.get("/v1/whoami").status_code == 200, "the gateway knows the key")
        for model in (trained.adapter, HERE):
            asked = {"model": model, "messages": [{"role": "user", "content": "?"}]}
            refused = http.post("/v1/chat/completions", json=asked)
            assert refused.status_code == 404
            assert refused.json()["error"]["code"] == "model_not_found"
        assert http.get(f"/v1/receipts/{chatted.facts['receipt']}").status_code == 404
        assert trained.adapter not in http.get("/v1/models").text


def test_every_page_is_drawn_with_what_the_loop_left(
    enter: Enter, chatted: Chatted, judged: tuple[Summary, str]
) -> None:
    for role, pages in (("engineer", sorted(OPEN_TO["engineer"])), ("admin", ["users"])):
        visitor = enter(role)
        for page in pages:
            visitor.open(page)
            visitor.tab.wait_for_load_state("networkidle")
            visitor.settle()
            visitor.picture(f"page-{page}")
            assert visitor.main().strip(), page
