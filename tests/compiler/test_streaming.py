"""Networks larger than the memories: every byte is still right, what comes over the stream comes neither too
early nor too late, and what is said when a single tile has no room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest

from pymodel.compiler import streaming
from pymodel.compiler.agreement import loaded
from pymodel.compiler.compile import PACKINGS, CapacityError, compile_cut, compile_fitted, compile_network
from pymodel.compiler.streaming import Limit
from pymodel.cost.counts import image_cost
from pymodel.cost.throughput import clocked_images, cycles_back_to_back
from pymodel.machine.back_to_back import back_to_back
from pymodel.machine.config import CONFIGS, STREAMS, ArrayConfig
from pymodel.machine.faults import LiveUseError, ProgramError, StarvedError
from pymodel.machine.image import Image
from pymodel.machine.memory import Hold, Live, Section, live_packets
from pymodel.machine.model import Machine
from pymodel.machine.program import Jump, Layer, Wait, decode_all
from pymodel.network.integer import INPUT, Conv, Network, Requant, around
from pymodel.zoo.random_network import random_images, random_network
from tests.support import assert_agrees

SMALL = CONFIGS["4x2"]


def conv(name: str, source: str, filters: int, channels: int, side: int = 3) -> Conv:
    rng = np.random.default_rng([filters, channels, *name.encode()])
    requant = Requant(
        rng.integers(-5000, 5000, filters), rng.integers(20000, 40000, filters), np.full(filters, 24)
    )
    weight = rng.integers(-90, 90, (filters, channels, side, side))
    return Conv(name, source, weight, requant, (1, 1), around(side // 2))


def wide(layers: int = 2, filters: int = 32) -> Network:
    """Layers of eight tiles each."""
    names = [INPUT, *(f"c{n}" for n in range(layers))]
    made = tuple(
        conv(name, source, filters, 2 if source == INPUT else filters, side=1)
        for source, name in pairwise(names)
    )
    return Network("wide", (2, 4, 4), made)


def drawn_limit(seed: int) -> Limit:
    """Of each memory a share between what the largest tile needs and what the network does, or all of it."""

    def limit(memory: str, least: int, need: int) -> int:
        rng = np.random.default_rng([seed, *memory.encode()])
        if memory == "PROGRAM":  # has more records when the layers are cut
            return least + int(rng.integers(0, 80))
        return need if rng.random() < 0.3 else int(rng.integers(least, max(least, need) + 1))

    return limit


def least(memory: str, fewest: int, _need: int) -> int:
    """Room for one tile, and for the whole program."""
    return 256 if memory == "PROGRAM" else fewest


def holds_before(stream: tuple[Live, ...]) -> Iterator[tuple[Section, int]]:
    """Each packet of a stream, and the layers that must have passed before it comes."""
    held = accumulate(item.layers if isinstance(item, Hold) else 0 for item in stream)
    return ((item, layers) for item, layers in zip(stream, held, strict=True) if isinstance(item, Section))


def streamed_programs(config: ArrayConfig, count: int) -> Iterator[tuple[int, Network, Image]]:
    """Random networks in memories that are too small for them."""
    for seed in range(count):
        rng = np.random.default_rng([77, seed])
        network = random_network(rng, config)
        packing = str(rng.choice(list(PACKINGS)))
        reuse = bool(rng.random() < 0.4)
        try:
            image = compile_network(
                network,
                config,
                packing=packing,
                seed=seed,
                chunk_words=int(rng.integers(1, 6)),
                reuse=reuse,
                streamed=True,
                limit=drawn_limit(seed),
            )
        except CapacityError:
            continue  # it has no room in FEATURE
        if image.streamed:
            yield seed, network, image


@pytest.mark.parametrize("config", CONFIGS.values(), ids=lambda c: c.name)
def test_random_networks_agree_on_every_byte(config: ArrayConfig) -> None:
    """Also in a second run, which finds in the memories what the first has left there."""
    seen: Counter[str] = Counter()
    for seed, network, image in streamed_programs(config, 16):
        images = random_images(np.random.default_rng(seed), network, 2)
        assert_agrees(network, image, images, f"seed {seed}, ")
        machine = loaded(image, images)
        runs = []
        for _ in range(2):
            machine.load_tensor(image.placements[INPUT], images)
            runs.append(machine.run(image.run_start, stream=image.run_stream))
        for a, b in zip(runs[0].packets, runs[1].packets, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"seed {seed}")
        assert runs[0].cycles == runs[1].cycles
        assert len(runs[0].layers) == len(image.layers) == image.stats["stream"]["segments"]
        seen.update({item.memory for item in image.run_stream if isinstance(item, Section)})
        seen["again"] += image.reuse
        seen["cut"] += len(image.layers) > len(image.layer_names)
    wanted = {"TILE", "LANE", "SLOT", "GROUP", "TAP", "EDGE", "FILTER", "again", "cut"}
    assert {name for name in wanted if not seen[name]} == set()


def test_a_network_for_which_there_is_room_is_not_streamed(tmp_path: Path) -> None:
    files = []
    for number, streamed in enumerate((False, True)):
        compile_network(wide(), SMALL, streamed=streamed).save(tmp_path / str(number))
        files.append((tmp_path / str(number)).read_bytes())
    assert files[0] == files[1]


def test_activation_tables_come_over_the_stream() -> None:
    config = CONFIGS["4x2t"]
    rng = np.random.default_rng(3)
    network = wide(3, 4)
    layers = tuple(
        replace(layer, requant=replace(layer.requant, table=rng.integers(-128, 128, 256)))
        for layer in network.layers
        if isinstance(layer, Conv)
    )
    network = Network("tables", network.input_shape, layers)
    image = compile_network(network, config, streamed=True, limit=least)
    tables = [item for item in image.run_stream if isinstance(item, Section) and item.memory == "ACTIVATION"]
    assert [(item.address, len(item.words)) for item in tables] == [(0, 256)] * 3
    assert_agrees(network, image, random_images(rng, network, 1))


def mutants(image: Image) -> Iterator[tuple[str, Image]]:
    """The image with one HOLD of its stream, or one WAIT of its program, a little shorter."""
    for number, item in enumerate(image.run_stream):
        if isinstance(item, Hold):
            shorter = (Hold(item.layers - 1),) if item.layers > 1 else ()
            stream = (*image.run_stream[:number], *shorter, *image.run_stream[number + 1 :])
            yield "HOLD", replace(image, run_stream=stream)
    program = image.section("PROGRAM").words
    for pc, record in enumerate(decode_all(program[: image.dump_start])):
        if isinstance(record, Wait) and record.packets > 1:
            words = program.copy()
            words[pc] = Wait(record.packets - 1).encode()
            yield "WAIT", image.with_words(PROGRAM=words)


def refused(network: Network, image: Image) -> Counter[str]:
    """Runs all mutants of an image, which the model must refuse. How many there were of each kind."""
    tried: Counter[str] = Counter()
    for what, mutant in mutants(image):
        machine = loaded(mutant, random_images(np.random.default_rng(1), network, 1))
        with pytest.raises((LiveUseError, ProgramError)):
            machine.run(mutant.run_start, stream=mutant.run_stream)
        tried[what] += 1
    return tried


@pytest.mark.parametrize("config", [SMALL, CONFIGS["8x4x"], CONFIGS["4x2t"]], ids=lambda c: c.name)
def test_no_hold_and_no_wait_may_be_shorter(config: ArrayConfig) -> None:
    network = wide()
    image = compile_network(
        network,
        config,
        streamed=True,
        # of TAP a tile may use a part alone
        limit=lambda memory, fewest, need: max(256 if memory in ("TAP", "PROGRAM") else fewest, need // 6),
    )
    tried = refused(network, image)
    assert tried["HOLD"] > 5
    assert tried["WAIT"] > 5


def test_a_stream_that_ends_early_starves_the_program() -> None:
    image = compile_network(wide(), SMALL, streamed=True, limit=least)
    machine = loaded(image, random_images(np.random.default_rng(1), wide(), 1))
    with pytest.raises(StarvedError):
        machine.run(image.run_start, stream=image.run_stream[:-1])


def test_a_segment_may_come_while_the_one_before_it_runs() -> None:
    """Where the memories hold several tiles, no packet waits for the layer just before the one that needs
    it. Where they hold one, it must.
    """
    for room, early in ((6, 1), (1, 0)):

        def limit(memory: str, fewest: int, need: int, room: int = room) -> int:
            return min(need, room * fewest) if memory in ("LANE", "SLOT") else 1 << 16

        image = compile_network(wide(), SMALL, streamed=True, limit=limit)
        packets = holds_before(image.run_stream)
        program = decode_all(image.section("PROGRAM").words)[: image.dump_start]
        slack, segment = [], 0
        for record in program:
            if isinstance(record, Wait):
                slack.append(segment - max(next(packets)[1] for _ in range(record.packets)))
            segment += isinstance(record, Layer)
        assert len(slack) >= 5
        assert min(slack[1:]) == early


def test_a_program_comes_page_by_page() -> None:
    network = wide(4)
    config = replace(SMALL, program_depth=40)
    image = compile_network(
        network,
        config,
        streamed=True,
        limit=least,
    )
    for stream in (image.run_stream, image.dump_stream):
        pages = [s for s in stream if isinstance(s, Section) and s.memory == "PROGRAM"]
        assert len(pages) > 4
        jumps = [r for page in pages for r in decode_all(page.words) if isinstance(r, Jump)]
        assert [jump.target for jump in jumps] == [page.address for page in pages[1:]]
    assert image.reuse  # the program that sends the tensors has layers, too
    assert_agrees(network, image, random_images(np.random.default_rng(2), network, 1))
    with pytest.raises(CapacityError, match="PROGRAM needs 24 words to come piece by piece, there are 12"):
        compile_network(network, replace(SMALL, program_depth=12), streamed=True)


def test_a_page_that_comes_too_early_is_refused() -> None:
    """A page may come when the program has left the one that it overwrites."""
    network = wide(40, 2)
    image = compile_network(
        network,
        SMALL,
        streamed=True,
        limit=lambda memory, fewest, _need: fewest if memory == "PROGRAM" else 1 << 16,
    )
    assert {s.memory for s in image.run_stream if isinstance(s, Section)} == {"PROGRAM"}
    tried = refused(network, image)
    assert tried["HOLD"] > 3


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        ("LANE", "layer 'c0', tile 0: LANE needs 4 words, there are 3"),
        ("FILTER", "layer 'c0', tile 0: FILTER needs 4 words, there are 3"),
        ("EDGE", "layer 'c0': EDGE needs 4 words, there are 3"),
        ("TAP", "layer 'c0': TAP needs 9 words, there are 8"),
        ("GROUP", "layer 'c0', tile 0: GROUP needs 19 words, there are 18"),
    ],
)
def test_a_tile_without_room_is_refused_by_name(memory: str, message: str) -> None:
    network = Network("big", (2, 4, 4), (conv("c0", INPUT, 8, 2, side=3),))
    if memory in ("LANE", "FILTER"):
        network = Network("big", (2, 4, 4), (conv("c0", INPUT, 8, 2, side=1),))

    def limit(name: str, fewest: int, need: int) -> int:
        return fewest - 1 if name == memory else need

    with pytest.raises(CapacityError, match=f"^network 'big' does not fit: {message}$"):
        compile_network(network, SMALL, packing="dense", streamed=True, limit=limit)


def test_without_streaming_the_memory_is_named() -> None:
    with pytest.raises(CapacityError, match=r"TILE needs \d+ words, config '4x2' has 8"):
        compile_network(wide(), replace(SMALL, tile_depth=8))


def test_a_file_has_both_streams(tmp_path: Path) -> None:
    path = tmp_path / "x.tatami"
    for reuse in (False, True):
        image = compile_network(wide(), SMALL, streamed=True, limit=least, reuse=reuse)
        assert bool(image.dump_stream) == image.reuse
        image.save(path)
        back = Image.load(path, SMALL)
        for name in ("run_stream", "dump_stream"):
            for a, b in zip(getattr(image, name), getattr(back, name), strict=True):
                if isinstance(a, Hold):
                    assert a == b
                else:
                    assert (a.memory, a.address, a.bank) == (b.memory, b.address, b.bank)
                    np.testing.assert_array_equal(a.words, b.words)
        assert (back.layers, back.reuse, back.stats) == (image.layers, image.reuse, image.stats)
        assert_agrees(wide(), back, random_images(np.random.default_rng(2), wide(), 1))


def test_the_figures_of_a_stream_are_those_of_its_packets() -> None:
    """Also where the depths, and with them the beats of a word, follow from the network."""
    for image in (
        compile_network(wide(), SMALL, streamed=True, limit=least),
        compile_cut(wide(2, 48), CONFIGS["16x16"], 0.3),
    ):
        stream, waits = image.stats["stream"], []
        for bits in STREAMS:
            packets = live_packets(replace(image.config, stream_bits=bits), image.run_stream)
            assert len(packets) == len(image.run_stream)
            assert stream["bytes"][str(bits)] == sum(packet.beats.nbytes for packet in packets)
            waits.append(stream["load_wait"][str(bits)])
            assert sum(stream["load_waits"][str(bits)].values()) == waits[-1]
        # the first segment at least has to come first, header and all
        assert waits[0] >= waits[1] >= waits[2] > 0
    assert waits[0] > waits[1] > waits[2], "words of 16 x 16 take fewer beats"


def test_blocks_take_the_place_that_was_used_longest_ago() -> None:
    blocks = streaming._Blocks(10)
    assert blocks.place(range(0, 4), 0) == (0, 0)
    assert blocks.place(range(4, 8), 1) == (4, 0)
    assert blocks.place(range(0, 4), 2) == (0, None)  # still there
    assert blocks.place(range(8, 12), 3) == (4, 2)  # the second is older now
    assert blocks.place(range(4, 8), 4) == (0, 3)


def test_memories_of_a_share_of_the_network() -> None:
    network = wide(4, 64)
    image = compile_cut(network, CONFIGS["8x4"], 0.1)
    whole = compile_fitted(network, CONFIGS["8x4"])
    words = {s.memory: len(s.words) for s in whole.sections}
    config = image.config
    assert config.lane_depth == words["LANE"] / 10 == 160
    assert config.filter_depth == -(-words["FILTER"] // 10) == 26
    assert config.group_depth == 17  # of a tile, and the empty one
    assert image.streamed
    assert image.stats["stream"]["segments"] == 32
    assert image.bits()["SLOT"] == words["SLOT"] * 8 * 10  # all of them come, most while the network runs
    assert set(image.bits()) == set(whole.bits())
    assert_agrees(network, image, random_images(np.random.default_rng(1), network, 2), "a tenth, ")


def test_a_group_that_was_overwritten_comes_again() -> None:
    units = streaming._Units(4, 10, kept=1)

    def place(numbers: list[int], segment: int) -> list[list[int]]:
        return [found.tolist() for found in units.place(np.array(numbers), segment)]

    assert place([1, 2], 0) == [[1, 2], [1, 2], [0, 0]]
    assert place([2, 3], 1) == [[3], [3], [0]]  # the second is there
    assert place([4], 2) == [[4], [1], [1]]  # where the first was, which no one has used since
    assert place([1], 3) == [[1], [2], [2]]
    assert place([3, 4], 4) == [[], [], []]
    assert units.at[0] == 0


def test_what_may_come_early_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packets of a segment are in the order in which their words are free."""
    seen: list[list[int]] = []
    stream = streaming._stream

    def noted(steps: list[streaming._Step]) -> Iterator[Live]:
        seen.extend([load.needs for load in step.loads] for step in steps if step.loads)
        return stream(steps)

    monkeypatch.setattr(streaming, "_stream", noted)
    compile_network(wide(3), SMALL, streamed=True, limit=drawn_limit(5))
    assert any(len(set(needs)) > 1 for needs in seen)
    assert all(needs == sorted(needs) for needs in seen)


