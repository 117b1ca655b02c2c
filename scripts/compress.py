"""Compress a trained network for the machine: prune, permute, pack, retrain, quantise: `make compress`. Ends
with one line `COMPRESS {json}`.

Writes a checkpoint, the image and a report into a folder. If a run was stopped, the same command continues
it. Exit status 2 for bad input, 3 for a ratio that the scheme cannot reach.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from pymodel.machine.config import get_config
from pymodel.machine.places import BUILD
from pymodel.machine.slot_rows import FORMATS
from pymodel.network.integer import Shape
from pymodel.network.model_file import SKIPPABLE
from pymodel.schemes import get_scheme
from pymodel.training.schedule import PRECISIONS, SALIENCIES, Budget
from scripts.command import (
    NUMBER,
    SHAPE,
    SWITCH,
    THERE,
    WRITTEN,
    Choice,
    Integer,
    command,
    need,
    option,
    variable,
)
from scripts.show import show_report, training_progress
from tb.flow import provenance

DEFAULT = Budget()
MAX_SEED = 2**31 - 1


@command("compress")
@variable(
    "NETWORK",
    default="digits",
    what="one of the project's, such as resnet20, model.tflite, .onnx or .pt2, or file.py:function",
)
@variable("SCHEME", default="tight_joint", what="the compression scheme")
@variable("RATIO", NUMBER, 8.0, "matrix compression: dense slots over packed slots")
@variable("WEIGHTS", THERE, what="state_dict to start from (digits: trained first, if not given)")
@variable("DATA", THERE, what="folder cifar-10-batches-py; for files of other tools also a .npz file")
@variable("SHAPE", SHAPE, what="of the input of a file of another tool that leaves it open")
@variable("SKIP", Choice(SKIPPABLE), what="an operator of a .onnx file to do without")
@variable("EPOCHS", NUMBER, DEFAULT.epochs, "of training, in all")
@variable("SEED", Integer(0, MAX_SEED), 1, "of training and planning, not of the start")
@variable("CONFIG", default="16x16", what="array, rows x group")
@variable("FORMAT", Choice(FORMATS), "plain", "how the slots are stored")
@variable("FRESH", SWITCH, False, "1 starts anew, even if a checkpoint or a start exists")
@option("--learning-rate", NUMBER, DEFAULT.learning_rate, "of the optimiser, at its largest")
@option("--batch", Integer(1, 2**20), DEFAULT.batch, "images a step")
@option("--replans", Integer(1, 10_000), DEFAULT.replans, "plans on the way to the ratio")
@option("--saliency", Choice(SALIENCIES), DEFAULT.saliency, "what a weight is worth")
@option("--precision", Choice(PRECISIONS), DEFAULT.precision, "of the products in training")
@option("--distillation", NUMBER, DEFAULT.distillation, "part of the loss against the start network")
@option("--threads", Integer(1, 1024), what="of torch (default: as many as cores)")
@click.option(
    "--compile",
    "compiled",
    is_flag=True,
    help="train by torch.compile: faster from minutes of training on; needs Python's headers",
)
@option("--start", WRITTEN, what="file of the measurements before compression; written if it does not exist")
@option("--out", WRITTEN, what="folder to write (default: build/compress/NETWORK-SCHEME-RATIO)")
def main(
    network: str,
    scheme: str,
    ratio: float,
    weights: Path | None,
    data: Path | None,
    shape: Shape | None,
    skip: str | None,
    epochs: float,
    seed: int,
    config: str,
    format: str,
    fresh: bool,
    learning_rate: float,
    batch: int,
    replans: int,
    saliency: str,
    precision: str,
    distillation: float,
    threads: int | None,
    compiled: bool,
    start: Path | None,
    out: Path | None,
) -> int:
    chosen, array = get_scheme(scheme), get_config(config)
    budget = Budget(
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        replans=replans,
        saliency=saliency,
        precision=precision,
        distillation=distillation,
    )
    need("torch", "sklearn", "matplotlib")
    import torch

    from pymodel.training.compress import Recipe, compress
    from pymodel.training.file_task import task_of
    from pymodel.training.start import known_start

    torch.set_num_threads(threads or torch.get_num_threads())
    recipe = Recipe(chosen, ratio, array, budget, seed, xor=format == "xor", compiled=compiled)
    task = task_of(network, weights, data, shape, skip)
    out = out or BUILD / "compress" / f"{task.name}-{scheme}-{ratio:g}"
    before = known_start(start, task, array, fresh, print)
    with training_progress(f"{network} {scheme} {ratio:g}x") as progress:
        found = compress(task, recipe, out, before, progress, fresh)
    tools = {**provenance.tool_versions(), "torch": torch.__version__}
    found = found.made_with(provenance.git_revision(), tools)
    found.save(out / "report.json")
    show_report(found)
    print(f"written: {out}")
    print("COMPRESS", json.dumps(found.without_layers().to_json()))
    return 0


if __name__ == "__main__":
    main.run()
