"""The exceptions whose message is for the user, and the error codes of the machine."""

from enum import IntEnum


class TatamiError(Exception):
    """Bad input. The message is one line that names the file or object, the field and the limit.

    Command-line tools print the message and exit with `status`. They never show a traceback for it.
    """

    status = 2


class RatioError(TatamiError):
    """A ratio that the scheme cannot reach with this network on this array.

    `make results` knows it by its exit status and continues without this run.
    """

    status = 3


class ErrorCode(IntEnum):
    """The codes in the register ERROR; see docs/machine.md, "Errors"."""

    NONE = 0
    LOAD_DESTINATION = 1
    LOAD_RANGE = 2
    LOAD_SHORT = 3
    LOAD_LONG = 4
    PROGRAM_RANGE = 5
    PROGRAM_OPCODE = 6
    PROGRAM_FIELD = 7
    TILE_FIELD = 8
    GROUP_RANGE = 9
    TAP_RANGE = 10
    FEATURE_READ = 11
    FEATURE_WRITE = 12
    SLOT_RANGE = 13
    SLOT_CODE = 14
    TABLE_RANGE = 15
    DEADLOCK = 16
    LOAD_CUT = 17


class DmaErrorCode(IntEnum):
    """The codes in the register DMA_ERROR; see docs/dma.md, "Errors"."""

    NONE = 0
    LIST_READ = 1
    LIST_ADDRESS = 2
    LIST_LENGTH = 3
    LIST_FLAGS = 4
    LIST_PACKET = 5
    DATA_READ = 6
    OUT_SIZE = 7
    OUT_WRITE = 8
    MACHINE = 9
    REFUSED = 10
