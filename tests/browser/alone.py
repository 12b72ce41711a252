"""The console alone, without the other programs: started on a home that a test made."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from services import bootstrap, settings
from services.bootstrap import Services
from services.db.revise import declared_tables
from services.tenants.models import Actor, Limits, Role
from tests.support import ROOT, free_port

SYSTEM = Actor.system("test")
PASSWORD = "parola-parola"
People = Mapping[str, Mapping[str, frozenset[Role]]]


@dataclass
class Console:
    """A console process and the services on its database."""

    url: str
    services: Services
    environment: dict[str, str]
    process: subprocess.Popen[bytes]

    def start(self) -> None:
        """Start the process and wait until it answers."""
        command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "console" / "app.py")]
        port = self.url.rpartition(":")[2].strip("/")
        self.process = subprocess.Popen(
            [*command, "--server.port", port, "--server.address", "127.0.0.1"],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}_stcore/health", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.2)
        raise AssertionError("the console did not answer within 120 s")

    def sign_in(self, browser: Any, name: str, path: str, **context: Any) -> Any:
        """A page of the console with this person signed in; `context` is Playwright's."""
        opened = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
        opened.set_default_timeout(30_000)
        page = opened.new_page()
        page.goto(self.url + path)
        page.locator("input[type=text]").first.fill(name)
        page.locator("input[type=password]").fill(PASSWORD)
        with page.expect_response(lambda answer: answer.url.endswith("/session")):
            page.locator("input[type=password]").press("Enter")
        page.get_by_test_id("stSidebarNav").wait_for(state="attached")
        return page


@contextmanager
def console(
    home: Path, people: People, *, languages: Mapping[str, str] | None = None
) -> Iterator[Console]:
    """A running console with these people and the tenants that they belong to.

    Args:
        people: Roles by tenant id, by username.
        languages: What the console speaks with somebody; English by default.
    """
    port = free_port()
    own = {"PARAM_HOME": str(home), "PARAM_CONSOLE_PORT": str(port)}
    built = bootstrap.build(settings.load(own))
    declared_tables().create_all(built.db.engine)
    for tenant_id in sorted({tenant_id for grants in people.values() for tenant_id in grants}):
        if tenant_id.isalpha():
            built.tenants.create(SYSTEM, tenant_id.title(), limits=Limits(5, 100, 10_000))
    for name, grants in people.items():
        user, _password = built.tenants.create_user(
            SYSTEM, name, display_name=name.title(), grants=grants, password=PASSWORD
        )
        if languages and name in languages:
            built.tenants.set_language(user.id, languages[name])
    running = Console(f"http://127.0.0.1:{port}/", built, os.environ | own, None)  # type: ignore[arg-type]
    running.start()
    try:
        yield running
    finally:
        running.process.terminate()
        running.process.wait(timeout=30)
        built.close()
