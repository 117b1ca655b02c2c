"""What a name may be: of a network, a layer, a scheme.

Names come in from users' files and end up in the names of folders and in records, so they are checked where
they come in.
"""

from __future__ import annotations

import re

from pymodel.machine.errors import TatamiError

LONGEST = 200
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def check_name(what: str, name: object) -> str:
    """`name`, if it is one: letters, digits, '-', '_' and '.', the first a letter, a digit or '_', no '..',
    at most `LONGEST` long.

    Raises `TatamiError`, beginning with `what`, for anything else.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name) or ".." in name or len(name) > LONGEST:
        raise TatamiError(
            f"{what} is {repr(name)[:LONGEST]}, must be 1 to {LONGEST} letters, digits, '-', '_' and '.',"
            " without '..' and not beginning with '-' or '.'"
        )
    return name
