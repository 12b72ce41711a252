"""Opens pages as a browser would: through the shell, signed in, on real services and SQLite."""

from __future__ import annotations

import functools
import gc
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from console import state, wiring
from services import bootstrap, settings
from services.bootstrap import Services
from services.db.revise import declared_tables
from services.tenants.models import EVERY_TENANT, Actor, Limits, Role

ROOT = Path(__file__).parents[2]
SHELL = ROOT / "console" / "shell.py"
TENANTS = {"acme": "Acme", "globex": "Globex"}
SYSTEM = Actor.system("test")
OpenPage = Callable[..., AppTest]


@dataclass
class Template:
    """A home folder with two tenants, one signed-in person per role in `acme`, and `root`.

    Attributes:
        tokens: Session token by role name; `root` administers every tenant.
    """

    home: Path
    tokens: Mapping[str, str] = field(default_factory=dict)


@pytest.fixture(scope="session", autouse=True)
def _installed_packages_are_read_once() -> Iterator[None]:
    """Each opened page makes Streamlit read the metadata of every package: half a test's time."""
    found = functools.cache(manifest_scanner.scan_component_manifests)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", found)
        yield


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    home = tmp_path_factory.mktemp("console") / "home"
    home.mkdir()
    built = bootstrap.build(settings.load({"PARAM_HOME": str(home)}))
    declared_tables().create_all(built.db.engine)
    for tenant_id, name in TENANTS.items():
        built.tenants.create(
            SYSTEM, name, tenant_id=tenant_id, limits=Limits(tps=5, rpm=100, daily_tokens=10_000)
        )
    tokens = {}
    for role in (Role.ANNOTATOR, Role.ENGINEER, Role.MANAGER, Role.ADMIN):
        tokens[role.value] = _enrol(built, role.value, {"acme": frozenset({role})})
    tokens["root"] = _enrol(built, "root", {EVERY_TENANT: frozenset({Role.ADMIN})})
    built.db.close()
    # Streamlit collects all garbage after each run: what was imported need not be looked through.
    gc.collect()
    gc.freeze()
    return Template(home, tokens)


def _enrol(built: Services, name: str, grants: Mapping[str, frozenset[Role]]) -> str:
    _user, password = built.tenants.create_user(
        SYSTEM, name, display_name=name.title(), grants=grants
    )
    return built.tenants.sign_in(name, password).token


@pytest.fixture
def services(
    _template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Services]:
    """The services that the pages of this test use, on a home of its own."""
    home = tmp_path / "home"
    shutil.copytree(_template.home, home)
    monkeypatch.setenv("PARAM_HOME", str(home))
    st.cache_resource.clear()
    st.cache_data.clear()
    shared = wiring.services()
    yield shared
    shared.db.close()
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture
def actor_of(services: Services, _template: Template) -> Callable[[str], Actor]:
    """The actor of a role's person, for arranging what a page then shows."""

    def find(role: str) -> Actor:
        user = services.tenants.resume(_template.tokens[role])
        assert user is not None
        return user.actor()

    return find


@pytest.fixture
def open_page(services: Services, _template: Template) -> OpenPage:
    """Open a page: `open_page("cost", tenant="acme", actor="manager", language="tr")`.

    `actor` is a role name, `root`, or None for somebody who is not signed in. The page is opened
    by its address, as from a bookmark.
    """

    def open_(
        name: str, *, tenant: str = "acme", actor: str | None = "engineer", language: str = "en"
    ) -> AppTest:
        opened = AppTest.from_file(str(SHELL), default_timeout=60)
        opened.session_state[state.LANGUAGE] = language
        if actor is not None:
            opened.session_state[state.TOKEN] = _template.tokens[actor]
            opened.session_state[state.TENANT] = tenant
        opened.switch_page(f"../pages/{name}.py")
        opened.run()
        assert not opened.exception, opened.exception
        return opened

    return open_


def texts(opened: AppTest) -> str:
    """Everything that a person reads on the page, in one string."""
    kinds = (
        "title", "header", "subheader", "markdown", "caption", "error", "success", "info",
        "warning", "text", "code", "html",
    )  # fmt: skip
    found: list[str] = []
    for kind in kinds:
        found += [
            str(element.value if kind != "html" else element.proto.body)
            for element in opened.get(kind)
        ]
    found += [f"{metric.label} {metric.value}" for metric in opened.metric]
    found += [button.label for button in opened.button]
    return "\n".join(found)