@pytest.mark.parametrize("words", [None, 0], ids=["whole", "pages"])
def test_images_back_to_back(words: int | None) -> None:
    """All pieces come again for every input. The model refuses a piece that comes while what it overwrites is
    still used.
    """
    network = wide()
    image = compile_network(network, SMALL, streamed=True, limit=halves(words))
    streamed = {item.memory for item in image.run_stream if isinstance(item, Section)}
    assert ("PROGRAM" in streamed) == (words is not None)
    inputs = random_images(np.random.default_rng(1), network, 4)
    loop = back_to_back(image, inputs)
    machine = Machine(image.config)
    machine.load(image.with_words(PROGRAM=loop.program).sections)
    found = machine.run(stream=loop.stream)
    alone = [loaded(image, one[None]).run(image.run_start, stream=image.run_stream) for one in inputs]
    assert [p.tobytes() for p in found.packets] == [p.tobytes() for run in alone for p in run.packets]
    cost = image_cost(image)
    predicted = clocked_images(image, cost, len(inputs))
    assert found.cycles == predicted.cycles - predicted.waited
    assert cost.cycles < (cycles_back_to_back(image, cost) or 0) < cost.cycles + 2000
    for number, item in enumerate(loop.stream):  # a layer too early
        if isinstance(item, Hold) and number % 5 == 0:
            early = [*loop.stream]
            early[number] = replace(item, layers=item.layers - 1)
            machine.load(image.with_words(PROGRAM=loop.program).sections)
            with pytest.raises((LiveUseError, ProgramError)):
                machine.run(stream=[one for one in early if not isinstance(one, Hold) or one.layers])


def halves(words: int | None) -> Limit:
    """Half of what the network needs of each memory, and `words` of PROGRAM, or all that it takes."""

    def limit(memory: str, least: int, need: int) -> int:
        if memory == "PROGRAM":
            return 4 * need if words is None else max(least, words)
        return max(least, need // 2)

    return limit
