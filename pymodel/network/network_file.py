"""Files of quantised networks: their layers, the slots that a scheme gave to their weights, and images to run
them on.

The file is an npz without pickles. `header` is UTF-8 JSON as uint8: format and version, the layers without
their numbers, the CRC-32 and the dtype of every other array, and `meta`. `header_crc` is the CRC-32 of its
bytes. The numbers of each layer are the arrays `layer.part`. Those of its plan are `layer.plan.part`.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, create_model

from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, checked, parse_json
from pymodel.network import integer
from pymodel.network.integer import (
    Conv,
    IntArray,
    Layer,
    Network,
    Pair,
    Requant,
    Requantised,
    Residual,
    Weighted,
)
from pymodel.packing.plan import LayerPlan

FORMAT, VERSION = "tatami-network", 3
KINDS: dict[str, type[Layer]] = {kind.__name__: kind for kind in integer.KINDS}
REQUANT = ("bias", "multiplier", "shift")  # its arrays
LIMITS = ("zero", "low", "high")  # its numbers

Arrays = dict[str, npt.NDArray[Any]]

Positive = Annotated[int, Field(ge=1, lt=1 << 32)]
Count = Annotated[int, Field(ge=0)]


class ResidualHeader(Fields):
    """A `Residual` in the header."""

    source: str
    stride: Pair


def _layer_header(kind: type[Layer]) -> type[Fields]:
    """What the header has of a type of layer: all but its arrays."""
    hints = get_type_hints(kind)
    scalars: dict[str, Any] = {
        part.name: (ResidualHeader | None if hints[part.name] == Residual | None else hints[part.name], ...)
        for part in fields(kind)
        if hints[part.name] not in (IntArray, Requant)
    }
    if Requant in hints.values():
        scalars |= dict.fromkeys(LIMITS, (int, ...)) | {"table": (bool, False)}
    return create_model(f"{kind.__name__}Header", __base__=Fields, kind=(str, ...), **scalars)


LAYER_HEADERS = {name: _layer_header(kind) for name, kind in KINDS.items()}


class NetworkHeader(Fields):
    """A `Network` in the header; its layers are read by `LAYER_HEADERS`."""

    name: str
    input_shape: tuple[Positive, Positive, Positive]
    layers: tuple[dict[str, Any], ...]


class TileHeader(Fields):
    """A `Tile` of a plan: null for each array that it has."""

    filters: None
    lanes: None
    select: None
    weight: None
    position: None = None


class PackedHeader(Fields):
    """A plan in packed slots: null for each array."""

    groups: None
    size: Positive
    inputs: Positive
    tiles: dict[str, TileHeader]


class MaskHeader(Fields):
    """A plan that is a mask alone, which is an array."""

    mask: None


class DenseHeader(Fields):
    """What the network takes with nothing skipped; `layers` has the same of each layer."""

    cycles: Count
    lanes: Count
    weights: Count
    layers: list[dict[str, Any]] | None = None


class Meta(Fields):
    """Of `meta` what is read again; it may hold anything else."""

    model_config = ConfigDict(extra="allow")

    scheme: str = "tight"
    size: Positive | None = None
    group: Positive | None = None
    weight_bits: Positive | None = None
    scales: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    dense: DenseHeader | None = None


class ArrayHeader(Fields):
    """An array of the file."""

    dtype: str
    crc: int = Field(ge=0, lt=1 << 32)


class Header(Fields):
    """The JSON of `header`."""

    format: Literal["tatami-network"]
    version: Literal[3]
    network: NetworkHeader
    arrays: dict[str, ArrayHeader]
    meta: Meta
    plans: dict[str, PackedHeader | MaskHeader]


@dataclass(frozen=True)
class StoredNetwork:
    """`images` int8 [N, C, H, W] were not used in training and are quantised as the network's input. `labels`
    int [N] may have any width, or be missing.

    `meta` says how the network was trained and what was measured. `plans`: the slots of the layers that a
    scheme planned.
    """

    network: Network
    images: npt.NDArray[np.int8]
    labels: npt.NDArray[np.integer]
    meta: dict[str, Any]
    plans: Mapping[str, LayerPlan] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises TatamiError, naming the field, if the parts do not fit together."""
        where = f"network '{self.network.name}'"
        images, labels = self.images, self.labels
        if images.dtype != np.int8 or images.ndim != 4 or images.shape[1:] != self.network.input_shape:
            raise TatamiError(
                f"{where}: images are {images.dtype} {images.shape}, must be int8 (images,"
                f" {', '.join(map(str, self.network.input_shape))})"
            )
        if not np.issubdtype(labels.dtype, np.integer) or labels.shape not in ((0,), images.shape[:1]):
            raise TatamiError(
                f"{where}: labels are {labels.dtype} {labels.shape}, must be integers ({len(images)},)"
            )
        classes = int(np.prod(list(self.network.shapes.values())[-1]))
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise TatamiError(
                f"{where}: labels hold {labels.min()}..{labels.max()}, must be in 0..{classes - 1}"
            )
        layers = {layer.name: layer for layer in self.network.layers}
        for name, plan in self.plans.items():
            layer = layers.get(name)
            if not isinstance(layer, Weighted):
                raise TatamiError(f"{where}: plan of '{name}', which is no layer with weights")
            needed = (len(layer.weight), layer.weight[0].size)
            if plan.mask.shape != needed:
                raise TatamiError(
                    f"{where}: plan of '{name}' is for a matrix of shape {plan.mask.shape}, must be {needed}"
                )


