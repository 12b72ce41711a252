"""Our own reading of a schema, held against the `jsonschema` library on the real definitions."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.clusters.schema import Schema
from tests.fakes.kubernetes import crds, schemas
from tests.fakes.kubernetes.samples import rewrite, service


def root(plural: str) -> dict[str, Any]:
    found: dict[str, Any] = crds.load(plural)["spec"]["versions"][-1]["schema"]["openAPIV3Schema"]
    return found


def refuses(thing: dict[str, Any], schema: dict[str, Any]) -> bool:
    """What a strict server would do."""
    kept, dropped = schemas.prune(thing, schema)
    return bool(dropped or schemas.problems(schemas.with_defaults(kept, schema), schema))


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place within a value."""
    found = [at] if at else []
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in items:
            found += places(item, (*at, name))
    return found


def changed(thing: dict[str, Any], at: tuple[Any, ...], how: str, value: Any) -> dict[str, Any]:
    result = copy.deepcopy(thing)
    parent: Any = result
    for part in at[:-1]:
        parent = parent[part]
    if how == "remove":
        del parent[at[-1]]
    elif how == "rename" and isinstance(parent, dict):
        parent[f"{at[-1]}x"] = parent.pop(at[-1])
    else:
        parent[at[-1]] = value
    return result


CANARY = {
    "trafficPercent": 10,
    "predictor": {"name": "v2", "model": {"name": "k", "modelFormat": {"name": "vLLM"}}},
}
VALID = {
    "inferenceservices": {"spec": {**service()["spec"], "canary": [CANARY]}},
    "inferencemodelrewrites": {"spec": rewrite()["spec"]},
}
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 2_000_000), st.text(max_size=4), st.just({}),
    st.just([]), st.just([1]), st.just({"x": 1}), st.floats(0, 5, allow_nan=False).map(lambda x: x + 0.5),
)  # fmt: skip


@pytest.mark.parametrize("plural", sorted(VALID))
def test_what_is_valid_has_no_problem(plural: str) -> None:
    assert Schema(root(plural)).problems(VALID[plural]) == []
    assert not refuses(VALID[plural], root(plural))


@settings(max_examples=150)
@given(data=st.data(), plural=st.sampled_from(sorted(VALID)))
def test_we_refuse_exactly_what_a_strict_server_refuses(data: st.DataObject, plural: str) -> None:
    valid = VALID[plural]
    at = data.draw(st.sampled_from(places(valid)))
    how = data.draw(st.sampled_from(["replace", "remove", "rename"]))
    thing = changed(valid, at, how, data.draw(VALUES))
    found = Schema(root(plural)).problems(thing)
    assert bool(found) == refuses(thing, root(plural)), (found, thing)


def test_a_problem_is_one_sentence_with_its_place() -> None:
    schema = Schema(root("inferenceservices"))
    body: dict[str, Any] = copy.deepcopy(VALID["inferenceservices"])
    body["spec"]["canary"][0]["trafficPercent"] = 101
    assert schema.problems(body) == ["spec.canary[0].trafficPercent: expected 0 to 100, found 101"]
    del body["spec"]["canary"][0]["predictor"]["model"]["name"]
    assert "spec.canary[0].predictor.model.name: expected a value, found none" in schema.problems(
        body
    )
    body["spec"]["canaryPredictor"] = {}
    [unknown] = [one for one in schema.problems(body) if "canaryPredictor" in one]
    assert unknown.endswith("this cluster does not know the field and would drop it without a word")


def test_what_a_schema_knows() -> None:
    schema = Schema(root("inferenceservices"))
    assert schema.is_list("spec.canary")
    assert schema.knows("spec.canary.predictor.model.storageUri")
    assert not schema.knows("spec.canaryPredictor")
    assert not schema.knows("spec.canary.predictor.model.storageUri.deeper")
    assert schema.requires("spec.canary.predictor.model", "name")
    assert not schema.requires("spec.predictor.model", "name")
    assert not schema.takes_anything("spec")


def test_a_minimal_definition_takes_anything() -> None:
    minimal = crds.minimal(crds.load("inferenceservices"))
    schema = Schema(minimal["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    assert schema.takes_anything("spec")
    assert not schema.knows("spec.canary")
    assert schema.problems({"spec": {"anything": 1}}) == []
