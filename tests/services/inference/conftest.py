"""Fixtures of the inference tests."""

from __future__ import annotations

import pytest

from services.inference.engine.model import LanguageModel
from services.inference.models import BaseModel
from tests.models import base_model, tiny_model

__all__ = ["base_model", "tiny_model"]


@pytest.fixture(scope="session")
def tiny_language_model(tiny_model: BaseModel) -> LanguageModel:
    """The tiny model in memory; one test at a time runs it."""
    return LanguageModel(tiny_model.path)
