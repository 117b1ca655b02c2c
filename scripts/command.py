"""Code that all commands share: the variables of `make`, their types, the message for an error, the console.

A command is a function with `@command(...)` and one `@variable(...)` for each variable that it reads. The
variable comes from the environment, where `make` exports it, or from the option of the same name on the
command line. The option wins. A variable that is unset or empty has its default.

Besides the exit status that a command returns, there are three: 2 for bad input, a full disk or a folder that
cannot be written, 3 for a ratio that the scheme cannot reach, and 130 for ctrl-C. Each prints one line on
stderr, `command: message`.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from pymodel.machine.errors import TatamiError
from pymodel.machine.places import ROOT
from pymodel.machine.progress import shown_by
from scripts.supervise import INTERRUPTED, imported
from tb.flow import simulators

JOBS = len(os.sched_getaffinity(0))  # cores that this process may use
MAX_JOBS = 1024
MAX_SIDE = 65536  # of an image
WIDTH = 140  # of tables in a pipe

# `make` puts the variables of its command line here. Each must be read. Empty if make had several goals.
GIVEN = "MAKE_GIVEN"

# System errors that are not errors of the program: the place is full, read-only or not a folder.
PLACE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
}


def console(width: int = WIDTH, *, stderr: bool = False) -> Console:
    """A console as wide as the terminal. In a pipe, tables are `width` characters wide."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(width=None if stream.isatty() else width, highlight=False, stderr=stderr)


@contextmanager
def working(on: Console) -> Iterator[Callable[[str], None]]:
    """A line on a terminal that says what the command is doing, and how much of it is done where that is
    known. Yields the function that changes the line. Prints nothing in a pipe.
    """
    if not on.is_terminal:
        yield lambda _: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=on, transient=True) as bars:
        line = bars.add_task("", total=None, visible=False)
        part = bars.add_task("", visible=False)

        def say(what: str) -> None:
            bars.reset(line, description=what, visible=True)
            bars.update(part, visible=False)

        def count(what: str, done: int, whole: int) -> None:
            bars.update(part, description=what, completed=done, total=whole, visible=done < whole)

        with shown_by(count):
            yield say


def need(*packages: str, group: str = "train") -> None:
    """Raises `TatamiError` if one of the packages of a group in pyproject.toml is not installed."""
    for name in packages:
        if importlib.util.find_spec(name) is None:
            raise TatamiError(f"this needs the package '{name}'; `make .venv/.{group}` installs it")


def simulator(sim: str) -> None:
    """Raises `TatamiError` if `sim` cannot run. Icarus is installed first, if that needs no password."""
    if sim == "icarus":
        subprocess.run([ROOT / "scripts" / "install_icarus.sh"], check=False)
    simulators.check_simulator(sim)


# Types of variables


def integer(name: str, text: str, low: int, high: int) -> int:
    """The integer value of variable `name`, in low..high."""
    try:
        value = int(text)
    except ValueError:
        raise TatamiError(f"{name} '{text}' is not an integer in {low}..{high}") from None
    if not low <= value <= high:
        raise TatamiError(f"{name} {value} is outside {low}..{high}")
    return value


class Kind(click.ParamType):
    """A type of variable: `read(name, text)` returns the value or raises `TatamiError`."""

    def __init__(self, name: str, read: Callable[[str, str], Any]) -> None:
        self.name = name
        self.read = read

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002
        """The name as it is typed. click would print it in capitals."""
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ARG002
        """Defaults are already values and are not converted."""
        return self.read(called(param), value) if isinstance(value, str) else value


def called(param: click.Parameter | None) -> str:
    """The name for messages: the variable of make, or the option if there is no variable."""
    assert param is not None
    return str(param.envvar or param.opts[0])


def one_of(names: Iterable[str], name: str, text: str) -> str:
    """`text`, if it is among the names."""
    known = tuple(names)
    if text not in known:
        raise TatamiError(f"{name} '{text}' is unknown; valid: {', '.join(known)}")
    return text


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise TatamiError(f"{name} '{text}' is not a number") from None


def _there(name: str, text: str) -> Path:
    if not Path(text).exists():
        raise TatamiError(f"{name} '{text}': no such file or folder")
    return Path(text).resolve()