def accuracy(logits: npt.NDArray[np.generic], labels: npt.NDArray[np.integer]) -> float:
    """Share of images for which the largest logit (the first of equal ones) is the label: logits [N, classes,
    1, 1] or [N, classes], labels [N].
    """
    return float((logits.reshape(len(labels), -1).argmax(axis=1) == labels).mean())


def save(kept: StoredNetwork, path: Path) -> None:
    """Writes the file; the same content gives the same bytes."""
    arrays: Arrays = {"images": kept.images, "labels": _narrow(kept.labels)}
    layers = [_describe(layer, arrays) for layer in kept.network.layers]
    plans = {name: _flatten(plan.to_arrays(), f"{name}.plan", arrays) for name, plan in kept.plans.items()}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "network": {"name": kept.network.name, "input_shape": kept.network.input_shape, "layers": layers},
        "arrays": {name: {"dtype": str(value.dtype), "crc": _crc(value)} for name, value in arrays.items()},
        "meta": kept.meta,
        "plans": plans,
    }
    packed = np.frombuffer(json.dumps(header, sort_keys=True).encode(), dtype=np.uint8)
    np.savez_compressed(path, allow_pickle=False, header=packed, header_crc=np.uint32(_crc(packed)), **arrays)


def load(path: Path) -> StoredNetwork:
    """Reads and checks the file.

    Raises TatamiError, naming file and field, if it is missing, damaged, incomplete or of another format.
    """
    arrays = _read(path)
    for name in ("header", "header_crc"):
        if name not in arrays:
            raise TatamiError(f"{path}: field '{name}' is missing")
    packed = arrays.pop("header")
    if arrays.pop("header_crc") != _crc(packed):
        raise TatamiError(f"{path}: field 'header' does not match its checksum")
    content = parse_json(packed.tobytes(), f"{path}: header")
    if isinstance(content, dict):
        found = content.get("format", FORMAT), content.get("version", VERSION)
        if found != (FORMAT, VERSION):
            raise TatamiError(f"{path}: format is {found[0]} {found[1]}, must be {FORMAT} {VERSION}")
    header = checked(Header, content, f"{path}: header")
    for name, expected in header.arrays.items():
        if name not in arrays:
            raise TatamiError(f"{path}: field '{name}' is missing")
        if str(arrays[name].dtype) != expected.dtype or _crc(arrays[name]) != expected.crc:
            raise TatamiError(f"{path}: field '{name}' does not match its checksum")
    try:
        return _kept(header, content["meta"], _Checked(arrays))
    except TatamiError as error:  # which may show a name with a line break
        raise TatamiError(f"{path}: {' '.join(str(error).split())}") from None


class _Checked(Arrays):
    """The arrays whose checksums are right; a layer or plan may ask for one that there is not."""

    def __missing__(self, name: str) -> npt.NDArray[Any]:
        raise TatamiError(f"field '{name}' is missing")


def _kept(header: Header, meta: dict[str, Any], arrays: Arrays) -> StoredNetwork:
    network = Network(
        header.network.name,
        header.network.input_shape,
        tuple(_layer(n, layer, arrays) for n, layer in enumerate(header.network.layers, 1)),
    )
    groups = {layer.name: layer.groups for layer in network.layers if isinstance(layer, Conv)}
    plans = {name: _plan(name, plan, arrays, groups.get(name, 1)) for name, plan in header.plans.items()}
    return StoredNetwork(network, arrays["images"], arrays["labels"], meta, plans)


def _plan(name: str, plan: PackedHeader | MaskHeader, arrays: Arrays, groups: int) -> LayerPlan:
    parts = _unflatten(plan.model_dump(exclude_unset=True), f"{name}.plan", arrays)
    try:
        return LayerPlan.from_arrays(parts, groups)
    except (IndexError, ValueError, TypeError) as error:  # arrays whose shapes do not fit together
        raise TatamiError(f"plan of '{name}': {' '.join(str(error).split())}") from None


