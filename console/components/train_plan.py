"""What a run will need, said before it is launched: steps, time, memory."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import streamlit as st

from console import wiring
from console.components import errors
from console.i18n import duration, number, t
from services.tenants.models import Actor, Tenant
from services.training.models import DpoSpec


def draw(actor: Actor, tenant: Tenant, asked: Callable[[], DpoSpec], frozen: bool) -> None:
    """Draw the estimate, or why the order cannot be.

    Args:
        asked: Gives the order as the form says it.
        frozen: Whether it names a frozen dataset.
    """
    with errors.shown():
        found = wiring.services().training.estimate(actor, tenant.id, asked(), frozen=frozen)
        here_gb = psutil.virtual_memory().total / 2**30
        needs_gb = found.memory_mb / 1024
        basis = "train.plan_measured" if found.measured_runs else "train.plan_guess"
        st.caption(
            t(
                "train.plan",
                steps=found.steps,
                time=duration(found.seconds),
                needs=number(needs_gb, 1),
                has=number(here_gb, 0),
            )
            + " "
            + t(basis, count=found.measured_runs)
        )
        if needs_gb > here_gb:
            st.warning(t("train.plan_too_much"), icon=":material/memory:")
