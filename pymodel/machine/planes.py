"""How a feature map lies in the feature banks: phases, pitch and words (docs/formats.md, "Planes")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


@dataclass(frozen=True)
class Placement:
    """Where a tensor lies. Channel c is `phase[0] * phase[1]` sub-planes of `words` words each, from word
    `base[c]` of bank `bank[c]`.

    Sub-plane (p, q) has every `phase[0]`-th row from row p on, and of it every `phase[1]`-th pixel from
    column q on. A sub-plane has `rows` rows of `pitch` pixels. A word has T (`size`) pixels.
    """

    name: str
    shape: tuple[int, int, int]
    size: int
    phase: tuple[int, int]
    rows: int
    pitch: int
    bank: tuple[int, ...]
    base: tuple[int, ...]

    @property
    def words(self) -> int:
        """Words of one sub-plane."""
        return ceil_div(self.rows * self.pitch, self.size)

    @property
    def phases(self) -> int:
        """Sub-planes of a channel."""
        return self.phase[0] * self.phase[1]

    @property
    def channel_words(self) -> int:
        return self.phases * self.words

    def occupied(self) -> set[tuple[int, int]]:
        """The words that it takes, each with its bank in front."""
        return {
            (bank, base + word)
            for bank, base in zip(self.bank, self.base, strict=True)
            for word in range(self.channel_words)
        }

    def addresses(self) -> npt.NDArray[np.int64]:
        """Of each pixel [H, W], from the start of its channel's plane."""
        down, across = self.phase
        y, x = np.ogrid[: self.shape[1], : self.shape[2]]
        sub_plane = (y % down) * across + x % across
        address: npt.NDArray[np.int64] = (
            sub_plane * self.words * self.size + (y // down) * self.pitch + x // across
        )
        return address

    def to_words(self, tensor: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """int8 [..., C, H, W] -> words of each channel [..., C, channel_words, T]. Pixels that the map does
        not have are zero.
        """
        if tensor.shape[-3:] != self.shape:
            raise TatamiError(f"tensor '{self.name}': shape is {tensor.shape[-3:]}, must be {self.shape}")
        words = np.zeros((*tensor.shape[:-2], self.channel_words * self.size), dtype=np.int8)
        words[..., self.addresses()] = tensor
        return words.reshape(*tensor.shape[:-2], self.channel_words, self.size)

    def from_words(self, words: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """The inverse: words of each channel [..., C, channel_words, T] -> int8 [..., C, H, W]."""
        flat = words.reshape(*words.shape[:-2], self.channel_words * self.size)
        return flat[..., self.addresses()]

    def pixel_name(self, n: int) -> str:
        """Byte `n` of a channel's words, by its row and column."""
        found = np.argwhere(self.addresses() == n)
        if len(found):
            return f"pixel ({found[0][0]}, {found[0][1]})"
        return f"byte {n} of the plane, which is no pixel"

    def to_json(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    @staticmethod
    def from_json(fields: dict[str, Any]) -> Placement:
        c, h, w = fields["shape"]
        down, across = fields["phase"]
        return Placement(
            name=fields["name"],
            shape=(c, h, w),
            size=fields["size"],
            phase=(down, across),
            rows=fields["rows"],
            pitch=fields["pitch"],
            bank=tuple(fields["bank"]),
            base=tuple(fields["base"]),
        )
