"""What the values of a tensor of 8 bits stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError
from pymodel.network.activations import Clamp
from pymodel.network.integer import HIGHEST, LOWEST

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """Value q is the real number `step * (q - zero)`."""

    step: float
    zero: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.step) and self.step > 0):
            raise TatamiError(f"scale is {self.step}, must be a positive number")
        if not LOWEST <= self.zero <= HIGHEST:
            raise TatamiError(f"zero point is {self.zero}, must be in {LOWEST}..{HIGHEST}")

    def value(self, real: float) -> int:
        """The value nearest to a real number, saturated."""
        return int(np.clip(np.rint(real / self.step) + self.zero, LOWEST, HIGHEST))

    def values(self, real: npt.NDArray[np.floating]) -> npt.NDArray[np.int8]:
        """As `value`, for an array of any shape."""
        steps: FloatArray = np.rint(np.asarray(real, np.float64) / self.step) + self.zero
        return steps.clip(LOWEST, HIGHEST).astype(np.int8)

    def real(self, values: npt.NDArray[np.integer]) -> FloatArray:
        return self.step * (values.astype(np.float64) - self.zero)


def limits(clamp: Clamp, scale: Scale) -> tuple[int, int]:
    """The bounds of an activation as values of a tensor of this scale."""
    low = LOWEST if math.isinf(clamp.low) else scale.value(clamp.low)
    high = HIGHEST if math.isinf(clamp.high) else scale.value(clamp.high)
    return low, high
