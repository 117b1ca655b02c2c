"""The identity of a checkpoint or a measurement: digests of everything that it depends on, not names.

A user's network may keep its name while its weights, its images or its code change. So before a run is
continued, everything is compared by content: weights, layers, images with labels and with the result of
`prepare`, and the project's own code.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pymodel.network.float import FloatWeighted
from pymodel.network.from_torch import import_torch
from pymodel.training.tasks import Task

ROOT = Path(__file__).resolve().parents[1]
PREPARED = 16  # images of each set that `prepare` is asked for
SEED = 0  # of the distortions that are compared

# The code that a training depends on, and the code that the measurements before it depend on: folders and
# files below pymodel.
TRAINING = (
    "machine/config.py",
    "packing",
    "network",
    "compiler/layout.py",
    "compiler/lower.py",
    "compiler/planes.py",
    "compiler/planning.py",
    "schemes",
    "training/decomposed.py",
    "training/loop.py",
    "training/penni.py",
    "training/schedule.py",
    "training/subword.py",
    "training/trainer.py",
)
MEASURING = (
    "machine",
    "packing",
    "network",
    "compiler",
    "cost",
    "training/integers.py",
    "training/start.py",
    "training/trainer.py",
)


def identity(task: Task, code: tuple[str, ...]) -> dict[str, str]:
    """Name, and digests of weights, layers, images and code, with the names that messages use."""
    return {
        "network": task.name,
        "digest of the start weights": _weights(task),
        "digest of the layers": _layers(task),
        "digest of the images": _images(task),
        "digest of the code": code_digest(code),
        "torch": str(torch.__version__),
    }


@cache
def code_digest(parts: tuple[str, ...], root: Path = ROOT) -> str:
    """Digest of the code without its comments, docstrings and layout, and of the tables beside it."""
    files: list[Path] = []
    for part in parts:
        path = root / part
        files += sorted([*path.rglob("*.py"), *path.rglob("*.yaml")]) if path.is_dir() else [path]
    texts = []
    for path in files:
        content = path.read_bytes()
        texts.append(str(path.relative_to(root)).encode())
        texts.append(_meaning(content) if path.suffix == ".py" else content)
    return _digest(texts)


def _meaning(source: bytes) -> bytes:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) or not node.body:
            continue
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body = node.body[1:]
    return ast.dump(tree).encode()


def _weights(task: Task) -> str:
    """Digest of the weights, and of the scales if there are any."""
    parts: list[bytes] = []
    for name, tensor in task.module.state_dict().items():
        parts += [name.encode(), *_tensor(tensor)]
    for name, scale in sorted(task.scales.items()):
        parts.append(f"{name} {scale.step} {scale.zero}".encode())
    return _digest(parts)


def _layers(task: Task) -> str:
    """Digest of what a state_dict does not contain: order, strides, paddings, activations, residuals; and of
    the layers in `keep`.
    """
    network = import_torch(task.module, task.input_shape, task.name).network
    said = [task.input_shape, sorted(task.keep), [_said(layer) for layer in network.layers]]
    return _digest([repr(said).encode()])


def _said(value: Any) -> Any:
    """A layer, or a field of one, without the weights that come from a state_dict."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if not is_dataclass(value):
        return value
    names = [field.name for field in fields(value) if field.compare]
    if isinstance(value, FloatWeighted):
        names = [name for name in names if name not in ("weight", "bias")]
    return type(value).__name__, [(name, _said(getattr(value, name))) for name in names]


def _images(task: Task) -> str:
    """Digest of both sets, and of a few images as the module takes them, distorted if the distortion can be
    repeated.
    """
    tensors = [task.train_images, task.train_labels, task.test_images, task.test_labels]
    for images in (task.train_images[:PREPARED], task.test_images[:PREPARED]):
        tensors.append(task.prepare(images, None))
    first, again = (
        task.prepare(task.train_images[:PREPARED], torch.Generator().manual_seed(SEED)) for _ in range(2)
    )
    if torch.equal(first, again):
        tensors.append(first)
    return _digest(part for tensor in tensors for part in _tensor(tensor))


def _tensor(tensor: torch.Tensor) -> list[bytes]:
    array = np.ascontiguousarray(tensor.detach().cpu().numpy())
    return [f"{array.dtype} {array.shape}".encode(), array.tobytes()]


def _digest(parts: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()[:16]