def _read(path: Path) -> Arrays:
    if not path.is_file():
        raise TatamiError(f"{path}: no such file")
    name = "archive"
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {}
            for name in archive.files:
                arrays[name] = archive[name]
            return arrays
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        ValueError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        AttributeError,
    ) as error:
        raise TatamiError(f"{path}: field '{name}' cannot be read ({error})") from None


def _narrow(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """The labels in the narrowest type: 8 bits for up to 256 classes, as in all earlier files, and 32 bits
    for more.
    """
    if labels.size and labels.max() > np.iinfo(np.uint8).max:
        return labels.astype(np.int32 if labels.max() <= np.iinfo(np.int32).max else np.int64)
    return labels.astype(np.uint8)


def _crc(value: npt.NDArray[Any]) -> int:
    """CRC-32 of an array's shape and content."""
    return zlib.crc32(np.ascontiguousarray(value).tobytes(), zlib.crc32(repr(value.shape).encode()))


def _flatten(value: Any, name: str, arrays: Arrays) -> Any:
    """Nested dicts of arrays and numbers as a dict of numbers. The arrays are put into `arrays` and replaced
    by None.
    """
    if isinstance(value, dict):
        return {key: _flatten(part, f"{name}.{key}", arrays) for key, part in value.items()}
    if isinstance(value, np.ndarray):
        small = (
            np.int8
            if np.abs(value).max(initial=0) < 128
            else np.int16
            if np.abs(value).max(initial=0) < 2**15
            else value.dtype
        )
        arrays[name] = value if value.dtype == bool else value.astype(small)
        return None
    return value


def _unflatten(value: Any, name: str, arrays: Arrays) -> Any:
    if isinstance(value, dict):
        return {key: _unflatten(part, f"{name}.{key}", arrays) for key, part in value.items()}
    if value is None:
        found = arrays[name]
        return found if found.dtype == bool or name.endswith(".weight") else found.astype(np.int64)
    return value


def _describe(layer: Layer, arrays: Arrays) -> dict[str, Any]:
    """A layer without its numbers, for the header. The numbers are put into `arrays`."""
    described: dict[str, Any] = {"kind": type(layer).__name__}
    if isinstance(layer, Requantised):
        described |= {part: getattr(layer.requant, part) for part in LIMITS}
        if layer.requant.table is not None:
            described["table"] = True
            arrays[f"{layer.name}.table"] = layer.requant.table
        for part in REQUANT:
            arrays[f"{layer.name}.{part}"] = getattr(layer.requant, part)
    for part in _parts(type(layer)):
        value = getattr(layer, part)
        if isinstance(value, np.ndarray):
            arrays[f"{layer.name}.{part}"] = value
        elif isinstance(value, Residual):
            described[part] = {"source": value.source, "stride": value.stride}
            arrays[f"{layer.name}.{part}_channel"] = value.channel
            arrays[f"{layer.name}.{part}_weight"] = value.weight
        else:
            described[part] = value
    return described


def _layer(number: int, described: dict[str, Any], arrays: Arrays) -> Layer:
    """The inverse of `_describe`, of layer `number` of the header."""
    kind = str(described.get("kind"))
    if kind not in KINDS:
        raise TatamiError(f"layer {number}: kind is {kind[:60]!r}, must be one of {', '.join(KINDS)}")
    header: Any = checked(LAYER_HEADERS[kind], described, f"layer {number}")
    parts: dict[str, Any] = {}
    if issubclass(KINDS[kind], Requantised):
        bias, multiplier, shift = (arrays[f"{header.name}.{part}"] for part in REQUANT)
        limits = {part: getattr(header, part) for part in LIMITS}
        table = arrays[f"{header.name}.table"] if header.table else None
        parts["requant"] = Requant(bias, multiplier, shift, **limits, table=table)
    for part in _parts(KINDS[kind]):
        value: Any = getattr(header, part) if hasattr(header, part) else arrays[f"{header.name}.{part}"]
        if isinstance(value, ResidualHeader):
            channel, weight = arrays[f"{header.name}.{part}_channel"], arrays[f"{header.name}.{part}_weight"]
            value = Residual(value.source, channel, weight, value.stride)
        parts[part] = value
    return KINDS[kind](**parts)


def _parts(kind: type[Layer]) -> list[str]:
    """The fields of a type of layer, without its requantisation."""
    return [part.name for part in fields(kind) if part.name != "requant"]
