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
    """Where a tensor lies. Channel c is `phase**2` sub-planes of `words` words each, from word `base[c]` of
    bank `bank[c]`.

    A sub-plane has `rows` rows of `pitch` pixels. A word has T (`size`) pixels.
    """

    name: str
    shape: tuple[int, int, int]
    size: int
    phase: int
    rows: int
    pitch: int
    bank: tuple[int, ...]
    base: tuple[int, ...]

    @property
    def words(self) -> int:
        """Words of one sub-plane."""
        return ceil_div(self.rows * self.pitch, self.size)

    @property
    def channel_words(self) -> int:
        return self.phase**2 * self.words

    def pixel(self, y: int, x: int) -> int:
        """Pixel address of (y, x) from the start of its channel's plane."""
        p = self.phase
        return ((y % p) * p + x % p) * self.words * self.size + (y // p) * self.pitch + x // p

    def _addresses(self) -> npt.NDArray[np.int64]:
        _, height, width = self.shape
        return np.array([[self.pixel(y, x) for x in range(width)] for y in range(height)], dtype=np.int64)

    def to_words(self, tensor: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """int8 [..., C, H, W] -> words of each channel [..., C, channel_words, T]. Pixels that the map does
        not have are zero.
        """
        if tensor.shape[-3:] != self.shape:
            raise TatamiError(f"tensor '{self.name}': shape is {tensor.shape[-3:]}, must be {self.shape}")
        words = np.zeros((*tensor.shape[:-2], self.channel_words * self.size), dtype=np.int8)
        words[..., self._addresses()] = tensor
        return words.reshape(*tensor.shape[:-2], self.channel_words, self.size)

    def from_words(self, words: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """The inverse: words of each channel [..., C, channel_words, T] -> int8 [..., C, H, W]."""
        flat = words.reshape(*words.shape[:-2], self.channel_words * self.size)
        return flat[..., self._addresses()]

    def pixel_name(self, n: int) -> str:
        """Byte `n` of a channel's words, by its row and column."""
        found = np.argwhere(self._addresses() == n)
        if len(found):
            return f"pixel ({found[0][0]}, {found[0][1]})"
        return f"byte {n} of the plane, which is no pixel"

    def to_json(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    @staticmethod
    def from_json(fields: dict[str, Any]) -> Placement:
        c, h, w = fields["shape"]
        return Placement(
            name=fields["name"],
            shape=(c, h, w),
            size=fields["size"],
            phase=fields["phase"],
            rows=fields["rows"],
            pitch=fields["pitch"],
            bank=tuple(fields["bank"]),
            base=tuple(fields["base"]),
        )
