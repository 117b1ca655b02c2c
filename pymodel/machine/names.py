"""Which names are allowed for a network, a layer or a scheme.

Names come from users' files and become names of folders and entries of records. So they are checked when they
are read.
"""

from __future__ import annotations

import re

from pymodel.machine.errors import TatamiError

LONGEST = 200
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def check_name(what: str, name: object) -> str:
    """`name`, if it is a legal name: letters, digits, '-', '_' and '.'; the first character a letter, a digit
    or '_'; no '..'; at most `LONGEST` characters.

    Raises `TatamiError`, beginning with `what`, for anything else.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name) or ".." in name or len(name) > LONGEST:
        raise TatamiError(
            f"{what} is {repr(name)[:LONGEST]}, must be 1 to {LONGEST} letters, digits, '-', '_' and '.',"
            " without '..' and not beginning with '-' or '.'"
        )
    return name
