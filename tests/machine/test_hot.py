"""Hot loops: numba is read when one of them runs, and not before."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pymodel.machine import hot as module
from pymodel.machine.hot import hot
from pymodel.machine.places import ROOT


def test_a_simulation_that_packs_nothing_reads_no_numba() -> None:
    """Neither what it imports, nor the compiler on a network whose weights have a slot each."""
    code = (
        "import sys, numpy, cocotb, tb.psa_top.test_random, tb.psa_top.test_errors\n"
        "from pymodel.machine.config import CONFIGS\n"
        "from pymodel.zoo.knobs import Knobs\n"
        "Knobs.of('').program(numpy.random.default_rng(0), CONFIGS['8x4'])\n"
        "assert 'numba' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def _outer(value: int) -> int:
    return _inner(value) + 1


def _inner(value: int) -> int:
    return value * 2


def test_threads_that_begin_at_once_get_the_compiled_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a module are compiled by the first call, because they call each other."""
    monkeypatch.setattr(module, "_waiting", module.defaultdict(list))
    first = hot(_outer)
    monkeypatch.setitem(globals(), "_outer", first)
    monkeypatch.setitem(globals(), "_inner", hot(_inner))
    begin = threading.Barrier(4)

    def call(value: int) -> int:
        begin.wait()
        return first(value)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(call, range(4))) == [1, 3, 5, 7]
    assert type(globals()["_outer"]).__name__ == type(globals()["_inner"]).__name__ == "CPUDispatcher"
