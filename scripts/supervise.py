"""A command and all that it starts: a group of processes of its own, none of which outlives the command.

Compilers and simulators are children of children, which a signal to the command does not reach. So the
process that was started stays behind as a supervisor: it hands on the signals that it gets, and kills what is
left of the group when the command has ended. If the supervisor is killed, the group ends, too.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT  # as a shell has it: ended by signal 2
HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGCONT)


def supervise() -> None:
    """Returns in a new process, the leader of a new group. The process that called stays in here, and ends
    with the status of the new one.
    """
    heard = {number for number in HANDED_ON if signal.getsignal(number) != signal.SIG_IGN} | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard)  # none is lost between here and `_wait`
    end, held = os.pipe()
    command = os.fork()
    if command:
        os.close(end)
        with suppress(OSError):  # the new one has done so
            os.setpgid(command, command)
        os._exit(_wait(command, heard))
    os.setpgid(0, 0)
    os.close(held)
    threading.Thread(target=_end_with_supervisor, args=(end,), daemon=True).start()
    if signal.SIGINT in heard:
        signal.signal(signal.SIGINT, _interrupted)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(command: int, heard: set[signal.Signals]) -> int:
    """The status of the command, once it and its group have ended."""
    while True:
        number = signal.sigwait(heard)
        if number == signal.SIGCHLD:
            found, status = os.waitpid(command, os.WNOHANG)
            if found:
                break
        elif number == signal.SIGTSTP:
            os.killpg(command, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
        elif number in (signal.SIGINT, signal.SIGCONT):  # as a terminal does: to the group
            os.killpg(command, number)
        else:
            os.kill(command, number)
    with suppress(ProcessLookupError):  # nothing is left
        os.killpg(command, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _end_with_supervisor(end: int) -> None:
    """The pipe ends when the supervisor does, however that comes about."""
    os.read(end, 1)
    os.killpg(0, signal.SIGKILL)


def _interrupted(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """Ctrl-C while a command imports its modules: one line, as later on."""
    name = sys.orig_argv[sys.orig_argv.index("-m") + 1].rpartition(".")[2]
    os.write(2, f"{name}: interrupted\n".encode())
    os._exit(INTERRUPTED)


def imported() -> None:
    """From here on ctrl-C raises `KeyboardInterrupt`: the command can put in order what it has begun."""
    if signal.getsignal(signal.SIGINT) is _interrupted:
        signal.signal(signal.SIGINT, signal.default_int_handler)
