"""Long work says how far it has come, to whoever shows it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from pymodel.machine.progress import shown_by, tracked


def test_every_item_counts_as_much_as_its_size() -> None:
    told: list[tuple[str, int, int]] = []
    with shown_by(lambda *now: told.append(now)):
        for letter in tracked("abc", "reading", [5, 0, 2]):
            assert len(told) == "abc".index(letter)  # an item is done when the next is asked for
    assert told == [("reading", 5, 7), ("reading", 5, 7), ("reading", 7, 7)]


def test_nobody_is_told_outside_and_the_one_before_again_behind() -> None:
    outer: list[int] = []
    inner: list[int] = []
    with shown_by(lambda _, done, whole: outer.append(done)):  # noqa: ARG005
        with shown_by(lambda _, done, whole: inner.append(done)):  # noqa: ARG005
            assert list(tracked("a", "reading", [1])) == ["a"]
        list(tracked("ab", "reading", [1, 1]))
        with ThreadPoolExecutor(1) as pool:  # what another thread tracks is its own affair
            pool.submit(lambda: list(tracked("a", "reading", [1]))).result()
    list(tracked("abc", "reading", [1, 1, 1]))
    assert inner == [1]
    assert outer == [1, 2]


def test_a_size_for_each_item() -> None:
    with pytest.raises(ValueError, match="longer"):
        list(tracked("a", "reading", [1, 1]))
