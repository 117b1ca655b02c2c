"""Hands that do calls, one at a time each. A hand may be lost in the middle of a call, which is then done
again by another one; a call whose hand is lost twice is taken to be the cause.

All of it happens in one thread with a loop of its own, so hands may be processes or machines.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed
from typing import Any

from pymodel.machine.errors import TatamiError

LIMIT = 2  # hands that a call may lose


class FarmError(TatamiError):
    """The farm is not to be had, or not any more."""


class Killed(BrokenExecutor):
    """A call that lost its hand each time."""


class HandLost(Exception):  # noqa: N818
    """A hand that is lost, or what it did the call in. The text says who, and how."""


class Call(Future[Any]):
    """A call to do. `lost`: each hand that was lost while doing it. `tools`: of the machine that did it, if
    that is another one.
    """

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        super().__init__()
        self.function = function
        self.arguments = arguments
        self.lost: list[str] = []
        self.avoided: set[Hand] = set()
        self.tools: dict[str, str] | None = None


def ended(calls: Iterable[Call]) -> Iterator[Call]:
    """Each call as it ends."""
    for done in as_completed(calls):
        assert isinstance(done, Call)
        yield done


class Hand(ABC):
    """Does one call at a time."""

    @abstractmethod
    async def do(self, call: Call) -> Any:
        """What the call returns or raises. Raises `HandLost` if that did not come about."""

    @abstractmethod
    async def close(self, *, now: bool) -> None:
        """Nothing is left behind. With `now`, not even a call under way."""


class Crew(Executor, ABC):
    """An executor. Its futures are `Call`s."""

    def __init__(self) -> None:
        self._waiting: deque[Call] = deque()
        self._idle: dict[Hand, asyncio.Future[Call]] = {}
        self._under_way: set[Call] = set()
        self._at_work: dict[Hand, asyncio.Task[None]] = {}
        self._gone: BaseException | None = None
        self._ready: Future[None] = Future()  # or why not
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._now = False
        self._thread = threading.Thread(target=self._run, name="crew", daemon=True)

    # for whoever has calls

    def start(self) -> None:
        """Raises `FarmError` if the farm is not to be had."""
        self._thread.start()
        try:
            self._ready.result()
        except BaseException:
            self.abandon()
            raise

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Call:
        assert not named, "calls have positional arguments only"
        call = Call(function, arguments)
        self._tell(lambda: self._take(call))
        return call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Waits for the calls under way; those that wait are cancelled."""
        self._end(now=False)
        if wait:
            self._thread.join()

    def abandon(self) -> None:
        """Ends the calls under way, too."""
        self._end(now=True)
        self._thread.join()

    # in the thread

    @abstractmethod
    async def _hire(self) -> None:
        """Gets the farm, sets `_ready`, and calls `_joins` and `_leaves` for hands until it is cancelled.
        Then it gives the farm back. Raises `FarmError` when the farm is lost.
        """

    def _tell(self, what: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(what)

    def _end(self, *, now: bool) -> None:
        if self._thread.is_alive():

            def end() -> None:
                self._now = self._now or now
                self._over.set()

            self._tell(end)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._work())
        finally:
            self._loop.close()

    async def _work(self) -> None:
        hiring = asyncio.ensure_future(self._hire())
        over = asyncio.ensure_future(self._over.wait())
        await asyncio.wait({hiring, over}, return_when=asyncio.FIRST_COMPLETED)
        if hiring.done():
            self._lost(hiring.exception() or FarmError("the farm has ended"))
            await over
        for call in self._waiting:
            call.cancel()
        self._waiting.clear()
        for hand in list(self._idle):
            await self._leaves(hand)
        if self._now:
            self._fail(FarmError("ended"))
        while self._at_work:
            await self._leaves(next(iter(self._at_work)), wait=not self._now)
        hiring.cancel()
        await asyncio.wait({hiring})

    def _lost(self, why: BaseException) -> None:
        """The farm is lost, and with it all that waits."""
        self._gone, self._now = why, True
        if not self._ready.done():
            self._ready.set_exception(why)
        self._fail(why)

    def _fail(self, why: BaseException) -> None:
        for call in (*self._waiting, *self._under_way):
            if not call.done():
                call.set_exception(why)
        self._waiting.clear()
        self._under_way.clear()

    def _take(self, call: Call) -> None:
        if self._gone:
            call.set_exception(self._gone)
            return
        self._waiting.append(call)
        self._match()

    def _joins(self, hand: Hand) -> None:
        self._at_work[hand] = asyncio.ensure_future(self._serve(hand))

    async def _leaves(self, hand: Hand, why: str = "", *, wait: bool = False) -> None:
        """With `wait`, it first ends what it does. Else another hand does that, and `why` is noted."""
        serving = self._at_work.pop(hand, None)
        if serving is None:
            return
        if not wait:
            serving.cancel(why)
        elif hand in self._idle:
            self._idle.pop(hand).cancel()
        await asyncio.wait({serving})
        self._idle.pop(hand, None)
        await hand.close(now=self._now)
        self._match()

    def _match(self) -> None:
        for hand in list(self._idle):
            alone = len(self._at_work) == 1
            call = next((c for c in self._waiting if alone or hand not in c.avoided), None)
            if call is not None:
                self._waiting.remove(call)
                self._idle.pop(hand).set_result(call)

    async def _serve(self, hand: Hand) -> None:
        while hand in self._at_work:
            self._idle[hand] = asyncio.get_running_loop().create_future()
            order = self._idle[hand]
            self._match()
            try:
                call = await order
            except asyncio.CancelledError:
                if order.done() and not order.cancelled():  # it had one a moment ago
                    self._again(order.result(), hand, "")
                raise
            self._under_way.add(call)
            try:
                value = await hand.do(call)
            except HandLost as why:
                self._again(call, hand, str(why))
            except asyncio.CancelledError as left:
                self._again(call, hand, str(left))
                raise
            except BaseException as error:  # what the call raised
                self._settle(call, error=error)
            else:
                self._settle(call, value)

    def _settle(self, call: Call, value: Any = None, error: BaseException | None = None) -> None:
        self._under_way.discard(call)
        if call.done():  # given up
            return
        if error is None:
            call.set_result(value)
        else:
            call.set_exception(error)

    def _again(self, call: Call, hand: Hand, why: str) -> None:
        """The call did not come about: another hand does it. Nobody is to blame if there is no `why`."""
        self._under_way.discard(call)
        if call.done():
            return
        if why:
            call.lost.append(why)
            call.avoided.add(hand)
        if len(call.lost) >= LIMIT:
            call.set_exception(Killed("; ".join(call.lost)))
        else:
            self._waiting.appendleft(call)
            self._match()
