"""`hot`: loops that numba compiles, without numba until one of them runs. Most simulations run none, and are
short: they need not read numba.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

_waiting: dict[str, list[Callable[..., Any]]] = defaultdict(list)  # by module
_reading = threading.RLock()


def hot(function: Function) -> Function:
    """`numba.njit(cache=True, nogil=True)`, done at the first call of any hot function of the module."""
    _waiting[function.__module__].append(function)

    @wraps(function)
    def first(*values: Any) -> Any:
        with _reading:  # schemes call them from several threads
            _compile(function)
        return function.__globals__[function.__name__](*values)

    return first  # type: ignore[return-value]


def _compile(function: Callable[..., Any]) -> None:
    """Puts numba's functions in the place of all hot ones of a module: they call each other by name."""
    from numba import njit

    for one in _waiting.pop(function.__module__, ()):
        one.__globals__[one.__name__] = njit(cache=True, nogil=True)(one)
