"""XOR-encoded weights: a fixed network of XOR gates expands few stored bits into many bits, and patches
correct the bits that come out wrong.

The bits of pruned weights are don't-cares. So the stored bits need only satisfy one linear equation over
GF(2) for each of the other bits, the care bits (Kwon et al., "Structured Compression by Weight Encryption for
Unstructured Pruning and Quantization", CVPR 2020, 10.1109/cvpr42600.2020.00198). The encoder solves the
equations in order. If an equation contradicts those before it, its bit becomes a patch: a position whose bit
the decoder flips. Decoding is exact on every care bit, whatever the mask.

The network sees the stored word of its slice and the words of `history` slices before (as in the sequential
decoders of Park et al., "Encoding Weights of Irregular Sparsity for Fixed-to-Fixed Model Compression", arXiv
2105.01869). The number of care bits varies from slice to slice. Without history, the words must be wide
enough for the fuller slices. With history, a slice uses the bits that the slices before it did not need, and
the number of stored bits is just above the mean.

`encode` and `decode` work on any bits. `pymodel.machine.slot_rows` has the rows of slots that the machine
decodes. `pymodel.bench.mask_factors` has the index of a weight matrix, which is its mask. Layout of the
streams: docs/formats.md.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError
from pymodel.machine.hot import hot

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

TAPS = 7  # inputs of an XOR gate; odd, because an even number can only make words of even weight
# taps from the slice's own word; the first slices of a machine's tile have no other stored words
NEAR = 2
WINDOW = 512  # stored bits of the window that `choose_network` uses, at least
MAX_OUTPUTS = 4096
MAX_WINDOW = 8192
MAX_GAP_BITS = 16
SAMPLE = 1 << 20  # bits of a longer stream that `choose_network` tries its networks on
_LOW32 = np.uint64(0xFFFFFFFF)

_HEADER = struct.Struct("<HHHBxIQI")


@dataclass(frozen=True)
class XorNetwork:
    """The fixed network: `outputs` bits a slice, each the XOR of up to TAPS bits of a window of stored words.

    `inputs`: bits of a stored word, 1..outputs. `seed`: 1..2**32 - 1. `history`: how many words before the
    slice's own word the window holds. With `inputs` = `outputs` (and no history) the network is plain wires,
    whatever the seed. Raises `TatamiError` for a field out of range.
    """

    inputs: int
    outputs: int
    seed: int = 1
    history: int = 0

    def __post_init__(self) -> None:
        for field, low, high in (
            ("outputs", 1, MAX_OUTPUTS),
            ("inputs", 1, self.outputs),
            ("seed", 1, 2**32 - 1),
            ("history", 0, MAX_WINDOW),
        ):
            value = getattr(self, field)
            if not low <= value <= high:
                raise TatamiError(f"xor network: {field} is {value}, must be in {low}..{high}")
        if self.window > MAX_WINDOW:
            raise TatamiError(
                f"xor network: inputs * (history + 1) is {self.window}, must be at most {MAX_WINDOW}"
            )
        if self.wires and self.history:
            raise TatamiError(f"xor network: history is {self.history}, must be 0 where inputs equal outputs")

    @property
    def window(self) -> int:
        """The number of stored bits that a slice depends on."""
        return self.inputs * (self.history + 1)

    @property
    def wires(self) -> bool:
        """Whether every output is an input. Then nothing is saved, and no patch is needed."""
        return self.inputs == self.outputs

    @cached_property
    def taps(self) -> Array:
        """int64 [outputs, TAPS]: the window bits whose XOR is each output. Tap i is bit `i % inputs` of the
        word `i // inputs` slices ago.

        The first NEAR taps of an output are from the slice's own word, the others from the whole window. A
        tap that is drawn twice cancels out. The taps are drawn by a hash of 32 bits (Wellons, "lowbias32"),
        which hardware can compute for each tap separately: docs/formats.md.
        """
        if self.wires:
            return np.arange(self.outputs, dtype=np.int64)[:, None]
        number = np.arange(self.outputs * TAPS, dtype=np.uint64).reshape(self.outputs, TAPS)
        x = (np.uint64(self.seed) + number) & _LOW32
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            x = ((x ^ (x >> np.uint64(shift))) * np.uint64(factor)) & _LOW32
        x ^= x >> np.uint64(16)
        reach = np.where(np.arange(TAPS) < NEAR, self.inputs, self.window).astype(np.uint64)
        return (x * reach >> np.uint64(32)).astype(np.int64)

    @cached_property
    def matrix(self) -> Bytes:
        """The network as a matrix over GF(2), uint8 [outputs, window]: `slice = matrix @ window mod 2`."""
        matrix = np.zeros((self.outputs, self.window), np.uint8)
        np.bitwise_xor.at(matrix, (np.arange(self.outputs)[:, None], self.taps), 1)
        return matrix


@dataclass(frozen=True)
class XorStream:
    """The stored form of `length` bits.

    `values` uint8 [ceil(words * inputs / 8)]: the words end to end, bit 0 first. They are `history` words
    that fill the window, then one word for each slice. `patches` uint8 [ceil(entries * gap_bits / 8)]:
    `entries` fields of `gap_bits`, bit 0 first. A field that is all ones moves the position by its value. Any
    other field moves the position by its value, flips that bit, and moves the position by one.
    """

    network: XorNetwork
    length: int
    gap_bits: int
    entries: int
    values: Bytes
    patches: Bytes

    @property
    def slices(self) -> int:
        """The number of slices. The last one may be cut off by `length`."""
        return -(-self.length // self.network.outputs)

    @property
    def words(self) -> int:
        """The number of stored words. A stream without bits has none."""
        return _words(self.slices, self.network)

    def positions(self, where: str = "xor stream") -> Array:
        """Position of every patch, int64, in order.

        Raises `TatamiError` for a list that is cut short or leaves the stream.
        """
        return _resolve(self, where)[0]

    def busiest(self) -> int:
        """The largest number of patch entries that end in one slice. A decoder that takes so many in a cycle
        never waits.
        """
        ends = _resolve(self, "xor stream")[1]
        return int(np.bincount(ends // self.network.outputs).max(initial=0)) if len(ends) else 0

    def to_bytes(self) -> bytes:
        """Header (24 bytes), values, patches."""
        n = self.network
        header = _HEADER.pack(
            n.inputs, n.outputs, n.history, self.gap_bits, n.seed, self.length, self.entries
        )
        return header + self.values.tobytes() + self.patches.tobytes()


def stream_from_bytes(data: bytes, where: str = "xor stream") -> XorStream:
    """The inverse of `XorStream.to_bytes`.

    Raises `TatamiError`, naming `where` and the field, if the data cannot be one.
    """
    if len(data) < _HEADER.size:
        raise TatamiError(f"{where}: {len(data)} bytes, must be at least {_HEADER.size} (header)")
    inputs, outputs, history, gap_bits, seed, length, entries = _HEADER.unpack_from(data)
    try:
        network = XorNetwork(inputs, outputs, seed, history)
    except TatamiError as error:
        raise TatamiError(f"{where}: {error}") from error
    if not 1 <= gap_bits <= MAX_GAP_BITS:
        raise TatamiError(f"{where}: gap_bits is {gap_bits}, must be in 1..{MAX_GAP_BITS}")
    values = -(-_words(-(-length // outputs), network) * inputs // 8)
    expected = _HEADER.size + values + -(-entries * gap_bits // 8)
    if len(data) != expected:
        raise TatamiError(
            f"{where}: {len(data)} bytes, must be {expected} ({length} bits, {entries} patch entries)"
        )
    body = np.frombuffer(data, np.uint8, offset=_HEADER.size)
    return XorStream(network, length, gap_bits, entries, body[:values], body[values:])


@dataclass(frozen=True)
class XorCost:
    """The storage of `weights` weights (or slots) in bits, which is 8 times the stored bytes.

    `care_bits`: bits that must come back right. `value_bits`: headers, values and patches. `patch_bits`: the
    patches alone. `index_bits`: the index of the weights that exist.
    """

    weights: int
    care_bits: int
    value_bits: int
    patch_bits: int
    index_bits: int

    @property
    def stored_bits(self) -> int:
        return self.value_bits + self.index_bits

    @property
    def bits_per_weight(self) -> float:
        return self.stored_bits / self.weights if self.weights else 0.0

    @property
    def value_ratio(self) -> float:
        """Value bits for each care bit. A lossless code needs 1, if the bits are random."""
        return self.value_bits / self.care_bits if self.care_bits else float("inf")


def stream_cost(stream: XorStream, care: Array, weights: int, index_bits: int = 0) -> XorCost:
    """Cost of a stream that was encoded with the mask `care` and holds `weights` weights."""
    return XorCost(
        weights, int(np.count_nonzero(care)), 8 * len(stream.to_bytes()), 8 * stream.patches.size, index_bits
    )


def encode(bits: Array, care: Array, network: XorNetwork) -> XorStream:
    """Encodes `bits`. Those in `care` come back exactly. Both are bool of one shape, taken in C order.

    The method is greedy: the equations are taken in order, and each is kept that does not contradict those
    before. So at least as many hold as the rank of the system. Time is proportional to window**2 / 64 for
    each care bit. Memory is window / 8 bytes for each stored bit. Raises `TatamiError` for arrays of
    different shapes.
    """
    flat, mask = _flat(bits, care)
    return _finish(network, len(flat), *_solve(flat, mask, network))


def decode(stream: XorStream, where: str = "xor stream") -> npt.NDArray[np.bool_]:
    """The bits, bool [length]: XOR expansion, then the patches in order. A bit that is not a care bit may
    have any value.

    Raises `TatamiError`, naming `where`, for values or patches that are too short or too long, or a patch
    outside the stream.
    """
    network = stream.network
    need = -(-stream.words * network.inputs // 8)
    if stream.values.size != need:
        raise TatamiError(
            f"{where}: values are {stream.values.size} bytes, must be {need} ({stream.words} words of"
            f" {network.inputs} bits)"
        )
    positions = stream.positions(where)
    stored = np.unpackbits(stream.values, count=stream.words * network.inputs, bitorder="little")
    out = np.empty(stream.slices * network.outputs, np.uint8)
    _expand(stored, network.taps, network.inputs, network.history, out)
    out = out[: stream.length]
    out[positions] ^= 1
    return out.astype(bool)


def choose_network(bits: Array, care: Array, outputs: int, seed: int = 1, window: int = WINDOW) -> XorNetwork:
    """The network with `outputs` whose values and patches together take the fewest bits, found by trial.

    Widths of the word are tried upwards and downwards from the mean number of care bits in a slice, until the
    result gets worse. The history is the least that makes the window `window` bits. It is for a half, a
    quarter ... of them if the words that fill the window are more than a hundredth of the stream. If a stream
    is longer than SAMPLE, the trials use evenly spaced parts of it. Raises `TatamiError` for arrays of
    different shapes and `outputs`, `seed` or `window` out of range.
    """
    flat, mask = _flat(bits, care)
    if not 1 <= window <= MAX_WINDOW // 2:
        raise TatamiError(f"xor network: window is {window}, must be in 1..{MAX_WINDOW // 2}")
    XorNetwork(1, outputs, seed)  # refuses what is out of range before anything is tried
    whole = len(flat) / outputs
    if len(flat) > SAMPLE:
        part = max(1, SAMPLE // 8 // outputs)
        starts = np.linspace(0, len(flat) // outputs - part, 8).astype(np.int64) * outputs
        flat = np.concatenate([flat[s : s + part * outputs] for s in starts])
        mask = np.concatenate([mask[s : s + part * outputs] for s in starts])
    slices = -(-len(flat) // outputs)
    if slices == 0:
        return XorNetwork(1, outputs, seed)
    middle = min(outputs, max(1, round(np.count_nonzero(mask) / slices)))
    best, least = XorNetwork(outputs, outputs, seed), float("inf")
    while True:
        for step in (1, -1):
            inputs, worse = middle + min(step, 0), 0
            while 1 <= inputs <= outputs and worse < 2:
                history = 0 if inputs == outputs else -(-window // inputs) - 1
                network = XorNetwork(inputs, outputs, seed, history)
                stream = encode(flat, mask, network)
                cost = stream.words * inputs + stream.entries * stream.gap_bits
                if cost < least:
                    best, least, worse = network, cost, 0
                else:
                    worse += 1
                inputs += step
        if window <= best.inputs or best.history <= whole / 100:
            return best
        window //= 2


def encode_best(bits: Array, care: Array, outputs: int, seed: int = 1, window: int = WINDOW) -> XorStream:
    """Encodes with the network of `choose_network`. That network is chosen with a sample; it is then widened
    bit by bit, as long as the whole stream takes fewer bits.

    Arguments and errors are those of `choose_network`.
    """
    stream = encode(bits, care, choose_network(bits, care, outputs, seed, window))
    while stream.length > SAMPLE and stream.network.inputs < outputs:
        wider = encode(bits, care, _widened(stream.network))
        if len(wider.to_bytes()) >= len(stream.to_bytes()):
            break
        stream = wider
    return stream


def _widened(network: XorNetwork) -> XorNetwork:
    """One input more, and the least history for the same window or more."""
    inputs = network.inputs + 1
    return replace(
        network, inputs=inputs, history=0 if inputs == network.outputs else -(-network.window // inputs) - 1
    )


# Patches.


def _resolve(stream: XorStream, where: str) -> tuple[Array, Array]:
    """Positions of the patches, and for each entry the last bit that it passes: the bit that it flips, or the
    end of the bits that it skips.
    """
    need = -(-stream.entries * stream.gap_bits // 8)
    if stream.patches.size != need:
        raise TatamiError(
            f"{where}: patches are {stream.patches.size} bytes, must be {need} ({stream.entries} entries of"
            f" {stream.gap_bits} bits)"
        )
    bits = np.unpackbits(stream.patches, count=stream.entries * stream.gap_bits, bitorder="little").reshape(
        stream.entries, stream.gap_bits
    )
    fields = bits.astype(np.int64) @ (1 << np.arange(stream.gap_bits, dtype=np.int64))
    skip = (1 << stream.gap_bits) - 1
    flips = fields != skip
    ends = np.cumsum(fields + flips) - 1
    outside = ends >= stream.length
    if outside.any():
        entry = int(outside.argmax())
        raise TatamiError(
            f"{where}: patch entry {entry} reaches bit {ends[entry]}, must be in 0..{stream.length - 1}"
        )
    return ends[flips], ends


def _finish(network: XorNetwork, length: int, stored: Array, positions: Array) -> XorStream:
    gaps = np.diff(positions, prepend=-1) - 1
    # The width with which all entries take the fewest bits; of two equal ones, the narrower.
    counts = [len(gaps) + int((gaps // ((1 << w) - 1)).sum()) for w in range(1, MAX_GAP_BITS + 1)]
    gap_bits = min(range(1, MAX_GAP_BITS + 1), key=lambda w: counts[w - 1] * w)
    skip = (1 << gap_bits) - 1
    fields = np.full(counts[gap_bits - 1], skip, np.int64)
    fields[np.cumsum(gaps // skip + 1) - 1] = gaps % skip
    patches = np.packbits((fields[:, None] >> np.arange(gap_bits) & 1).astype(np.uint8), bitorder="little")
    return XorStream(network, length, gap_bits, len(fields), np.packbits(stored, bitorder="little"), patches)


def _words(slices: int, network: XorNetwork) -> int:
    return slices + network.history if slices else 0


def _flat(bits: Array, care: Array) -> tuple[Array, Array]:
    if bits.shape != care.shape:
        raise TatamiError(
            f"xor encode: bits have shape {bits.shape}, care has {care.shape}, must be the same"
        )
    return bits.reshape(-1).astype(np.uint8), care.reshape(-1).astype(np.uint8)


# Solving. A row of the system is a ring of bits: stored bit v is at place v mod (64 * words). The window
# moves with the slices. A row is reduced by its oldest bit first, so it never reaches outside the window of
# its slice.


def _solve(bits: Array, care: Array, network: XorNetwork) -> tuple[Array, Array]:
    """Stored bits uint8 [words * inputs] and the positions of the patches int64."""
    slices = -(-len(bits) // network.outputs)
    if network.wires:
        stored = np.zeros(_words(slices, network) * network.inputs, np.uint8)
        stored[: len(bits)] = bits & care
        return stored, np.zeros(0, np.int64)
    stored, patches, _ = _equations(bits, care, network, network.history, network.outputs)
    return stored.reshape(-1), patches


def solve_slices(
    bits: Array, care: Array, network: XorNetwork, most: int
) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    """As `encode`, for a decoder whose window is zero at first and that takes at most `most` patches for a
    slice.

    `bits` and `care` uint8 [slices, outputs]. Returns the words uint8 [encoded slices, inputs], the positions
    of the patches int64, and bool [slices]: the slices that would need more patches. Such a slice has no word
    and no patch, and does not enter the window.
    """
    return _equations(bits.reshape(-1), care.reshape(-1), network, 0, most)


def _equations(
    bits: Array, care: Array, network: XorNetwork, before: int, most: int
) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    """`before`: the number of words that are stored before the word of the first slice. Words of the window
    that are not stored are zero.
    """
    slices = -(-len(bits) // network.outputs)
    total = (slices + before) * network.inputs if slices else 0
    words = -(-(network.window + 63) // 64)
    rows = np.zeros((total, words), np.uint64)
    right = np.full(total, 2, np.uint8)
    patches = np.empty(int(np.count_nonzero(care)), np.int64)
    skipped = np.zeros(slices, np.bool_)
    found = _eliminate(
        bits, care, network.taps, network.inputs, network.history, before, most, rows, right, patches, skipped
    )
    stored = np.zeros(total, np.uint8)
    _back_substitute(rows, right, stored)
    encoded = (slices - np.count_nonzero(skipped) + before) * network.inputs if slices else 0
    return stored[:encoded].reshape(-1, network.inputs), patches[:found], skipped


_0, _1, _63 = np.uint64(0), np.uint64(1), np.uint64(63)
_DEBRUIJN = np.uint64(0x03F79D71B4CB0A89)
_S32, _S16, _S8, _S4, _S2, _S58 = (np.uint64(s) for s in (32, 16, 8, 4, 2, 58))
_PLACE = np.zeros(64, np.int64)
for _bit in range(64):
    _PLACE[(0x03F79D71B4CB0A89 << _bit & 0xFFFFFFFFFFFFFFFF) >> 58] = _bit


@hot
def _eliminate(
    bits: Array,
    care: Array,
    taps: Array,
    inputs: int,
    history: int,
    before: int,
    most: int,
    rows: Array,
    right: Array,
    patches: Array,
    skipped: Array,
) -> int:
    """Streams the equations through Gaussian elimination. Returns the number of patches. A slice with more
    than `most` patches is `skipped`.

    `rows` uint64 [V, words]: the equation whose oldest bit is v, in place v. `right` uint8 [V]: its right
    side, 2 for no equation.
    """
    words = rows.shape[1]
    ring = 64 * words
    found = 0
    row = np.zeros(words, np.uint64)
    outputs = taps.shape[0]
    pivots = np.empty(outputs, np.int64)
    newest = before  # the word of the slice
    for s in range(len(skipped)):
        first = max(0, newest - history) * inputs  # the oldest bit of the window
        start = first % ring
        settled = 0
        found_before = found
        for position in range(s * outputs, min((s + 1) * outputs, len(bits))):
            if not care[position]:
                continue
            for w in range(words):
                row[w] = _0
            for tap in taps[position - s * outputs]:
                word = newest - tap // inputs
                if word >= 0:
                    place = (word * inputs + tap % inputs) % ring
                    row[place >> 6] ^= _1 << np.uint64(place & 63)
            value = bits[position]
            w = start >> 6
            # the ring is long enough: a window that begins in the middle of a word does not reach that word
            # again
            left = words
            pivot = -1
            while left > 0:
                word_bits = row[w]
                if word_bits == _0:
                    w = w + 1 if w + 1 < words else 0
                    left -= 1
                    continue
                low = word_bits & (~word_bits + _1)
                place = (w << 6) + _PLACE[np.int64((low * _DEBRUIJN) >> _S58)]
                v = first + (place - start) if place >= start else first + (place - start) + ring
                if right[v] == 2:
                    pivot = v
                    break
                for i in range(words):
                    row[i] ^= rows[v, i]
                value ^= right[v]
            if pivot >= 0:
                for i in range(words):
                    rows[pivot, i] = row[i]
                right[pivot] = value
                pivots[settled] = pivot
                settled += 1
            elif value:
                if found - found_before == most:
                    skipped[s] = True
                    break
                patches[found] = position
                found += 1
        if skipped[s]:
            for i in range(settled):
                right[pivots[i]] = 2
            found = found_before
        else:
            newest += 1
    return found


@hot
def _back_substitute(rows: Array, right: Array, stored: Array) -> None:
    """Computes the stored bits from the newest to the oldest. A bit that no equation determines is 0."""
    words = rows.shape[1]
    ring = 64 * words
    known = np.zeros(words, np.uint64)
    for v in range(len(stored) - 1, -1, -1):
        place = v % ring
        w, bit = place >> 6, _1 << np.uint64(place & 63)
        known[w] &= ~bit
        if right[v] == 2:
            continue
        parity = _0
        for i in range(words):
            parity ^= rows[v, i] & known[i]
        parity ^= parity >> _S32
        parity ^= parity >> _S16
        parity ^= parity >> _S8
        parity ^= parity >> _S4
        parity ^= parity >> _S2
        parity ^= parity >> _1
        if (parity & _1) ^ np.uint64(right[v]):
            stored[v] = 1
            known[w] |= bit


@hot
def _expand(stored: Array, taps: Array, inputs: int, history: int, out: Array) -> None:
    """`out` uint8 [slices * outputs] from `stored` uint8 [words * inputs]."""
    outputs, count = taps.shape
    offset = np.empty((outputs, count), np.int64)  # from the oldest bit of the window
    for o in range(outputs):
        for t in range(count):
            offset[o, t] = taps[o, t] % inputs + (history - taps[o, t] // inputs) * inputs
    for s in range(len(out) // outputs):
        for o in range(outputs):
            bit = np.uint8(0)
            for t in range(count):
                bit ^= stored[s * inputs + offset[o, t]]
            out[s * outputs + o] = bit
