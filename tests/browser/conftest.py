"""One installation and one Chromium for each file of this folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from services.bootstrap import Services
from services.inference.models import BaseModel
from tests.browser.installation import Installation, installation
from tests.support import require

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
PATIENCE_MS = 30_000
"""How long a page may take on a machine that does other things as well; a test never times."""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


# For a file, not for the session: while Playwright's own event loop is there, no other test of
# the same process could run one.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    require(bool(CHROMIUM), "Chromium")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def installed(
    base_model: BaseModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """A whole installation with the demo's tenants, people and pairs."""
    require(bool(CHROMIUM), "Chromium")
    with installation(tmp_path_factory.mktemp("installation") / "home", base_model) as found:
        yield found


@pytest.fixture(scope="module")
def services(installed: Installation) -> Iterator[Services]:
    """Its services, to arrange what a test begins with and to look at what it left."""
    with installed.services() as built:
        yield built
