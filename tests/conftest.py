"""What every test may ask for: the simulator, and an environment without the variables of `make`."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from itertools import chain

import pytest

from scripts import bench, bugs, command, compress, coverage, regress, replay, results, train
from scripts import sim as sim_command

VARIABLES = {command.GIVEN} | set(
    chain.from_iterable(
        given.main.variables()
        for given in (bench, bugs, compress, coverage, regress, replay, results, sim_command, train)
    )
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on Icarus are skipped, by name, where it cannot be installed. Those of one Verilator build are a
    group, so that no process of `make test` waits for the build of another.
    """
    installed = shutil.which("iverilog")
    for item in items:
        if item.get_closest_marker("icarus") and not installed:
            item.add_marker(pytest.mark.skip(reason="iverilog is not installed"))
        given = item.callspec.params if hasattr(item, "callspec") else {}
        if given.get("sim") == "verilator" and "config" in given:
            item.add_marker(pytest.mark.xdist_group(f"verilator-{given['config']}"))


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


@pytest.fixture(scope="session", autouse=True)
def no_variables_of_make() -> Iterator[None]:
    """`make test SEED=3` is not for the commands that tests call."""
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        yield
