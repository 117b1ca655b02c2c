"""Words of the feature memory that are used again: when a tensor's are free, where tensors lie, that every
byte is still right, and what is said when memory does not suffice.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pymodel.compiler import layout
from pymodel.compiler.agreement import loaded
from pymodel.compiler.compile import CapacityError, compile_fitted, compile_network
from pymodel.compiler.layout import bank_words, feature_use, guard_words, place_tensors
from pymodel.compiler.lifetime import Extent, Span, first_fit, height, lifetimes
from pymodel.machine.config import CONFIGS, MAX_DEPTH, ArrayConfig
from pymodel.machine.faults import OwnReadError
from pymodel.machine.image import Image
from pymodel.network.integer import (
    INPUT,
    Add,
    Conv,
    DepthToSpace,
    Gather,
    Layer,
    MaxPool,
    Network,
    Requant,
    Residual,
    SpaceToDepth,
    Upsample,
    around,
)
from pymodel.zoo.random_network import random_images, random_program
from tests.support import assert_agrees

SMALL = CONFIGS["4x2"]
RNG = np.random.default_rng(5)


def conv(
    name: str,
    source: str,
    filters: int,
    channels: int,
    *,
    side: int = 3,
    stride: int = 1,
    residual: str | None = None,
) -> Conv:
    rng = np.random.default_rng([filters, channels, *name.encode()])
    requant = Requant(
        rng.integers(-5000, 5000, filters), rng.integers(20000, 40000, filters), np.full(filters, 24)
    )
    weight = rng.integers(-90, 90, (filters, channels, side, side))
    added = None
    if residual is not None:
        added = Residual(residual, np.arange(filters), np.full(filters, 100))
    return Conv(name, source, weight, requant, (stride, stride), around(side // 2), added)


def chain(depth: int, channels: int = 4, pixels: int = 6) -> Network:
    """Convolutions behind each other, with tensors of one size."""
    names = [INPUT, *(f"c{n}" for n in range(depth))]
    layers = tuple(conv(name, source, channels, channels) for source, name in pairwise(names))
    return Network("chain", (channels, pixels, pixels), layers)


def u_net() -> Network:
    """Two levels down and up again, with what was computed on the way down joined to it."""
    layers: tuple[Layer, ...] = (
        conv("wide", INPUT, 4, 2),
        MaxPool("half", "wide", (2, 2), (2, 2)),
        conv("narrow", "half", 6, 4),
        MaxPool("quarter", "narrow", (2, 2), (2, 2)),
        conv("deep", "quarter", 8, 6),
        conv("deeper", "deep", 8, 8),
        Upsample("up", "deeper", (2, 2)),
        Gather.concat("joined", ("up", "narrow"), (8, 6)),
        conv("back", "joined", 4, 14),
        Upsample("top", "back", (2, 2)),
        Gather.concat("all", ("wide", "top"), (4, 4)),
        conv("out", "all", 2, 8),
    )
    return Network("unet", (2, 8, 8), layers)


def overlaps(network: Network, config: ArrayConfig, image: Image) -> int:
    """Pairs of planes that share words; none of those that live at the same time."""
    spans = lifetimes(network)
    planes = [
        (name, bank, base, base + place.channel_words)
        for name, place in image.placements.items()
        for bank, base in zip(place.bank, place.base, strict=True)
    ]
    guard, shared = guard_words(network, config.size), 0
    for n, (name, bank, begin, end) in enumerate(planes):
        assert guard <= begin
        assert end <= config.feature_depth - guard
        for other, there, first, last in planes[:n]:
            if bank == there and begin < last and first < end:
                assert name != other
                assert not spans[name].meets(spans[other]), f"{name} and {other}"
                shared += 1
    return shared


@pytest.mark.parametrize("config", CONFIGS.values(), ids=lambda c: c.name)
def test_random_networks_that_use_words_again_agree_on_every_byte(config: ArrayConfig) -> None:
    less = 0
    for seed in range(16):
        rng = np.random.default_rng([31, seed])
        network, image = random_program(rng, config, reused=1.0)
        assert image.reuse
        assert_agrees(network, image, random_images(rng, network, 2), f"seed {seed}, ")
        use = feature_use(network, image.placements, config)
        kept = bank_words(place_tensors(network, config), guard_words(network, config.size))
        assert use.bound <= use.words <= kept
        assert image.stats["feature"] == {"words": use.words, "bound": use.bound}
        less += overlaps(network, config, image) > 0 and use.words < kept
    assert less >= 5


def test_a_tensor_that_is_freed_a_layer_too_early_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above is red then: a layer writes what it reads, or reads what is gone."""
    monkeypatch.setattr(
        layout,
        "lifetimes",
        lambda network: {
            name: replace(span, last=max(span.first, span.last - 1))
            for name, span in lifetimes(network).items()
        },
    )
    for network in (chain(4), u_net()):
        image = compile_network(network, SMALL, reuse=True)
        with pytest.raises(OwnReadError, match=r"word \d+ of bank \d+ is read and written by the same layer"):
            assert_agrees(network, image, random_images(RNG, network, 1))


