"""Networks that bring their own memories: compiled before the RTL is built, for tests whose entry in
tb/flow/testlist.py has a `network`.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pymodel.compiler.compile import CapacityError, compile_cut, compile_fitted, compile_network
from pymodel.cost.counts import image_cost
from pymodel.cost.dense import dense_cost
from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.slot_rows import image_tiles, with_decoder
from pymodel.network import network_file
from pymodel.network.float import FloatNetwork
from pymodel.network.integer import INPUT, Shape
from pymodel.network.load_model import GROUPS
from pymodel.network.network_file import StoredNetwork
from pymodel.network.quantise import calibrate, quantise, quantise_tensor
from pymodel.network.scale import Scale
from pymodel.schemes import LayerPlan, array_for, array_of_slots, get_scheme
from pymodel.training.from_file import DENSE, Imported, import_file, pruning
from pymodel.training.one_shot import prune_once
from pymodel.zoo import cifar, systems
from pymodel.zoo.architectures import ARCHITECTURES
from pymodel.zoo.pruned import ZOO, random_architecture
from pymodel.zoo.random_resnet import SHAPE, random_resnet
from pymodel.zoo.systems import SYSTEMS
from tb.common.settings import IMAGE_FILE, NETWORK_FILE, Options
from tb.flow import runner

FOLDER = runner.BUILD / "networks"

ZOO_SCHEME = "tight_cycle"
FILE = "file"
CUT = 0.02  # the share of its tables that a network keeps in memory which does not fit otherwise
RESNET, BLOCKS, SCHEME, RATIO = "resnet20", 3, "tight_pass", 14.13
CALIBRATED = 256  # images for the scales: of the training set, or drawn


@dataclass(frozen=True)
class Prepared:
    """What the runner needs: the array with memories deep enough, what the test module is told, and the clock
    cycles that all images will take. Of a network from a file of another tool also `figures` for the
    result, and `notes` for the user.
    """

    config: ArrayConfig
    options: Options
    cycles: int
    figures: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """What the user gives: files, and whether rows of slots are to be stored encoded, behind the XOR decoder
    that suits the network best. `exact`: the number of images is the user's too; else it is the most, and a
    network that brings fewer runs these. `scheme`, `ratio`, `shape` and `skip` are for files of other tools.
    """

    weights: Path | None = None
    data: Path | None = None
    xor: bool = False
    exact: bool = True
    scheme: str | None = None
    ratio: float | None = None
    shape: Shape | None = None
    skip: str | None = None


def prepare(name: str, config: ArrayConfig, seed: int, images: int, source: Source) -> Prepared:
    """The network `name` of a test, with `images` images, compiled for `config`'s array.

    `zoo_...`: one of `ARCHITECTURES`, drawn from `seed`. One of `SYSTEMS`: the digits network as it is kept,
    in an array with slots as its scheme needs them. `file`: what `weights` names, a network.npz of `make
    compress`, or a .tflite or .onnx file (`pymodel.training.from_file`). `resnet20`: a network.npz, or a
    state_dict pruned in one shot, on images of `data`; without both random weights on random images, drawn
    from `seed`. The meta data of what is kept for the test also has `dense`, the network with nothing
    skipped, and `plain`, the image without an XOR decoder. Raises `TatamiError` for files that are missing or
    do not fit.
    """
    figures: Mapping[str, Any] = {}
    notes: tuple[str, ...] = ()
    if name == FILE and source.weights is not None and source.weights.suffix in GROUPS:
        config = array_for(get_scheme(source.scheme or DENSE), config)
        imported = _imported(source.weights, config, seed, images, source)
        found, figures, notes = imported.stored, imported.figures, imported.notes
    else:
        for given, what in (
            (source.scheme, "SCHEME"),
            (source.ratio, "RATIO"),
            (source.shape, "SHAPE"),
            (source.skip, "SKIP"),
        ):
            if given is not None:
                raise TatamiError(f"{what} is given: only for a WEIGHTS that ends in {' or '.join(GROUPS)}")
        found = _network(name, config, seed, images, source)
    if name in SYSTEMS:
        config = array_for(get_scheme(SYSTEMS[name].scheme), config)
    elif found.plans and found.meta.get("weight_bits", config.weight_bits) < config.weight_bits:
        config = array_of_slots(config, found.meta["weight_bits"])  # what was compressed to digits
    if not source.exact:
        images = min(images, len(found.images))
    _check_fits(found, config, images)
    without = replace(config, xor_inputs=0, xor_history=0)
    share = ARCHITECTURES[name.removeprefix(ZOO)].share if name.startswith(ZOO) else 1.0
    plain = image = _compiled(found, without, share)
    if source.xor and plain.streamed:
        raise TatamiError(f"FORMAT xor: the network of '{name}' is loaded while it runs, must be plain")
    if source.xor or (name in SYSTEMS and SYSTEMS[name].xor):
        config = with_decoder(without, image_tiles(plain))
    if config.xor_inputs:
        image = _compiled(found, config, share)
    folder = written(found, image, plain)
    options = Options(images=images, network=str(folder))
    return Prepared(image.config, options, clock_cycles(image, images), figures, notes)


def written(found: StoredNetwork, image: Image, plain: Image, below: Path = FOLDER) -> Path:
    """The folder of a network and its image, for `Options.network`; `plain`: the image without a decoder."""
    meta = {**found.meta, "dense": _dense(found, plain.config), "plain": _plain(plain)}
    whole = StoredNetwork(found.network, found.images, found.labels, meta, found.plans)
    return _folder(whole, image, below)


def clock_cycles(image: Image, images: int) -> int:
    """The clock cycles of a simulation of so many images, as far as they can be told: what is loaded, the
    network's program and the one that sends every tensor, and the waits for their streams. Accesses to
    registers are left out, and so is what the second program waits other than the first.
    """
    second = replace(image, run_start=image.dump_start, run_stream=image.dump_stream)
    run, dump = image_cost(image), image_cost(second)
    runs = 1 + image.reuse  # that compute, and need the input
    wait = image.stats["stream"]["load_wait"][str(image.config.stream_bits)] if image.streamed else 0
    loaded = 8 * (run.load_bytes + images * runs * run.input_bytes) // image.config.stream_bits
    return loaded + images * (run.cycles + dump.cycles + runs * wait)


def _imported(weights: Path, config: ArrayConfig, seed: int, images: int, source: Source) -> Imported:
    scheme, ratio = pruning(source.scheme, source.ratio)
    return import_file(weights, source.data, config, seed, images, scheme, ratio, source.shape, source.skip)


def _network(name: str, config: ArrayConfig, seed: int, images: int, source: Source) -> StoredNetwork:
    """The network itself, of what the user gives."""
    weights, data = source.weights, source.data
    if name in SYSTEMS or name.startswith(ZOO):
        if weights is not None or data is not None:
            raise TatamiError(f"{'DATA' if weights is None else 'WEIGHTS'}: test '{name}' takes none")
        if name in SYSTEMS:
            return systems.load(name)
        architecture = name.removeprefix(ZOO)
        ratio = ARCHITECTURES[architecture].ratio
        return random_architecture(architecture, ZOO_SCHEME, ratio, config, images, seed)
    if name == RESNET:
        return _resnet(config, seed, images, weights, data)
    if data is not None:
        raise TatamiError(f"DATA '{data}': the network of this test brings its own images")
    if weights is None:
        raise TatamiError(
            "WEIGHTS is not given: a network.npz that `make compress` wrote, a .tflite or an .onnx file"
        )
    return network_file.load(weights)


def _check_fits(found: StoredNetwork, config: ArrayConfig, images: int) -> None:
    """Raises `TatamiError` for no images, for fewer than asked for, and for an array that it is not planned
    for.
    """
    if not len(found.images):
        raise TatamiError(f"network '{found.network.name}' brings no images, must bring at least 1")
    if images > len(found.images):
        raise TatamiError(f"IMAGES {images} is outside 1..{len(found.images)}: the network brings no more")
    for part in ("size", "group", "weight_bits"):
        if found.plans and found.meta.get(part, getattr(config, part)) != getattr(config, part):
            raise TatamiError(
                f"CONFIG '{config.name}' has {part} {getattr(config, part)}, the network is planned for"
                f" {found.meta[part]}"
            )


def _dense(found: StoredNetwork, config: ArrayConfig) -> dict[str, Any]:
    """What nothing skipped would take, which may be more than a machine holds: of the network before
    compression, where that is known, since PENNI's has other layers; and layer by layer of this one.
    """
    dense = dense_cost(found.network, config)
    itself = {
        "cycles": dense.cost.cycles,
        "lanes": dense.lanes,
        "weights": sum(row["weights"] for row in dense.layers),
    }
    return {**found.meta.get("dense", itself), "layers": dense.layers}


def _plain(image: Image) -> dict[str, int]:
    """Of the image without a decoder: its cycles but for waits, and the bits of its slots."""
    cost = image_cost(image)
    return {"cycles": cost.cycles - cost.waits, "slot_bits": image.bits()["SLOT"]}


def _folder(whole: StoredNetwork, image: Image, below: Path) -> Path:
    """The folder of network and image: whole or not at all, whoever else prepares the same."""
    below.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=below) as scratch:
        draft = Path(scratch)
        network_file.save(whole, draft / NETWORK_FILE)
        image.save(draft / IMAGE_FILE)
        content = zlib.crc32(
            (draft / IMAGE_FILE).read_bytes(), zlib.crc32((draft / NETWORK_FILE).read_bytes())
        )
        folder = below / f"{whole.network.name}-{_scheme(whole)}-{image.config.name}-{content:08x}"
        folder.mkdir(exist_ok=True)
        for file in (NETWORK_FILE, IMAGE_FILE):
            (draft / file).replace(folder / file)
    return folder


def _scheme(found: StoredNetwork) -> str:
    return str(found.meta.get("scheme", "tight"))


def _compiled(found: StoredNetwork, config: ArrayConfig, share: float) -> Image:
    """`share`: of the network's tables, what the memories hold. A network that takes more than any memory
    has is loaded while it runs, too.
    """
    scheme = _scheme(found)
    options: dict[str, Any] = {
        "packing": "dense" if scheme == "dense" else "tight",
        "plans": found.plans,
        "scheme": scheme,
    }
    if share < 1:
        return compile_cut(found.network, config, share, **options)
    try:  # the memories of the configuration, if they will do: its build is shared
        return compile_network(found.network, config, **options)
    except CapacityError:
        pass
    try:
        return compile_fitted(found.network, config, **options)
    except CapacityError:
        return compile_cut(found.network, config, CUT, **options)


def _resnet(
    config: ArrayConfig, seed: int, images: int, weights: Path | None, data: Path | None
) -> StoredNetwork:
    if weights is None and data is None:
        return _random_resnet(config, seed, images)
    if weights is None or data is None:
        raise TatamiError(
            f"{'WEIGHTS' if weights is None else 'DATA'} is not given: a trained ResNet-20 needs both, a"
            " random one neither"
        )
    test_images, labels = cifar.load_test(data)
    pictures, labels = cifar.normalise(test_images[:images]), labels[:images]
    if weights.suffix == ".npz":
        return _on_images(weights, pictures, labels)
    network, plans = prune_once(
        _from_state(weights), get_scheme(SCHEME), RATIO, config, np.random.default_rng(seed)
    )
    trained_on = cifar.normalise(cifar.load_train(data)[0][:CALIBRATED]).astype(np.float64)
    return _quantised(
        network, plans, trained_on, pictures, labels, config, f"{weights.name}, pruned in one shot"
    )


def _random_resnet(config: ArrayConfig, seed: int, images: int) -> StoredNetwork:
    rng = np.random.default_rng(seed)
    network, plans = prune_once(random_resnet(BLOCKS, rng), get_scheme(SCHEME), RATIO, config, rng)
    drawn = rng.normal(0, 1, (max(images, CALIBRATED // 16), *SHAPE))
    return _quantised(
        network, plans, drawn, drawn[:images], np.zeros(0, np.uint8), config, f"random, seed {seed}"
    )


def _on_images(
    weights: Path, pictures: npt.NDArray[np.floating], labels: npt.NDArray[np.uint8]
) -> StoredNetwork:
    """A compressed network on other images than it brings."""
    found = network_file.load(weights)
    if found.network.input_shape != SHAPE:
        raise TatamiError(
            f"{weights}: the network's input has shape {found.network.input_shape}, must be {SHAPE}"
        )
    scale = found.meta.get("scales", {}).get(INPUT)
    if scale is None:
        raise TatamiError(f"{weights}: header: field 'meta.scales.{INPUT}' is missing")
    pixels = Scale(scale, found.meta.get("zero_points", {}).get(INPUT, 0)).values(pictures)
    return StoredNetwork(found.network, pixels, labels, found.meta, found.plans)


def _from_state(weights: Path) -> FloatNetwork:
    try:
        from pymodel.network.from_torch import from_torch
        from pymodel.zoo import resnet
    except ModuleNotFoundError as error:
        raise TatamiError(
            f"WEIGHTS '{weights}' needs the package '{error.name}'; `make .venv/.train` installs it"
        ) from None
    net = resnet.resnet20()
    resnet.load_state(net, weights)
    return from_torch(net, SHAPE, RESNET)


def _quantised(
    network: FloatNetwork,
    plans: dict[str, LayerPlan],
    calibrating: npt.NDArray[np.floating],
    images: npt.NDArray[np.floating],
    labels: npt.NDArray[np.uint8],
    config: ArrayConfig,
    start: str,
) -> StoredNetwork:
    scales = calibrate(network, calibrating.astype(np.float64))
    meta = {
        "scheme": SCHEME,
        "ratio": RATIO,
        "start": start,
        "size": config.size,
        "group": config.group,
        "weight_bits": config.weight_bits,
    }
    return StoredNetwork(
        quantise(network, scales),
        quantise_tensor(images, scales[INPUT]),
        labels,
        meta | {"scales": scales},
        plans,
    )
