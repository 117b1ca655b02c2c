"""Slots of 4-bit digits, from the digits of a weight to images that agree with the reference; and the scheme
that prunes digits.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymodel.compiler.compile import PACKINGS, CapacityError, compile_network
from pymodel.compiler.planes import input_banks
from pymodel.machine.config import CONFIGS, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.memory import memories
from pymodel.network.integer import Conv, Network, Requant, Weighted
from pymodel.packing.pack import (
    PackedMatrix,
    Tile,
    append,
    check,
    digit_count,
    pack,
    pack_dense,
    refill,
    split_digits,
    unpack,
)
from pymodel.packing.permute import (
    MOVES,
    Permutation,
    _squares_of_twos,
    lane_bound,
    lane_count,
    natural,
    permute,
)
from pymodel.packing.plan import LayerWeights, Plans, compression, occupancy, slot_budget
from pymodel.schemes.joint_subword import CycleSubword, JointSubword, _take
from pymodel.schemes.search import hand_out_lanes, most_that_fit
from pymodel.schemes.tight_joint import best_of_filters, lane_limit, sort_into_tiles
from pymodel.schemes.tight_subword import TightSubword, by_digit, digit_saliency_kept, integers, project
from pymodel.schemes.unstructured import most_salient
from pymodel.zoo.random_network import grouped, random_images, random_network, random_program
from tests.support import assert_agrees

PLAIN = [config for config in CONFIGS.values() if config.weight_bits == 8 and not config.xor_inputs]
DIGITS = [replace(config, name=f"{config.name}-digits", weight_bits=4) for config in PLAIN]
SMALL = next(config for config in DIGITS if config.name == "4x2t-digits")
LOW, HIGH = -128, 119


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_digits_of_every_weight() -> None:
    weight = np.arange(LOW, HIGH + 1)
    low, high = split_digits(weight).astype(int).T
    np.testing.assert_array_equal(low + 16 * high, weight)
    assert (low.min(), low.max(), high.min(), high.max()) == (-8, 7, -8, 7)
    np.testing.assert_array_equal(digit_count(weight), (low != 0).astype(int) + (high != 0))
    assert [digit_count(np.array([w]))[0] for w in (0, 7, 8, 16, 17, -8, -16)] == [0, 1, 2, 1, 2, 1, 1]
    for wrong in (120, -129):
        with pytest.raises(
            TatamiError,
            match=f"weight holds {wrong}..{wrong}, must be in -128..119: two digits of 4 bits hold no more",
        ):
            split_digits(np.array([wrong]))


# Permutation


def word(counts: npt.NDArray[Any]) -> np.uint64:
    return np.uint64(counts.astype(np.uint8).view(np.uint64)[0])


def test_squares_of_twos_equal_the_sums() -> None:
    """Random counts and the ends of their range: 2 G = 32 in one group, none or all but the moved ones in the
    other.
    """
    rng = rng_of(0)
    for trial in range(3000):
        a, b = rng.integers(0, 3, (2, 8))
        spare = (
            rng.integers(0, 31, (2, 8)),
            (np.full(8, 30), np.zeros(8, int)),
            (np.zeros(8, int), np.full(8, 30)),
        )[trial % 3]
        p, q = a + spare[0], b + spare[1]
        grown = ((p - a + b) ** 2 - p**2 + (q - b + a) ** 2 - q**2).sum()
        assert 2 * _squares_of_twos(word(a), word(b), word(p), word(q)) == grown


def sparse(seed: int, filters: int, inputs: int, density: float) -> npt.NDArray[np.int64]:
    rng = rng_of(seed)
    weight = rng.integers(LOW, HIGH + 1, (filters, inputs))
    weight[rng.random(weight.shape) < 0.4] &= ~15  # multiples of 16: one digit
    return weight * (rng.random(weight.shape) < density)


def slow_lanes(weight: npt.NDArray[Any], found: Permutation) -> int:
    """Lanes that digits need, counted weight by weight."""
    total = 0
    for index, filters in enumerate(found.tiles):
        for group in found.table(index):
            total += max(sum(int(digit_count(weight[f, [k]])[0]) for k in group if k >= 0) for f in filters)
    return total


matrices = st.builds(
    sparse,
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 5, 9, 17]),
    st.sampled_from([1, 2, 30]),
    st.sampled_from([0.0, 0.2, 1.0]),
)


@given(matrices, st.sampled_from(["layer", "tile"]), st.sampled_from([1, 4, 16]), st.sampled_from([4, 16]))
@settings(max_examples=60, deadline=None)
def test_round_trip(weight: npt.NDArray[np.int64], table: Any, group: int, size: int) -> None:
    bank = np.arange(weight.shape[1]) % group
    count = digit_count(weight)
    found = permute(weight, bank, size, group, table=table, rng=rng_of(1), moves=50, slots=count)
    packed = pack(weight, bank, found, size, group, 4)
    check(packed, size, group, bank, 4)
    np.testing.assert_array_equal(unpack(packed, *weight.shape), weight)
    assert packed.lanes == lane_count(weight, found, count) == slow_lanes(weight, found)
    assert packed.lanes <= lane_count(weight, natural(weight, bank, size, group), count)
    assert packed.lanes >= lane_bound(weight, bank, found.tiles, group, count).sum()
    assert packed.nonzeros == count.sum()


def test_annealing_counts_digits() -> None:
    """Every filter has six digits in pairs and ones that fit six lanes exactly: the search must find them,
    which the first order does not.
    """
    rng = rng_of(3)
    groups = np.arange(24).reshape(6, 4)
    weight = np.zeros((8, 24), np.int64)
    for f in range(8):
        for g in groups[::2]:  # two lanes a group: one weight of two digits, or two of one
            if rng.random() < 0.5:
                weight[f, rng.choice(g)] = 17
            else:
                weight[f, rng.choice(g, 2, replace=False)] = 16
    bank = np.arange(24) % 4
    order = np.concatenate(
        [rng.permutation(np.flatnonzero(bank == b))[:, None] for b in range(4)], axis=1
    ).ravel()
    weight = weight[:, order]
    count = digit_count(weight)
    found = permute(weight, bank, 8, 4, rng=rng, slots=count)
    assert lane_count(weight, natural(weight, bank, 8, 4), count) > 6
    assert lane_count(weight, found, count) == 6


def test_bound_counts_digits() -> None:
    weight, bank = np.array([[17, 1, 0, 0], [0, 0, 16, 17]]), np.array([0, 1, 0, 0])
    tiles = [np.array([0, 1])]
    assert lane_bound(weight, bank, tiles, 2).tolist() == [3]  # inputs 0, 2 and 3 in one bank
    assert lane_bound(weight, bank, tiles, 2, digit_count(weight)).tolist() == [5]
    # the three digits of either filter
    assert lane_bound(weight, np.arange(4), tiles, 4, digit_count(weight)).tolist() == [3]


def test_one_slot_a_weight_is_what_permute_does_unasked() -> None:
    weight = sparse(1, 20, 60, 0.2)
    bank = np.arange(60) % 4
    plain = permute(weight, bank, 4, 4, rng=rng_of(0), moves=200)
    asked = permute(weight, bank, 4, 4, rng=rng_of(0), moves=200, slots=(weight != 0).astype(int))
    for one, other in zip((*plain.tiles, *plain.groups), (*asked.tiles, *asked.groups), strict=True):
        np.testing.assert_array_equal(one, other)
    for wrong in (np.full(weight.shape, 3), np.full(weight.shape, -1), np.ones((20, 59), int)):
        with pytest.raises(
            TatamiError, match=r"permute: slots must hold 0..2 for each of \(20, 60\) weights"
        ):
            permute(weight, bank, 4, 4, rng=rng_of(0), slots=wrong)


# Packing


def packed_digits(
    weight: npt.NDArray[Any], group: int = 2, size: int = 4
) -> tuple[PackedMatrix, npt.NDArray[np.int64]]:
    bank = np.arange(weight.shape[1]) % group
    return pack(weight, bank, natural(weight, bank, size, group), size, group, 4), bank


def test_a_weight_of_two_digits_has_two_slots() -> None:
    packed, _ = packed_digits(np.array([[17, 0], [0, -128], [5, 0]]))
    tile = packed.tiles[0]
    assert tile.position is not None
    np.testing.assert_array_equal(tile.weight, [[1, -8, 5], [1, 0, 0]])
    np.testing.assert_array_equal(tile.position, [[0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(tile.select, [[0, 1, 0], [0, 0, 0]])


def test_dense_takes_two_lanes_an_input() -> None:
    weight = sparse(0, 6, 9, 0.8)
    bank = np.arange(9) % 2
    packed = pack_dense(weight, bank, 4, 2, 4)
    check(packed, 4, 2, bank, 4)
    np.testing.assert_array_equal(unpack(packed, 6, 9), weight)
    assert packed.lanes == 2 * 2 * 9


def test_refill_needs_a_slot_for_each_digit() -> None:
    packed, bank = packed_digits(np.array([[17, 16, 1, 0]]))
    for row in ([-100, -128, 7, 0], [16, 0, -8, 0], [0, 0, 0, 0]):
        filled = refill(packed, np.array([row]))
        check(filled, 4, 2, bank, 4)
        np.testing.assert_array_equal(unpack(filled, 1, 4), [row])
    for row, k, value in (([0, 17, 0, 0], 1, 17), ([0, 0, 16, 0], 2, 16), ([0, 0, 0, 1], 3, 1)):
        with pytest.raises(
            TatamiError,
            match=f"refill: filter 0, input {k} is {value}, but has no slot for each of its digits",
        ):
            refill(packed, np.array([row]))


def test_append_adds_digits() -> None:
    weight, more = sparse(2, 5, 6, 0.5), sparse(3, 5, 4, 0.7)
    packed, bank = packed_digits(weight)
    grown = append(packed, more, np.array([1, 0, 0, 1]))
    check(grown, 4, 2, np.concatenate([bank, [1, 0, 0, 1]]), 4)
    np.testing.assert_array_equal(unpack(grown, 5, 10), np.concatenate([weight, more], axis=1))


def test_check_finds_what_is_wrong_with_digits() -> None:
    weight = np.array([[17, 0], [0, -128], [5, 0]])
    packed, bank = packed_digits(weight)
    plain = pack(weight, bank, natural(weight, bank, 4, 2), 4, 2)
    tile = packed.tiles[0]
    assert tile.position is not None

    def broken(**fields: Any) -> PackedMatrix:
        return replace(packed, tiles=(replace(tile, **fields),))

    odd, nine, same, far = (
        tile.position.copy(),
        tile.weight.copy(),
        tile.position.copy(),
        tile.position.copy(),
    )
    odd[1, 1], nine[0, 2], same[1, 0], far[0, 0] = 1, 9, 0, 2
    for wrong, bits, text in (
        (packed, 8, "packed tile 0: position is there, slots have 8 bits"),
        (plain, 4, "packed tile 0: position is missing, slots have 4 bits"),
        (broken(position=odd), 4, "packed tile 0: position of an empty slot must be 0"),
        (broken(weight=nine), 4, "packed tile 0: weight holds -8..9, a digit must be in -8..7"),
        (broken(position=same), 4, "packed tile 0: filter 0 has two slots for input 0"),
        (broken(position=far), 4, "packed tile 0: position: holds 0..2, must be in 0..1"),
    ):
        with pytest.raises(TatamiError, match=text):
            check(wrong, 4, 2, bank, bits)
    lowest = Tile(
        np.array([0]),
        np.array([0, 0]),
        np.zeros((2, 1), int),
        np.full((2, 1), -8, np.int8),
        np.array([[0], [1]]),
    )
    with pytest.raises(
        TatamiError, match="packed: the digits of filter 0, input 0 are those of -136, must be at least -128"
    ):
        unpack(PackedMatrix(np.array([[0, -1]]), (lowest,), 4, 1), 1, 1)


# Machine


def test_a_slot_of_a_digit_has_a_position_bit() -> None:
    assert SMALL.slot_bits == 4 + 1 + SMALL.select_bits
    assert [field.name for field in memories(SMALL)["SLOT"].fields] == ["weight", "position", "select"]
    assert [field.name for field in memories(CONFIGS["4x2"])["SLOT"].fields] == ["weight", "select"]
    assert SMALL.rtl_parameters()["WEIGHT_BITS"] == 4


@pytest.mark.parametrize("packing", list(PACKINGS))
@pytest.mark.parametrize("config", DIGITS[2:], ids=lambda c: c.name)
def test_images_of_digits_agree_with_the_reference(config: ArrayConfig, packing: str) -> None:
    seen, residuals = 0, 0
    for seed in range(6):
        rng = rng_of(seed)
        network = random_network(rng, config)
        try:
            image = compile_network(network, config, packing=packing)
        except CapacityError:
            continue
        assert_agrees(network, image, random_images(rng, network, 2))
        seen += 1
        residuals += any(isinstance(layer, Conv) and layer.residual is not None for layer in network.layers)
    assert seen >= 3
    assert residuals >= 1


def test_image_file_keeps_digits(tmp_path: Path) -> None:
    _, image = random_program(rng_of(1), SMALL)
    image.save(tmp_path / "digits.tatami")
    read = Image.load(tmp_path / "digits.tatami", SMALL)
    for one, other in zip(image.sections, read.sections, strict=True):
        np.testing.assert_array_equal(one.words, other.words)
    with pytest.raises(TatamiError, match="config field weight_bits is 4, the machine '4x2' has 8"):
        Image.load(tmp_path / "digits.tatami", CONFIGS["4x2"])


def test_weights_above_two_digits_are_refused() -> None:
    requant = Requant(np.zeros(1, np.int32), np.full(1, 2**15), np.full(1, 20))
    network = Network("large", (1, 2, 2), (Conv("c", "input", np.full((1, 1, 1, 1), 120, np.int8), requant),))
    with pytest.raises(
        TatamiError, match="layer 'c': weight holds 120, must be at most 119 for slots of 4 bits"
    ):
        compile_network(network, SMALL)
    compile_network(network, CONFIGS["4x2"])


# Scheme


def layer(
    filters: int, inputs: int, group: int, seed: int, name: str = "a", density: float = 1.0
) -> LayerWeights:
    rng = rng_of(seed)
    weight = rng.normal(size=(filters, inputs)) * (rng.random((filters, inputs)) < density)
    return LayerWeights.by_magnitude(name, weight, rng.integers(0, group, inputs))


def test_a_digit_has_its_share_of_the_saliency() -> None:
    one = by_digit(
        LayerWeights(
            "a",
            np.array([[17, -8, 32, 0, 8]]),
            np.array([0, 1, 0, 1, 0]),
            np.array([[2 * 289.0, 640.0, 1.0, 0.0, 64.0]]),
        )
    )
    np.testing.assert_array_equal(one.weight, [[1, 1, -8, 0, 0, 2, 0, 0, -8, 1]])
    np.testing.assert_allclose(one.saliency, [[2, 2 * 288, 640, 0, 0, 1, 0, 0, 32, 32]])
    np.testing.assert_array_equal(one.bank, [0, 0, 1, 1, 0, 0, 1, 1, 0, 0])
    every = np.arange(LOW, HIGH + 1)[None]
    low, high = (
        by_digit(LayerWeights.by_magnitude("a", every, np.zeros(every.size, int))).saliency.reshape(-1, 2).T
    )
    digits = split_digits(every[0]).astype(int)
    np.testing.assert_allclose(low + high, every[0] ** 2, rtol=1e-8)
    assert (high[digits[:, 1] != 0] > low[digits[:, 1] != 0]).all()  # the low one never stays alone
    whole = high > low * (1 + 1e-6)  # without the low digit, its share is the error
    np.testing.assert_allclose(low[whole], (every[0] - 16 * digits[:, 1])[whole] ** 2)
    np.testing.assert_array_equal(integers(np.array([[0.5, -1.0], [0.0, 0.0]])), [[60, -119], [0, 0]])
    with pytest.raises(TatamiError, match="layer 'a': weight holds 0..120, must be in -128..119"):
        by_digit(LayerWeights.by_magnitude("a", np.array([[0, 120]]), np.array([0, 0])))


@pytest.mark.parametrize("budget", [1, 7, 30, 100])
def test_most_that_fit_never_exceeds_the_budget(budget: int) -> None:
    """Lanes that grow faster than what is kept: going by proportion oversteps.

    Short searches say a third more.
    """

    def lanes_of(keep: int) -> int:
        return -(-(keep + keep**2 // 50) // 3)

    found = most_that_fit(
        lambda keep, moves: (lanes_of(keep) * (4 if moves < MOVES else 3) // 3, keep), budget, 16 * budget
    )
    best = max(keep for keep in range(16 * budget + 1) if lanes_of(keep) <= budget)
    assert 0.75 * best <= found <= best


@pytest.mark.parametrize(
    ("config", "shapes", "density", "ratio"),
    [
        (SMALL, [(9, 30), (4, 12)], 1.0, 3.0),
        (SMALL, [(1, 40)], 1.0, 1.0),
        (SMALL, [(8, 20)], 1.0, 1.0),  # room for little more than one digit a weight
        (DIGITS[0], [(33, 40), (16, 90)], 0.6, 4.0),
        (replace(SMALL, name="one bank", group=1), [(5, 30)], 1.0, 2.0),
        (SMALL, [(5, 30), (4, 8)], 0.0, 2.0),
    ],
)
def test_plan_keeps_the_best_digits(
    config: ArrayConfig, shapes: list[tuple[int, int]], density: float, ratio: float
) -> None:
    layers = [layer(*shape, config.group, seed, f"l{seed}", density) for seed, shape in enumerate(shapes)]
    plans = TightSubword().plan(layers, ratio, config, rng_of(0))
    assert compression(plans) >= ratio * (1 - 1e-9)
    kept, pruned = [], []
    for one in layers:
        packed = plans[one.name].packed
        assert packed is not None
        check(packed, config.size, config.group, one.bank, 4)
        ones = unpack(packed, one.filters, one.inputs)
        np.testing.assert_array_equal(plans[one.name].mask, ones != 0)
        slots = np.stack([ones & 1, ones >> 4], axis=-1).reshape(one.filters, -1) == 1
        saliency = by_digit(one).saliency
        kept.append(saliency[slots])
        pruned.append(saliency[~slots])
    assert min(np.concatenate(kept), default=np.inf) >= max(np.concatenate(pruned), default=0)
    assert (np.concatenate(kept) > 0).all()
    assert density == 0 or len(np.concatenate(kept)) > 0
    assert 0 <= digit_saliency_kept(layers, plans) <= 1


def test_project_finds_the_nearest() -> None:
    packed, _ = packed_digits(np.array([[17, 16, 1, 0]]))
    values = np.arange(-128, 128)
    both, high, low, none = (
        np.array([project(packed, np.full((1, 4), v))[0, k] for v in values], int) for k in range(4)
    )
    for found, possible in (
        (both, range(-128, 120)),
        (high, range(-128, 120, 16)),
        (low, range(-8, 8)),
        (none, [0]),
    ):
        nearest = np.abs(values[:, None] - np.array(possible)).min(axis=1)
        np.testing.assert_array_equal(np.abs(found - values), nearest)
    refill(packed, project(packed, np.array([[127, 100, -90, 5]])))


def test_scheme_says_what_it_needs() -> None:
    with pytest.raises(TatamiError, match="tight_subword: config '4x2' has slots of 8 bits, must be 4"):
        TightSubword().plan([layer(4, 8, 2, 0)], 2.0, CONFIGS["4x2"], rng_of(0))
    with pytest.raises(
        TatamiError,
        match="ratio is 9, must be at most 8: 1 tiles of filters need a lane each, 0 lanes are left",
    ):
        TightSubword().plan([layer(4, 8, 2, 0)], 9, SMALL, rng_of(0))
    with pytest.raises(TatamiError, match="layer 'a': the plan has no slots"):
        digit_saliency_kept(
            [layer(4, 8, 2, 0)],
            {"a": replace(TightSubword().plan([layer(4, 8, 2, 0)], 2, SMALL, rng_of(0))["a"], packed=None)},
        )


def test_planned_images_agree_with_the_reference() -> None:
    seen = 0
    for seed in range(12):
        rng = rng_of(seed)
        network = random_network(rng, SMALL)
        banks = input_banks(network, SMALL)
        weights = {
            one.name: one.weight.reshape(len(one.weight), -1)
            for one in network.layers
            if isinstance(one, Weighted) and not grouped(one)
        }
        layers = [LayerWeights.by_magnitude(name, weight, banks[name]) for name, weight in weights.items()]
        try:
            plans: Plans = TightSubword().plan(layers, 1.5, SMALL, rng)
            held = {
                name: project(plan.packed, weights[name])
                for name, plan in plans.items()
                if plan.packed is not None
            }
            kept = tuple(
                one
                if not isinstance(one, Weighted) or one.name not in held
                else replace(one, weight=held[one.name].reshape(one.weight.shape))
                for one in network.layers
            )
            network = Network("projected", network.input_shape, kept)
            assert_agrees(
                network, compile_network(network, SMALL, plans=plans), random_images(rng, network, 2)
            )
        except TatamiError as error:
            assert isinstance(error, CapacityError) or str(error).startswith("ratio is")  # noqa: PT017
            continue
        seen += 1
    assert seen >= 5


# Joint pruning and packing of digits


def most_kept(worth: npt.NDArray[Any]) -> float:
    """The most that digits can be worth which have a lane each, of `worth` [lanes, digits]: over all sets of
    lanes, digit by digit.
    """
    digits = worth.shape[1]
    best = {0: 0.0}
    for digit in range(digits):
        for taken, kept in list(best.items()):
            for lane in np.flatnonzero(worth[:, digit]):
                if not taken >> lane & 1:
                    more = taken | 1 << int(lane)
                    best[more] = max(best.get(more, 0.0), kept + worth[lane, digit])
    return max(best.values())


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_no_other_choice_of_digits_keeps_more(seed: int) -> None:
    """Inputs in one lane or in two, digits that are zero, equal digits."""
    rng = rng_of(seed)
    lanes, group, inputs = (int(rng.integers(1, most)) for most in (7, 5, 11))
    bank = rng.integers(0, group, inputs)
    table = np.full((lanes, group), -1)
    for k in range(inputs):
        free = np.flatnonzero(table[:, bank[k]] < 0)
        table[rng.permutation(free)[: rng.integers(0, 3)], bank[k]] = k
    digits = rng.integers(0, 5, (3, 2 * inputs)).astype(float)
    for saliency, mine in zip(digits, _take(digits, table).T, strict=True):
        held = mine[mine >= 0]
        assert len(set(held)) == len(held)  # no digit twice
        assert all((table[lane] == digit // 2).any() for lane, digit in enumerate(mine) if digit >= 0)
        assert (saliency[held] > 0).all()
        offered = np.array([np.isin(np.arange(2 * inputs) // 2, lane) for lane in table])
        assert saliency[held].sum() == most_kept(np.where(offered, saliency, 0))


def test_both_digits_of_a_weight_come_from_two_lanes() -> None:
    """Two lanes, and in each filter one weight that both of its digits are worth more of than any other's."""
    weight = np.full((4, 4), 2)
    weight[np.arange(4), [0, 0, 1, 1]] = 17 * 4  # high 4, low 4
    one = LayerWeights.by_magnitude("a", weight, np.array([0, 1, 0, 1]))
    packed = JointSubword().plan([one], 2.0, SMALL, rng_of(0))["a"].packed
    assert packed is not None
    assert packed.lanes == 2
    np.testing.assert_array_equal(unpack(packed, 4, 4), np.where(weight == 68, 17, 0))


