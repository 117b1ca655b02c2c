"""tatami.core: FuseSoC lints, simulates and synthesises the machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cocotb_tools.config
import find_libpython
import pytest
import yaml

from pymodel.machine.config import CONFIGS
from pymodel.machine.places import ROOT
from tb.common import settings
from tb.flow.simulators import verilator_env, verilator_root
from tb.flow.sources import FILE_LIST, headers, rtl_sources

CORE = ROOT / "tatami.core"


@pytest.fixture(scope="module")
def core() -> dict[str, Any]:
    loaded = yaml.safe_load(CORE.read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_it_has_the_files_of_the_list(core: dict[str, Any]) -> None:
    files = core["filesets"]["rtl"]["files"]
    included = [{str(path.relative_to(ROOT)): {"is_include_file": True}} for path in headers([FILE_LIST])]
    assert files == included + [str(path.relative_to(ROOT)) for path in rtl_sources()]


def test_its_simulation_is_of_the_configuration_that_the_bench_assumes(core: dict[str, Any]) -> None:
    text = (ROOT / "rtl" / "psa_top.v").read_text()
    found = {name: int(value) for name, value in re.findall(r"parameter (\w+) += (\d+)", text)}
    for one in core["targets"]["sim"]["parameters"]:
        name, _, value = one.partition("=")
        assert name in core["parameters"]
        found[name] = int(value)
    assert found == CONFIGS[settings.ELSEWHERE].rtl_parameters()


def run(target: str, folder: Path) -> str:
    """What FuseSoC says to one target, which must succeed."""
    users = [find_libpython.find_libpython(), cocotb_tools.config.pygpi_entry_point()]
    env = os.environ | {name: value for name, value in verilator_env().items() if value is not None}
    env |= {"PYTHONPATH": str(ROOT), "GPI_USERS": ";".join(map(str, users)), "COCOTB_RANDOM_SEED": "1"}
    env["PATH"] = os.pathsep.join(
        [str(verilator_root() / "bin"), str(Path(sys.executable).parent), env["PATH"]]
    )
    env.pop(settings.VARIABLE, None)
    call = [sys.executable, "-m", "fusesoc.main", f"--cores-root={ROOT}", "run", f"--build-root={folder}"]
    done = subprocess.run(
        [*call, f"--target={target}", "tatami"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


def test_lint(tmp_path: Path) -> None:
    assert "Warning" not in run("lint", tmp_path)


def test_sim(tmp_path: Path) -> None:
    assert "TESTS=1 PASS=1 FAIL=0" in run("sim", tmp_path)
    (result,) = tmp_path.rglob("result.json")
    assert '"mismatches": 0' in result.read_text()


def has_tcl(yosys: str) -> bool:
    call = [yosys, "-p", "help tcl"]
    return "tcl <filename>" in subprocess.run(call, capture_output=True, text=True, check=False).stdout


@pytest.mark.slow
def test_synth(tmp_path: Path) -> None:
    yosys = shutil.which("yosys")
    if yosys is None or not has_tcl(yosys):
        pytest.skip("no yosys with Tcl on the PATH, which FuseSoC calls")
    said = run("synth", tmp_path)
    assert "Found and reported 0 problems" in said
    assert "DP16KD" in said
