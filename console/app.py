"""The console's server: `streamlit run console/app.py`.

Streamlit runs `shell.py` for each browser session; beside it stand the few plain HTTP routes that
a Streamlit script cannot offer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import streamlit as st

from console import auth, wiring


@asynccontextmanager
async def _ready(_app: st.App) -> AsyncIterator[dict[str, Any]]:
    """Answer "healthy" only when the first visitor need not wait for imports."""
    await asyncio.to_thread(wiring.warm_up)
    yield {}


app = st.App(Path(__file__).with_name("shell.py"), routes=auth.routes(), lifespan=_ready)
