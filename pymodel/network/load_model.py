"""Reads a file of a trained network, whatever its kind."""

from __future__ import annotations

from pathlib import Path

from pymodel.machine.errors import TatamiError
from pymodel.network.integer import Shape
from pymodel.network.model_file import FloatFile, ModelFile, legal_name

GROUPS = {
    ".tflite": "tflite",
    ".onnx": "onnx",
    ".pt2": "train",
}  # of packages in pyproject.toml, by what a file's name ends in


def load_model(path: Path, shape: Shape | None = None, skip: str | None = None) -> ModelFile | FloatFile:
    """The network of a .tflite, .onnx or .pt2 file, named as the file is. `shape` (channels, rows, columns)
    is that of its input, for a file that leaves it open. `skip`: an operator of a .onnx file whose results
    are taken to be its inputs. Raises `TatamiError`, one line, for a file of another kind,
    for a package that is not installed, and as the readers do.
    """
    if path.suffix not in GROUPS:
        raise TatamiError(f"{path}: must end in {' or '.join(GROUPS)}")
    if not path.is_file():
        raise TatamiError(f"{path}: no such file")
    if skip and path.suffix != ".onnx":
        raise TatamiError(f"{path}: SKIP is only for .onnx files")
    name = legal_name(path.stem, "network")
    try:
        if path.suffix == ".tflite":
            from pymodel.network.from_tflite import from_tflite

            return from_tflite(path, name, shape)
        if path.suffix == ".pt2":
            from pymodel.network.from_export import from_export

            return from_export(path, name, shape)
        from pymodel.network.from_onnx import from_onnx

        return from_onnx(path, name, shape, skip)
    except ModuleNotFoundError as error:
        raise TatamiError(
            f"{path}: needs the package '{error.name}'; `make .venv/.{GROUPS[path.suffix]}` installs it"
        ) from None
