"""How far long work has come: whoever does it says so with `tracked`, a command shows it with `shown_by`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")
Listener = Callable[[str, int, int], None]  # what is being done, how much of it is done, and how much it is

# of this thread: work that others do for it is tracked where their results are collected
_listener: ContextVar[Listener | None] = ContextVar("_listener", default=None)


@contextmanager
def shown_by(listener: Listener) -> Iterator[None]:
    """What is tracked inside is told to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tracked(items: Iterable[Item], what: str, sizes: Sequence[int]) -> Iterator[Item]:
    """The items. Each counts as much as its size when the next is asked for."""
    done, whole = 0, sum(sizes)
    for item, size in zip(items, sizes, strict=True):
        yield item
        done += size
        if listener := _listener.get():
            listener(what, done, whole)
