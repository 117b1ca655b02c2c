"""The activations that torch has, as modules, functions and methods."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from pymodel.network.activations import (
    GELU,
    GELU_TANH,
    HARD_SIGMOID,
    HARD_SWISH,
    MISH,
    RELU,
    SIGMOID,
    SILU,
    TANH,
    Activation,
    Clamp,
    elu,
    leaky_relu,
    softplus,
)

# Activations, by module and by function or method with the names of its arguments.
MODULES: dict[type, Callable[[Any], Activation]] = {
    nn.ReLU: lambda _: RELU,
    nn.Hardtanh: lambda m: Clamp(float(m.min_val), float(m.max_val)),  # ReLU6 is one
    nn.LeakyReLU: lambda m: leaky_relu(m.negative_slope),
    nn.ELU: lambda m: elu(m.alpha),
    nn.Sigmoid: lambda _: SIGMOID,
    nn.Tanh: lambda _: TANH,
    nn.Hardsigmoid: lambda _: HARD_SIGMOID,
    nn.Hardswish: lambda _: HARD_SWISH,
    nn.SiLU: lambda _: SILU,
    nn.GELU: lambda m: GELU if m.approximate == "none" else GELU_TANH,
    nn.Softplus: lambda m: softplus(m.beta),
    nn.Mish: lambda _: MISH,
}


def _clamp(min: Any = None, max: Any = None) -> Clamp:
    return Clamp(-math.inf if min is None else float(min), math.inf if max is None else float(max))


def _gelu(approximate: str = "none") -> Activation:
    return GELU if approximate == "none" else GELU_TANH


_ACTIVATIONS: tuple[tuple[tuple[str, ...], tuple[str, ...], Callable[..., Activation]], ...] = (
    (("relu", "relu_"), (), lambda: RELU),
    (("relu6",), (), lambda: Clamp(0.0, 6.0)),
    (
        ("hardtanh", "hardtanh_"),
        ("min_val", "max_val"),
        lambda min_val=-1, max_val=1: _clamp(min_val, max_val),
    ),
    (("clamp", "clamp_", "clip", "clip_"), ("min", "max"), _clamp),
    (("clamp_min",), ("min",), _clamp),
    (("clamp_max",), ("max",), lambda max: _clamp(None, max)),
    (
        ("leaky_relu", "leaky_relu_"),
        ("negative_slope",),
        lambda negative_slope=0.01: leaky_relu(negative_slope),
    ),
    (("elu", "elu_"), ("alpha",), elu),
    (("sigmoid", "sigmoid_"), (), lambda: SIGMOID),
    (("tanh", "tanh_"), (), lambda: TANH),
    (("hardsigmoid",), (), lambda: HARD_SIGMOID),
    (("hardswish",), (), lambda: HARD_SWISH),
    (("silu",), (), lambda: SILU),
    (("gelu",), ("approximate",), _gelu),
    (("softplus",), ("beta", "threshold"), lambda beta=1.0, threshold=20: softplus(beta)),  # noqa: ARG005
    (("mish",), (), lambda: MISH),
)
FUNCTIONS: dict[Any, tuple[tuple[str, ...], Callable[..., Activation]]] = {
    function: (arguments, make)
    for names, arguments, make in _ACTIVATIONS
    for name in names
    for function in (name, *(getattr(room, name) for room in (torch, functional) if hasattr(room, name)))
}
