"""Torch modules whose weights are computed or shared, with plain weights, one for each layer."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from pymodel.machine.errors import TatamiError


def plain_module(module: Any, name: str, train: bool = False) -> nn.Module:
    """The module with plain weights, one for each layer. Returns the module itself if its weights are already
    plain, else a copy.

    Masks of torch.nn.utils.prune, weight and spectral norms and other parametrisations become the weights
    that they compute. If two layers share a weight, each gets its own, because the machine stores one for
    each. Half precision becomes float32. With `train`, double precision does too, and every weight can learn.
    Raises TatamiError, naming the parameter, for any other type.
    """
    if not isinstance(module, nn.Module):
        raise TatamiError(
            f"network '{name}': the module is a {type(module).__name__}, must be a torch.nn.Module"
        )
    kinds = (torch.float32,) if train else (torch.float32, torch.float64)
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers()]
    for path, tensor in tensors:
        if isinstance(tensor, nn.parameter.UninitializedTensorMixin):
            raise TatamiError(
                f"network '{name}': '{path}' has no shape yet (a lazy module): run it once first"
            )
        if tensor.is_complex() or tensor.is_meta or tensor.is_quantized:
            raise TatamiError(
                f"network '{name}': '{path}' is {tensor.dtype} on {tensor.device}, must hold real numbers"
            )
    tied = [path for path, _ in _repeated(module)]
    made = [
        path for path, part in module.named_modules() if parametrize.is_parametrized(part) or _computed(part)
    ]
    other = any(t.is_floating_point() and t.dtype not in kinds for _, t in tensors)
    learns = not train or all(p.requires_grad for p in module.parameters())
    if not (tied or made or other) and learns:
        return module
    try:
        plain = _copy(module)
        for part in list(plain.modules()):
            _resolve(part)
        for path, parameter in _repeated(plain):
            parent, _, last = path.rpartition(".")
            setattr(plain.get_submodule(parent), last, nn.Parameter(parameter.detach().clone()))
    except Exception as error:  # whatever a parametrisation of the user's own raises
        where = f"'{made[0] or 'the module'}'" if made else "the module"
        raise TatamiError(
            f"network '{name}': {where} cannot be made plain ({first_line(error)}); remove what computes its"
            " weights"
        ) from None
    plain = plain.float() if train or other else plain
    return plain.requires_grad_() if train else plain


def _repeated(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Parameters that another module already has under another path: all tied weights except the first."""
    first: dict[int, str] = {}
    found = []
    for prefix, part in module.named_modules():
        for last, parameter in part.named_parameters(recurse=False, remove_duplicate=False):
            path = f"{prefix}.{last}" if prefix else last
            if first.setdefault(id(parameter), path) != path:
                found.append((path, parameter))
    return found


def _computed(module: nn.Module) -> bool:
    """Whether hooks of torch compute one of its weights before every call."""
    return any(isinstance(hook, _HOOKS) for hook in module._forward_pre_hooks.values())


def _copy(module: nn.Module) -> nn.Module:
    """A deep copy. It also works if a weight was computed from others; torch refuses to copy such a
    weight.
    """
    computed = {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, torch.Tensor)
    }
    return copy.deepcopy(module, computed)


def _resolve(module: nn.Module) -> None:
    """Makes a module's computed weights plain, in place."""
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, hook._tensor_name)
        elif isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
    if parametrize.is_parametrized(module):
        for tensor in list(module.parametrizations):
            parametrize.remove_parametrizations(module, tensor, leave_parametrized=True)


_HOOKS = (prune.BasePruningMethod, WeightNorm, SpectralNorm)


def first_line(error: Exception) -> str:
    """What an exception says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