def test_a_tensor_whose_readers_by_view_do_not_count_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the U-Net keeps for its way up is gone."""
    monkeypatch.setattr(
        layout,
        "lifetimes",
        lambda network: lifetimes(network) | {"wide": Span(0, 1), "narrow": Span(2, 3)},
    )
    network = u_net()
    image = compile_network(network, SMALL, reuse=True)
    with pytest.raises((AssertionError, OwnReadError), match="layer"):
        assert_agrees(network, image, random_images(RNG, network, 1))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=lambda c: c.name)
def test_a_deep_chain_needs_the_words_of_two_tensors(config: ArrayConfig) -> None:
    network = chain(9, channels=config.group)
    image = compile_network(network, config, reuse=True)
    use = feature_use(network, image.placements, config)
    words = image.placements["c0"].channel_words
    guard = 2 * guard_words(network, config.size)
    assert use.bound == 2 * words + guard
    # the output lies in one bank, with a plane of the layer before it
    assert use.words == (config.group + 1) * words + guard
    longer = chain(18, channels=config.group)
    assert feature_use(longer, place_tensors(longer, config, reuse=True), config) == replace(
        use, alive={f"c{n}": 2 * config.group * words for n in range(18)}
    )


def test_lifetimes_of_a_long_skip() -> None:
    network = u_net()
    numbers = {layer.name: n for n, layer in enumerate(network.layers)}
    spans = lifetimes(network)
    assert spans == {
        "input": Span(-1, 0),
        "wide": Span(0, numbers["out"]),
        "half": Span(1, 2),
        "narrow": Span(2, numbers["back"]),
        "quarter": Span(3, 4),
        "deep": Span(4, 5),
        "deeper": Span(5, numbers["back"]),
        "back": Span(numbers["back"], numbers["out"]),
        "out": Span(numbers["out"], len(network.layers)),
    }
    image = compile_network(network, SMALL, reuse=True)
    assert overlaps(network, SMALL, image)
    assert_agrees(network, image, random_images(RNG, network, 2))


def test_the_input_lives_until_its_last_reader_and_the_output_to_the_end() -> None:
    network = Network(
        "loop",
        (4, 5, 5),
        (
            conv("a", INPUT, 4, 4),
            conv("b", "a", 4, 4),
            conv("c", "b", 4, 4, residual=INPUT),
            conv("d", "c", 4, 4),
            conv("e", "d", 4, 4),
        ),
    )
    spans = lifetimes(network)
    assert (spans[INPUT], spans["e"]) == (Span(-1, 2), Span(4, 5))
    image = compile_network(network, SMALL, reuse=True)
    assert overlaps(network, SMALL, image)
    assert_agrees(network, image, random_images(RNG, network, 2))
    # nobody reads `spare`, yet it is written and compared
    spare = Network("spare", (4, 5, 5), (conv("spare", INPUT, 4, 4), conv("out", INPUT, 4, 4)))
    assert lifetimes(spare)["spare"] == Span(0, 0)
    assert_agrees(spare, compile_network(spare, SMALL, reuse=True), random_images(RNG, spare, 2))


@pytest.mark.parametrize(
    ("view", "channels"),
    [
        (Gather("view", ("kept",), np.zeros(3, np.int64), np.array([2, -1, 0])), 3),
        (Upsample("view", "kept", (2, 1)), 4),
        (DepthToSpace("view", "kept", (2, 2)), 1),
        (SpaceToDepth("view", "kept", (2, 2)), 16),
    ],
    ids=lambda value: type(value).__name__,
)
def test_views_keep_their_source_alive(view: Layer, channels: int) -> None:
    """Even by way of a second view, and while other layers run."""
    layers = (
        conv("kept", INPUT, 4, 2),
        view,
        conv("b", "kept", 4, 4),
        conv("c", "b", 4, 4),
        conv("d", "c", 4, 4),
        Gather("again", ("view",), np.zeros(channels, np.int64), np.arange(channels)[::-1]),
        conv("out", "again", 2, channels),
    )
    network = Network("view", (2, 4, 4), layers)
    assert lifetimes(network)["kept"] == Span(0, 6)
    assert "view" not in lifetimes(network)
    image = compile_network(network, SMALL, reuse=True)
    assert overlaps(network, SMALL, image)
    assert_agrees(network, image, random_images(RNG, network, 2))


def test_words_are_used_again_only_where_it_is_needed() -> None:
    network = chain(12)
    whole = bank_words(place_tensors(network, SMALL), guard_words(network, SMALL.size))
    by_lifetime = feature_use(network, place_tensors(network, SMALL, reuse=True), SMALL)
    even = whole + whole % 2
    enough = replace(SMALL, feature_depth=even)
    assert not compile_network(network, enough).reuse
    scarce = replace(SMALL, feature_depth=even - 2)
    image = compile_network(network, scarce)
    assert image.reuse
    assert_agrees(network, image, random_images(RNG, network, 2))
    with pytest.raises(
        CapacityError, match=rf"FEATURE needs {whole} words per bank, config '4x2' has {even - 2}$"
    ):
        compile_network(network, scarce, reuse=False)
    # forced, it needs no more than it would take by itself
    least = by_lifetime.words + by_lifetime.words % 2
    assert compile_network(network, replace(SMALL, feature_depth=least)).reuse
    with pytest.raises(
        CapacityError,
        match=rf"network 'chain' does not fit: FEATURE needs {by_lifetime.words} words per bank with words"
        rf" used again \(at least {by_lifetime.bound}; {whole} with a place for every tensor\), config '4x2'"
        rf" has {least - 2}$",
    ):
        compile_network(network, replace(SMALL, feature_depth=least - 2))


def test_fitted_memories_hold_every_tensor_as_long_as_a_bank_can() -> None:
    shallow = replace(SMALL, feature_depth=4)
    image = compile_fitted(chain(12), shallow)
    assert not image.reuse
    again = compile_fitted(chain(12), shallow, reuse=True)
    assert again.reuse
    assert again.config.feature_depth < image.config.feature_depth
    assert_agrees(chain(2), compile_fitted(chain(2), shallow, reuse=True), random_images(RNG, chain(2), 1))
    # a place for each of these tensors is more than a bank can have
    layers = tuple(
        Add(f"a{n}", (f"a{n - 1}" if n else INPUT,), np.ones((1, 2), np.int64), Requant.none(2))
        for n in range(5)
    )
    huge = Network("huge", (2, 200, 400), layers)
    found = compile_fitted(huge, SMALL)
    assert found.reuse
    assert found.config.feature_depth == MAX_DEPTH


def test_the_file_says_whether_words_are_used_again(tmp_path: Path) -> None:
    for reuse in (False, True):
        image = compile_network(chain(3), SMALL, reuse=reuse)
        path = tmp_path / "image"
        image.save(path)
        assert (b'"reuse": true' in path.read_bytes()) == reuse
        back = Image.load(path, SMALL)
        assert (back.reuse, back.dumps, back.stats) == (reuse, image.dumps, image.stats)
        assert len(back.dump_packets(INPUT, np.zeros((4, 6, 6), np.int8))) == 4 * reuse


@pytest.mark.parametrize("reuse", [False, True])
def test_every_out_names_its_tensor(reuse: bool) -> None:
    image = compile_network(chain(3), SMALL, reuse=reuse)
    count = len(image.section("PROGRAM").words)
    named = [image.sent_by(record) for record in range(count + 2)]
    assert named[: len(image.layers) + 2] == [None] * len(image.layers) + [image.output, None]
    assert [name for name in named[image.dump_start :] if name] == [dump.tensor for dump in image.dumps]


def test_a_run_behind_the_dump_program_needs_the_input_again() -> None:
    """Both programs send the same output, and the second needs what the first has overwritten."""
    network = chain(5)
    image = compile_network(network, SMALL, reuse=True)
    images = random_images(RNG, network, 1)
    machine = loaded(image, images)
    first = machine.run(image.run_start)
    stale = image.dumped(machine.run(image.dump_start).packets)
    assert (stale[INPUT] != image.placements[INPUT].to_words(images)).any()
    machine.load_tensor(image.placements[INPUT], images)
    again = image.dumped(machine.run(image.dump_start).packets)
    np.testing.assert_array_equal(again[image.output].reshape(first.packets[0].shape), first.packets[0])


def test_first_fit_keeps_what_lives_at_once_apart() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        blocks = []
        for _ in range(int(rng.integers(0, 25))):
            first = int(rng.integers(0, 20))
            blocks.append(Extent(Span(first, first + int(rng.integers(0, 6))), int(rng.integers(1, 30))))
        at = first_fit(blocks)
        for n, block in enumerate(blocks):
            for m in range(n):
                other = blocks[m]
                assert (
                    not block.span.meets(other.span)
                    or at[n] + block.words <= at[m]
                    or at[m] + other.words <= at[n]
                )
        alive = [sum(block.words for block in blocks if block.span.has(step)) for step in range(26)]
        assert max(alive) <= height(blocks, at) <= sum(block.words for block in blocks)
