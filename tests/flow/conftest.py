"""What tests of several files look at."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.flow.flipped import Flipped, make_sim


@pytest.fixture(scope="session")
def flipped() -> Iterator[Callable[[str], Flipped]]:
    """The run of flipped.py on a simulator: once for all tests that look at it."""
    made: dict[str, Flipped] = {}

    def on(sim: str) -> Flipped:
        if sim not in made:
            made[sim] = make_sim(sim)
        return made[sim]

    yield on
    for one in made.values():
        shutil.rmtree(one.failed.folder)
