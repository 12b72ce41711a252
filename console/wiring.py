"""The services that this process shares between all browser sessions."""

from __future__ import annotations

import gc
import importlib
import logging

import streamlit as st

from labeling.queue import ReviewQueue
from services import bootstrap, settings
from services.bootstrap import Services
from services.errors import ConsoleError

_log = logging.getLogger(__name__)
_DRAWS_WITH = ("pandas", "pyarrow", "plotly.graph_objects")


@st.cache_resource(show_spinner=False)
def services() -> Services:
    """The one composition of this process, built at first use."""
    return bootstrap.build(settings.load())


@st.cache_resource(show_spinner=False)
def review_queue() -> ReviewQueue:
    """The review queue over the shared services."""
    shared = services()
    return ReviewQueue(shared.db, shared.preferences)


def warm_up() -> None:
    """Import and build at the start what every page needs; a refusal is left for the pages to show.

    Streamlit collects all garbage after each run of a script, which takes the longer the more
    objects are alive. What was imported lives as long as the process: once frozen, it is not
    looked through again (the review's next card then comes hundreds of milliseconds sooner).
    """
    try:
        services()
        review_queue()
    except ConsoleError as error:
        _log.error("%s", error.message)
    for name in _DRAWS_WITH:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
