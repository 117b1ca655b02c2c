"""Reading and writing YAML and JSON files. A file is read through a model that says which fields it may have,
and it is written completely or not at all.

Text is UTF-8. For anything that is wrong with a file, one `TatamiError` is raised. Its message is one line
with the file, the field and the limit.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from pymodel.machine.errors import TatamiError

SHOWN = 60  # characters of a wrong value in a message


class Fields(BaseModel):
    """The base of a model of a file. A field that the model does not name is refused, values are not
    converted to another type, and numbers must be finite.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=Fields)


def _said(text: str) -> str:
    if not text.strip() or len(text.splitlines()) > 1:
        raise PydanticCustomError("line", "must be a line of text")
    return text


Line = Annotated[str, AfterValidator(_said)]  # not blank


def read_text(path: Path, where: object = None) -> str:
    """The text of a file. Messages begin with `where`, or with the path if it is None."""
    where = where or path
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise TatamiError(f"{where}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise TatamiError(f"{where}: is not UTF-8 at byte {error.start}") from None


def parse_json(text: str | bytes, where: object) -> Any:
    """The content of the JSON `text`. Messages begin with `where`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise TatamiError(f"{where}: is no JSON: {_line(error)}") from None


def read_json(path: Path, where: object = None) -> Any:
    return parse_json(read_text(path, where), where or path)


def read_yaml(path: Path, where: object = None) -> Any:
    import yaml  # simulations, which are many and short, read only JSON

    text = read_text(path, where)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2026-13-45 for a date
        raise TatamiError(f"{where or path}: is no YAML: {_line(error)}") from None


def checked(model: type[Model], content: Any, where: object) -> Model:
    """`content`, as read from JSON or YAML, as a `model`. If several fields are wrong, the message names the
    first.
    """
    try:
        return model.model_validate_json(json.dumps(content))  # JSON's rules: a list may be a tuple
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = _line(".".join(map(str, first["loc"])))
        known = list(model.model_fields) if len(first["loc"]) == 1 else []
        raise TatamiError(
            f"{where}: {_problem(field, first['type'], first['msg'], first['input'], known)}"
        ) from None
    except TatamiError as error:  # of a dataclass that checks itself
        raise TatamiError(f"{where}: {_line(error)}") from None
    except (TypeError, ValueError, RecursionError) as error:  # a date or the like, which JSON does not have
        raise TatamiError(f"{where}: {_line(error)}") from None


def checked_list(model: type[Model], content: Any, where: object) -> list[Model]:
    """Each entry of a list as `model`; messages count the entries from 1."""
    if not isinstance(content, list):
        raise TatamiError(f"{where}: is {_shown(content)}: must be a list")
    return [checked(model, entry, f"{where}, entry {number}") for number, entry in enumerate(content, 1)]


def checked_lines(model: type[Model], path: Path) -> list[Model]:
    """The lines of a file, each the JSON of a `model`; messages count the lines from 1."""
    lines = enumerate(read_text(path).split("\n"), 1)
    places = [(f"{path}, line {number}", line) for number, line in lines if line]
    return [checked(model, parse_json(line, where), where) for where, line in places]


def _problem(field: str, kind: str, message: str, value: Any, known: list[str]) -> str:
    """`known`: the names of the fields that exist beside it, if they help the reader."""
    if kind in ("missing", "missing_argument"):
        return f"field '{field}' is missing"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"field '{field}' is unknown" + (f"; valid: {', '.join(known)}" if known else "")
    if kind == "value_error" and not field:  # fields that do not go together
        return _line(message.removeprefix("Value error, "))
    shown, message = _shown(value), message.removeprefix("Value error, ")
    what = _line(message[:1].lower() + message[1:])
    return f"field '{field}' is {shown}: {what}" if field else f"is {shown}: {what}"


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."


def _line(error: object) -> str:
    return " ".join(str(error).split())


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file completely or not at all, even if the process is stopped or if others write the same
    file. Raises `TatamiError` if it cannot be written.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):  # there may be none, or no folder
            draft.unlink()
        raise TatamiError(f"{path}: cannot be written: {error.strerror}") from None


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")
