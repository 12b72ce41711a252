"""The services that this process shares between all browser sessions."""

from __future__ import annotations

import gc
import importlib
import logging

import streamlit as st

from labeling.adjudication import Adjudication
from labeling.agreement import Agreements
from labeling.label_studio.service import LabelStudio
from labeling.meters import Meters
from labeling.policies import Policies
from labeling.queue import ReviewQueue
from services import bootstrap, settings
from services.bootstrap import Services
from services.errors import ConsoleError
from services.preferences.bulk import Bulk
from services.preferences.views import Views

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


@st.cache_resource(show_spinner=False)
def policies() -> Policies:
    """How tenants review, over the shared services."""
    return Policies(services().db)


@st.cache_resource(show_spinner=False)
def agreements() -> Agreements:
    """How far annotators agree, over the shared services."""
    return Agreements(services().db)


@st.cache_resource(show_spinner=False)
def adjudication() -> Adjudication:
    """The queue of disagreements over the shared services."""
    shared = services()
    return Adjudication(shared.db, shared.preferences)


@st.cache_resource(show_spinner=False)
def meters() -> Meters:
    """How annotators work, over the shared services."""
    return Meters(services().db)


@st.cache_resource(show_spinner=False)
def bulk() -> Bulk:
    """Changes of many pairs, over the shared services."""
    return Bulk(services().db)


@st.cache_resource(show_spinner=False)
def views() -> Views:
    """Saved views of pairs, over the shared services."""
    return Views(services().db)


@st.cache_resource(show_spinner=False)
def label_studio() -> LabelStudio:
    """The Label Studio synchronisation, over the shared services."""
    shared = services()
    return LabelStudio(shared.db, review_queue(), shared.jobs, shared.settings)