def test_joint_digits_fill_every_slot_and_come_close_to_their_bound() -> None:
    config = replace(CONFIGS["16x16"], weight_bits=4)
    weight = rng_of(1).standard_t(4, (32, 288))
    layers = [LayerWeights.by_magnitude("conv", weight, np.repeat(np.arange(32) % 16, 9))]
    digits = [by_digit(one) for one in layers]
    lanes = slot_budget(layers, 10.0, config)
    tiles = {"conv": sort_into_tiles(most_salient(digits, lanes * 16)["conv"].sum(axis=1), 16)}
    best = best_of_filters(digits, tiles)
    limit = lane_limit(best, hand_out_lanes(best, lanes)) / layers[0].saliency.sum()
    plans = JointSubword().plan(layers, 10.0, config, rng_of(0))
    kept = digit_saliency_kept(layers, plans)
    assert occupancy(plans) == 1
    assert 0.97 * limit < kept
    assert kept > 1.03 * digit_saliency_kept(
        layers, JointSubword(moves=0).plan(layers, 10.0, config, rng_of(0))
    )
    assert kept > 1.05 * digit_saliency_kept(layers, TightSubword().plan(layers, 10.0, config, rng_of(0)))


@pytest.mark.parametrize("scheme", [JointSubword(), CycleSubword()], ids=lambda s: s.name)
def test_joint_digits_say_what_they_need(scheme: JointSubword) -> None:
    with pytest.raises(TatamiError, match=f"{scheme.name}: config '4x2' has slots of 8 bits, must be 4"):
        scheme.plan([layer(4, 8, 2, 0)], 2.0, CONFIGS["4x2"], rng_of(0))
