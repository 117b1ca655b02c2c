"""Reads and drives signals as the simulator has them: as text, the highest bit first, each 0, 1, X or Z.

`handle.value` makes objects of that, which takes five times as long. It is too slow for what happens in every
cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from cocotb.handle import _GPISetAction, _schedule_write

ONE, ZERO = "1", "0"


def bits(handle: Any) -> Callable[[], str]:
    """The function that reads a signal."""
    reads: Callable[[], str] = handle._handle.get_signal_val_binstr
    return reads


def drives(handle: Any) -> Callable[[str], None]:
    """The function that drives a signal, with as many bits as it has."""
    return partial(_schedule_write, handle, handle._handle.set_signal_val_binstr, _GPISetAction.DEPOSIT)


def known(word: str) -> bool:
    """Whether no bit is X or Z."""
    return not word.strip("01")


def joined(words: Sequence[str]) -> bytes:
    """The bytes of words in which every bit is known: the first word, and of each word the lowest bits,
    first.
    """
    return int("".join(reversed(words)), 2).to_bytes(sum(map(len, words)) // 8, "little")