def _shape(name: str, text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3:
        raise TatamiError(f"{name} '{text}' must be channels,rows,columns")
    channels, rows, columns = (integer(name, part, 1, MAX_SIDE) for part in parts)
    return (channels, rows, columns)


def Integer(low: int, high: int) -> Kind:  # noqa: N802
    """An integer in low..high."""
    return Kind("integer", lambda name, text: integer(name, text, low, high))


def Choice(names: Iterable[str]) -> Kind:  # noqa: N802
    """One of the names."""
    known = tuple(names)
    return Kind("|".join(known), lambda name, text: one_of(known, name, text))


TEXT = Kind("text", lambda _, text: text)
NUMBER = Kind("number", _number)
SHAPE = Kind("channels,rows,columns", _shape)
SWITCH = Kind("0|1", lambda name, text: bool(integer(name, text, 0, 1)))
THERE = Kind("path", _there)  # a file or folder that is there, absolute
WRITTEN = Kind("path", lambda _, text: Path(text))  # one to write


# Commands and their variables


class Variable(click.Option):
    """An option. An empty option has its default, as an empty variable has."""

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> Any:
        given = {name: value for name, value in opts.items() if name != self.name or value != ""}
        return super().consume_value(ctx, given)


class Command(click.Command):
    """A command that can be called with its arguments. It returns its exit status and raises its errors."""

    def __call__(self, arguments: Sequence[str] | None = None) -> int:
        argv = sys.argv[1:] if arguments is None else list(arguments)
        try:
            with self.make_context(self.name, argv) as context:
                return int(self.invoke(context) or 0)
        except click.exceptions.Exit as end:  # --help
            return int(end.exit_code)
        except click.UsageError as error:
            raise TatamiError(error.format_message().rstrip(".")) from None

    def run(self) -> NoReturn:
        """Ends the process with the command's status. An error prints its one line."""
        sys.exit(said(str(self.name), self))

    def variables(self) -> list[str]:
        """The variables of make that it reads."""
        return [str(param.envvar) for param in self.params if param.envvar]

    def invoke(self, ctx: click.Context) -> Any:
        """Calls the function, after checking that it reads each variable that was given to make."""
        known = self.variables()
        for name in os.environ.get(GIVEN, "").split():
            if name not in known and name not in EVERYWHERE:
                takes = f"it takes {', '.join(known)}" if known else "it takes no variable"
                raise TatamiError(f"{name} is given, but this is no variable of `make {self.name}`: {takes}")
        return super().invoke(ctx)


EVERYWHERE = ("BUILD", "PYTHON", "VENV")  # variables of make that every command accepts


def command(name: str) -> Callable[[Callable[..., int]], Command]:
    """Makes a command of a function. The first line of its help is the first line of the module's
    docstring.
    """

    def make(function: Callable[..., int]) -> Command:
        text = sys.modules[function.__module__].__doc__
        made = click.command(name, cls=Command, help=text)(function)
        assert isinstance(made, Command)
        return made

    return make


def variable(name: str, kind: Kind = TEXT, default: Any = None, what: str = "") -> Callable[[Any], Any]:
    """A variable of make, and the option of the same name."""
    return click.option(
        f"--{name.lower()}",
        cls=Variable,
        envvar=name,
        type=kind,
        default=default,
        help=what,
        show_default=default is not None,
    )


def option(
    name: str, kind: Kind = TEXT, default: Any = None, what: str = "", **more: Any
) -> Callable[[Any], Any]:
    """An option that is not a variable of make."""
    return click.option(
        name, cls=Variable, type=kind, default=default, help=what, show_default=default is not None, **more
    )


def jobs(default: int = JOBS, what: str = "at a time") -> Callable[[Any], Any]:
    """JOBS."""
    return variable("JOBS", Integer(1, MAX_JOBS), default, what)


def variables_of(commands: Iterable[Command]) -> set[str]:
    """What make tells commands: nothing of it is for a command that is called with options only."""
    return {GIVEN, *(name for command in commands for name in command.variables())}


# The last words


def said(name: str, body: Callable[[], int]) -> int:
    """The exit status of `body`. An error for the user is printed as one line on stderr."""
    try:
        imported()
        return body()
    except TatamiError as error:
        return _line(name, str(error), error.status)
    except KeyboardInterrupt:
        return _line(name, "interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader has ended, as in `make list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in PLACE:
            raise
        place = "" if error.filename is None else f"{error.filename}: "
        return _line(
            name, f"{place}{error.strerror}; BUILD=folder puts elsewhere what is written below build/", 2
        )


def _line(name: str, message: str, status: int) -> int:
    print(f"{name}: {message}", file=sys.stderr)
    return status
