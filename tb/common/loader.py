"""A model of the load stream as docs/formats.md and docs/machine.md describe it. It takes beats and gives
memory words and error codes.
"""

from __future__ import annotations

from dataclasses import dataclass

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import ErrorCode
from pymodel.machine.memory import (
    HOLD,
    LIVE,
    Memory,
    Section,
    header_beat,
    memories,
    parse_packet,
    read_header,
    to_beats,
)


@dataclass(frozen=True)
class LoadPacket:
    """A packet as the machine took it.

    `destination` is the first byte of its header. `words` is the count in its header, `written` the number of
    words that reached the memory. `cut`: a reset cut it off. `in_run`: it began while a program ran.
    """

    destination: int
    bank: int
    address: int
    words: int
    beats: int
    written: int
    code: ErrorCode
    cut: bool = False
    in_run: bool = False


class Loader:
    """Takes beats one by one.

    When a packet is over, `section` holds the words that it has written, and `packet` the packet itself.
    """

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        self.memories = {m.destination: m for m in memories(config).values()}
        self.beats: list[int] = []
        self.count = 0
        self.code = ErrorCode.NONE
        self.inside = False
        self.dropping = False
        self.cut = False  # by a soft reset
        self.rest: int | None = None  # beats of a packet that was cut; None if that is not known
        self.section: Section | None = None
        self.packet: LoadPacket | None = None

    def beat(self, data: int, last: bool) -> ErrorCode:
        """Takes a beat. Returns the error that it causes."""
        self.section = self.packet = None
        found = ErrorCode.NONE
        if not self.inside:
            self.beats, self.count, self.code, self.dropping = [data], 1, ErrorCode.NONE, False
            self.inside, self.cut = True, False
            found = self.header(last)
        else:
            self.count += 1
            if self.cut:
                found = self.left_over(last)
            elif not self.dropping:
                self.beats.append(data)
                whole = len(self.beats) == 1 + self.words * self.per_word
                if last != whole:
                    found = ErrorCode.LOAD_SHORT if last else ErrorCode.LOAD_LONG
        if found:
            self.code = found
            self.dropping = True
        if last:
            self.end(False)
        return found

    def left_over(self, last: bool) -> ErrorCode:
        """The error that a beat behind a soft reset causes: what is dropped may have been another packet."""
        ends = False
        if self.rest is not None:
            self.rest -= 1
            ends = self.rest == 0
        if last == ends:
            return ErrorCode.NONE
        self.cut = False
        return ErrorCode.LOAD_CUT

    def header(self, last: bool) -> ErrorCode:
        """The error that a header causes."""
        if self.hold:
            if self.bank:
                return ErrorCode.LOAD_DESTINATION
            if self.words == 0 or self.address:
                return ErrorCode.LOAD_RANGE
            return ErrorCode.NONE if last else ErrorCode.LOAD_LONG
        memory = self.memory
        if memory is None or self.bank >= memory.banks:
            return ErrorCode.LOAD_DESTINATION
        if self.words == 0 or self.address + self.words > memory.depth:
            return ErrorCode.LOAD_RANGE
        return ErrorCode.LOAD_SHORT if last else ErrorCode.NONE

    @property
    def destination(self) -> int:
        return read_header(self.beats[0]).destination

    @property
    def info(self) -> int:
        """The info of its error. Of a packet that was cut, the machine knows only the bits of a memory."""
        return self.destination & (LIVE | 0xF) if self.code == ErrorCode.LOAD_CUT else self.destination

    @property
    def live(self) -> bool:
        return bool(self.destination & LIVE)

    @property
    def hold(self) -> bool:
        return self.destination == HOLD

    @property
    def bank(self) -> int:
        return read_header(self.beats[0]).bank

    @property
    def words(self) -> int:
        return read_header(self.beats[0]).words

    @property
    def address(self) -> int:
        return read_header(self.beats[0]).address

    @property
    def memory(self) -> Memory | None:
        return self.memories.get(self.destination & ~LIVE)

    @property
    def per_word(self) -> int:
        """Beats of a word."""
        assert self.memory is not None
        return self.memory.beats

    def soft_reset(self) -> None:
        """Drops the rest of a packet, which is in flight. Without an error before, its length is known."""
        self.section = self.packet = None
        if self.inside:
            self.write()
            if not self.cut:
                self.rest = None if self.dropping else 1 + self.words * self.per_word - self.count
            self.cut = self.dropping = True
            self.beats = self.beats[:1]

    def start_anew(self) -> None:
        """Forgets a packet that was in flight: the host begins its stream anew, too."""
        self.section = self.packet = None
        if self.inside:
            self.end(True)

    def end(self, cut: bool) -> None:
        written = self.write()
        self.packet = LoadPacket(
            self.destination, self.bank, self.address, self.words, self.count, written, self.code, cut
        )
        self.inside = False

    def write(self) -> int:
        """Puts the whole words of the packet into `section`. Returns how many."""
        if len(self.beats) == 1:  # a header: of a HOLD, or of what was refused or has been cut off
            return 0
        whole = (len(self.beats) - 1) // self.per_word
        if whole:
            header = header_beat(self.destination, self.bank, whole, self.address)
            payload = self.beats[1 : 1 + whole * self.per_word]
            self.section = parse_packet(self.config, to_beats([header, *payload], self.config.stream_bits))
        return whole
