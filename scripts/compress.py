"""Compress a trained network for the machine: prune, permute, pack, retrain, quantise. Ends with one line
`COMPRESS {json}`.

Writes a checkpoint, the image and a report into a folder; the same command again takes up a run that was
broken off. Exit status 2 for bad input.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from pymodel.machine.config import CONFIGS, get_config
from pymodel.machine.errors import RATIO_STATUS, RatioError, TatamiError
from pymodel.machine.places import BUILD
from pymodel.machine.slot_rows import FORMATS
from scripts.command import said


def main(arguments: list[str]) -> int:
    # Torch is an extra of pyproject.toml: what needs it is imported when it is known to be there.
    try:
        import torch

        from pymodel.schemes import SCHEMES, get_scheme
        from pymodel.training import compress, schedule, tasks
    except ModuleNotFoundError as error:
        raise TatamiError(f"this needs the package '{error.name}'; `make .venv/.train` installs it") from None
    from scripts.show import compressed_table, training_progress
    from tb.flow import provenance

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = schedule.Budget()
    parser.add_argument("network", help=f"one of: {', '.join(tasks.TASKS)}; or file.py:function")
    parser.add_argument("--scheme", required=True, help=f"one of: {', '.join(SCHEMES)}")
    parser.add_argument(
        "--ratio", type=float, required=True, help="matrix compression: dense slots over packed slots"
    )
    parser.add_argument(
        "--weights", type=Path, help="state_dict to start from (digits: trained first, if not given)"
    )
    parser.add_argument("--data", type=Path, help="folder cifar-10-batches-py, or the one that holds it")
    parser.add_argument(
        "--config", default="16x16", help=f"array, rows x group: one of {', '.join(CONFIGS)} (default 16x16)"
    )
    parser.add_argument(
        "--epochs",
        type=float,
        default=default.epochs,
        help=f"of training, in all (default {default.epochs:g})",
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=default.learning_rate,
        help=f"default {default.learning_rate:g}",
    )
    parser.add_argument(
        "--batch", type=int, default=default.batch, help=f"images a step (default {default.batch})"
    )
    parser.add_argument(
        "--replans",
        type=int,
        default=default.replans,
        help=f"plans on the way to the ratio (default {default.replans})",
    )
    parser.add_argument(
        "--saliency",
        default=default.saliency,
        help=f"one of: {', '.join(schedule.SALIENCIES)} (default {default.saliency})",
    )
    parser.add_argument(
        "--precision",
        default=default.precision,
        help=f"{' or '.join(schedule.PRECISIONS)} (default {default.precision})",
    )
    parser.add_argument(
        "--format", default="plain", choices=FORMATS, help="how the slots are stored (default plain)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="of training and planning, not of the start (default 1)"
    )
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="of torch (default: as many as cores)"
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="train by torch.compile: faster from minutes of training on; needs Python's headers",
    )
    parser.add_argument(
        "--start",
        type=Path,
        help="file with what was measured before compression; written if it is not there",
    )
    parser.add_argument(
        "--out", type=Path, help="folder to write (default build/compress/NETWORK-SCHEME-RATIO)"
    )
    given = parser.parse_args(arguments)

    if not 0 <= given.seed < 2**31:
        raise TatamiError(f"--seed is {given.seed}, must be in 0..{2**31 - 1}")
    if not 1 <= given.threads <= 1024:
        raise TatamiError(f"--threads is {given.threads}, must be in 1..1024")
    torch.set_num_threads(given.threads)
    scheme, config = get_scheme(given.scheme), get_config(given.config)
    budget = schedule.Budget(
        **{
            field.name: getattr(given, field.name)
            for field in dataclasses.fields(default)
            if hasattr(given, field.name)
        }
    )
    task = tasks.get_task(given.network, given.weights, given.data)
    out = given.out or BUILD / "compress" / f"{task.name}-{given.scheme}-{given.ratio:g}"
    if given.start and given.start.exists():
        start = compress.Start.load(given.start, task, config)
    else:
        print("measuring the network as it is")
        start = compress.measure_start(task, config)
        if given.start:
            start.save(given.start)
    with training_progress(f"{given.network} {given.scheme} {given.ratio:g}x") as report:
        options = {"xor": given.format == "xor", "compiled": given.compile}
        found = compress.compress(
            task, scheme, given.ratio, config, budget, given.seed, out, start, report=report, **options
        )
    found |= {
        "revision": provenance.git_revision(),
        "tools": {**provenance.tool_versions(), "torch": torch.__version__},
    }
    (out / "report.json").write_text(json.dumps(found, indent=1) + "\n")
    compressed_table(found)
    print(f"written: {out}")
    print("COMPRESS", json.dumps({key: value for key, value in found.items() if key != "layers"}))
    return 0


def run() -> int:
    """The command; a ratio that no plan reaches has an exit status of its own, which `make results` reads."""
    try:
        return main(sys.argv[1:])
    except RatioError as error:
        print(f"compress: {error}", file=sys.stderr)
        return RATIO_STATUS


if __name__ == "__main__":
    sys.exit(said("compress", run))
