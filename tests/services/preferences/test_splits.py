from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.preferences.splits import PlacedPrompt, overlapping, share, sides


def placed(*prompts: tuple[str, str | None, int]) -> list[PlacedPrompt]:
    return [PlacedPrompt(*prompt) for prompt in prompts]


def test_a_cluster_is_on_one_side() -> None:
    many = placed(*((f"key-{number}", None, number // 3) for number in range(300)))
    parts = sides(many, eval_fraction=0.3, seed=0)
    for start in range(0, 300, 3):
        assert len({*parts[start : start + 3]}) == 1
    assert 0.15 < parts.count("eval") / 300 < 0.45


def test_a_bound_prompt_draws_its_cluster_along() -> None:
    many = placed(("a", None, 0), ("b", "eval", 0), ("c", "train", 1), ("d", None, 1))
    assert sides(many, eval_fraction=0.0, seed=0) == ["eval", "eval", "train", "train"]


def test_a_torn_cluster_trains_and_is_told() -> None:
    many = placed(("a", "train", 0), ("b", "eval", 0), ("c", None, 0), ("d", "eval", 1))
    parts = sides(many, eval_fraction=0.5, seed=0)
    assert parts == ["train", "eval", "train", "eval"]
    assert overlapping(many, parts) == {1}


@given(
    st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(0, 4)), max_size=12),
    st.floats(0.01, 0.99),
    st.integers(0, 5),
)
def test_both_sides_have_prompts_if_there_are_two_clusters(
    found: list[tuple[str, int]], fraction: float, seed: int
) -> None:
    many = placed(*((key, None, cluster) for key, cluster in found))
    parts = sides(many, eval_fraction=fraction, seed=seed)
    clusters = {cluster for _, cluster in found}
    assert len(set(parts)) == min(2, len(clusters))
    assert overlapping(many, parts) == set()


@given(st.lists(st.text("0123456789abcdef", min_size=4, max_size=8), unique=True, max_size=20))
def test_a_prompt_keeps_its_side_when_others_come(keys: list[str]) -> None:
    many = placed(*((key, None, number) for number, key in enumerate(keys)))
    parts = sides(many, eval_fraction=0.5, seed=3)
    if len(set(parts)) == 2:
        expected = ["eval" if share(3, key) < 0.5 else "train" for key in keys]
        assert sum(one != other for one, other in zip(parts, expected, strict=True)) <= 1
