"""Pruning masks: exact counts, largest kept, ties by order; the schedule."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymodel.machine.errors import TatamiError
from pymodel.packing.prune import global_masks, kept_count, layer_masks, sparsity_of
from pymodel.training.schedule import cubic_sparsity

SPARSITY = st.floats(0, 1, exclude_max=True) | st.sampled_from([0.0, 0.5, 0.9, 0.95])


@st.composite
def weight_sets(draw: st.DrawFn) -> dict[str, npt.NDArray[np.float64]]:
    """Layers of odd shapes with few different values, so that ties are common."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shapes = draw(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), min_size=1, max_size=4))
    return {f"l{i}": rng.integers(-4, 5, shape).astype(np.float64) for i, shape in enumerate(shapes)}


@pytest.mark.parametrize(
    ("weights", "sparsity", "kept"),
    [(10, 0.9, 1), (100, 0.07, 93), (3, 0.5, 1), (1, 0.0, 1), (1, 0.1, 0), (0, 0.5, 0), (1000, 0.95, 50)],
)
def test_kept_count(weights: int, sparsity: float, kept: int) -> None:
    assert kept_count(weights, sparsity) == kept


@given(weight_sets(), SPARSITY)
def test_layer_masks_keep_the_largest(weights: dict[str, npt.NDArray[np.float64]], sparsity: float) -> None:
    for name, mask in layer_masks(weights, sparsity).items():
        _check(weights[name], mask, kept_count(weights[name].size, sparsity))


@given(weight_sets(), SPARSITY)
def test_global_masks_keep_the_largest(weights: dict[str, npt.NDArray[np.float64]], sparsity: float) -> None:
    masks = global_masks(weights, sparsity)
    assert {name: mask.shape for name, mask in masks.items()} == {
        name: weight.shape for name, weight in weights.items()
    }
    flat, flat_mask = (
        np.concatenate([part.ravel() for part in parts.values()]) for parts in (weights, masks)
    )
    _check(flat, flat_mask, kept_count(len(flat), sparsity))


def _check(weight: npt.NDArray[np.float64], mask: npt.NDArray[np.bool_], kept: int) -> None:
    assert mask.shape == weight.shape
    assert mask.sum() == kept
    order = sorted(range(weight.size), key=lambda i: (-abs(weight.flat[i]), i))
    assert sorted(np.flatnonzero(mask)) == sorted(order[:kept])


def test_one_layer_is_the_same_either_way() -> None:
    weights = {"a": np.random.default_rng(0).normal(size=(8, 4, 3, 3))}
    np.testing.assert_array_equal(layer_masks(weights, 0.9)["a"], global_masks(weights, 0.9)["a"])


def test_sparsity_by_layer() -> None:
    weights = {"a": np.arange(1.0, 11), "b": -np.arange(1.0, 11)}
    masks = layer_masks(weights, {"a": 0.5, "b": 0.9})
    assert [masks["a"].sum(), masks["b"].sum()] == [5, 1]
    assert masks["b"][9]
    with pytest.raises(TatamiError, match="layer 'b' has no sparsity; given: a"):
        layer_masks(weights, {"a": 0.5})


def test_global_masks_follow_magnitude_across_layers() -> None:
    masks = global_masks({"small": np.full(4, 0.1), "large": np.full(4, -2.0)}, 0.5)
    assert not masks["small"].any()
    assert masks["large"].all()


@pytest.mark.parametrize("sparsity", [-0.01, 1.0, 1.5, float("nan")])
def test_bad_sparsity_is_refused(sparsity: float) -> None:
    for prune in (layer_masks, global_masks):
        with pytest.raises(TatamiError, match=r"must be in \[0, 1\)"):
            prune({"a": np.ones(3)}, sparsity)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(bad: float) -> None:
    for prune in (layer_masks, global_masks):
        with pytest.raises(TatamiError, match="layer 'b': weight 2 is not a finite number"):
            prune({"a": np.ones(3), "b": np.array([1, 2, bad])}, 0.5)


def test_no_layers() -> None:
    assert layer_masks({}, 0.5) == {}
    assert global_masks({}, 0.5) == {}
    assert sparsity_of({}) == 0


def test_cubic_schedule() -> None:
    assert cubic_sparsity(0, 10, 20, 0.9) == 0
    assert cubic_sparsity(10, 10, 20, 0.9, 0.1) == pytest.approx(0.1)
    assert cubic_sparsity(15, 10, 20, 0.8) == pytest.approx(0.8 * 7 / 8)
    assert cubic_sparsity(20, 10, 20, 0.9) == cubic_sparsity(1000, 10, 20, 0.9) == 0.9
    rising = [cubic_sparsity(step, 3, 17, 0.95, 0.2) for step in range(25)]
    assert rising == sorted(rising)
    with pytest.raises(TatamiError, match="begins at step 5"):
        cubic_sparsity(0, 5, 5, 0.9)
    with pytest.raises(TatamiError, match="must rise within"):
        cubic_sparsity(0, 0, 5, 0.5, 0.6)


def test_sparsity_of() -> None:
    assert sparsity_of({"a": np.array([0, 1, 0]), "b": np.array([[0]])}) == 0.75
