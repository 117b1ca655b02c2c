"""What every test may ask for: the simulator, and an environment without the variables of `make`."""

from __future__ import annotations

import re
import shutil
import signal
import sys
from collections.abc import Iterator
from itertools import chain

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from scripts import (
    bench,
    bisect,
    bugs,
    close,
    command,
    compress,
    coverage,
    history,
    pages,
    rank,
    regress,
    replay,
    results,
    shrink,
    train,
)
from scripts import sim as sim_command
from scripts import worker as worker_command

VARIABLES = {command.GIVEN} | set(
    chain.from_iterable(
        given.main.variables()
        for given in (
            bench,
            bisect,
            bugs,
            close,
            compress,
            coverage,
            history,
            pages,
            rank,
            regress,
            replay,
            results,
            shrink,
            sim_command,
            train,
            worker_command,
        )
    )
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on Icarus are skipped, by name, where it cannot be installed."""
    if shutil.which("iverilog"):
        return
    for item in items:
        if item.get_closest_marker("icarus"):
            item.add_marker(pytest.mark.skip(reason="iverilog is not installed"))


class OneBuildOneProcess(LoadScopeScheduling):
    """Tests of one configuration on Verilator run in one process, so that no other waits for its build, and
    those of files whose tests look at the same run, site, training or farm, so that it is made once; all
    others run wherever there is time. The largest groups begin.
    """

    CONFIG = re.compile(r"test_rtl\.py::\w+\[verilator-(?:\d+-)?(\w+)\]$")
    FAILURE = re.compile(r"tests/flow/test_(?:divergence|pages)\.py")
    SHARED = re.compile(
        r"tests/(?:docs/test_site|flow/test_(?:batch|bugs|farm|places)|training/test_(?:groups|training))\.py"
    )

    def _split_scope(self, nodeid: str) -> str:
        if self.FAILURE.match(nodeid):
            return "one failure"
        shared, config = self.SHARED.match(nodeid), self.CONFIG.search(nodeid)
        if shared:
            return shared[0]
        return config[1] if config else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneBuildOneProcess:
    return OneBuildOneProcess(config, log)


@pytest.fixture(params=["verilator", pytest.param("icarus", marks=pytest.mark.icarus)])
def sim(request: pytest.FixtureRequest) -> str:
    """Each simulator."""
    return str(request.param)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> None:
    """A shell starts `make test &` deaf to ctrl-C, and the commands that tests call and interrupt would be,
    too.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def path_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's file has its folder in `sys.path`; simulators that later tests start would look there, too."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="session", autouse=True)
def no_variables_of_make() -> Iterator[None]:
    """`make test SEED=3` is not for the commands that tests call."""
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def modules_are_compiled_once() -> Iterator[None]:
    """Where PYTHONDONTWRITEBYTECODE is set, each of hundreds of simulators and commands would compile the
    project's modules again.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield
