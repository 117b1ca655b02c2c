"""What is done to the sums of a float layer: a clamp, which the machine has for nothing, or a curve, which
becomes a table of 256 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Clamp:
    """`min(max(x, low), high)`, in real units."""

    low: float = -math.inf
    high: float = math.inf

    def __call__(self, values: FloatArray) -> FloatArray:
        return values.clip(self.low, self.high)

    def then(self, other: Clamp) -> Clamp:
        """This clamp and the other behind it, as one."""
        low, high = (min(max(limit, other.low), other.high) for limit in (self.low, self.high))
        return Clamp(low, high)


@dataclass(frozen=True)
class Curve:
    """Any function of one number. `name` says which, its parameters included: curves of one name are equal.
    Beyond `reach`, to either side, it stays within half a step of a pixel.
    """

    name: str
    function: Callable[[FloatArray], FloatArray] = field(compare=False)
    reach: float = math.inf

    def __call__(self, values: FloatArray) -> FloatArray:
        return self.function(values)


Activation = Clamp | Curve

RELU = Clamp(low=0.0)


def apply(activation: Activation | None, values: FloatArray) -> FloatArray:
    """The values behind the activation, if there is one; any shape."""
    return values if activation is None else activation(values)


def leaky_relu(slope: float) -> Curve:
    """x, below zero `slope` times x."""
    return Curve(f"leaky_relu({slope:g})", lambda x: np.where(x < 0, slope * x, x))


def elu(alpha: float = 1.0) -> Curve:
    """x, below zero alpha (e^x - 1)."""
    return Curve(f"elu({alpha:g})", lambda x: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x))


def softplus(beta: float = 1.0) -> Curve:
    """log(1 + e^(beta x)) / beta."""
    return Curve(f"softplus({beta:g})", lambda x: np.logaddexp(0, beta * x) / beta)


def _sigmoid(x: FloatArray) -> FloatArray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _hard_sigmoid(x: FloatArray) -> FloatArray:
    return (x / 6 + 0.5).clip(0, 1)


def _gelu(x: FloatArray) -> FloatArray:
    erf: FloatArray = np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2))
    return 0.5 * x * (1 + erf)


SIGMOID = Curve("sigmoid", _sigmoid, reach=6.0)
TANH = Curve("tanh", np.tanh, reach=3.5)
HARD_SIGMOID = Curve("hard_sigmoid", _hard_sigmoid, reach=3.0)
HARD_SWISH = Curve("hard_swish", lambda x: x * _hard_sigmoid(x))
SILU = Curve("silu", lambda x: x * _sigmoid(x))
GELU = Curve("gelu", _gelu)
GELU_TANH = Curve(
    "gelu_tanh", lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
)
MISH = Curve("mish", lambda x: x * np.tanh(np.logaddexp(0, x)))
