"""The hands of a Dask scheduler: its workers.

Each gets one call at a time, so it is known which call a worker was lost in. Dask itself would do a call
again without a word, and would blame the calls that wait for the same worker, too.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import dask

# Before `distributed` is imported, which reads it then: what it says about lost connections, this file does.
dask.config.set({"logging": {"distributed": "critical", "distributed.client": "critical"}})

from distributed import Client, KilledWorker  # noqa: E402
from distributed.client import FutureCancelledError  # noqa: E402

from tb.flow.farm import worker  # noqa: E402
from tb.flow.farm.crew import Call, Crew, FarmError, Hand, HandLost  # noqa: E402

if TYPE_CHECKING:
    from tb.flow.farm.clusters import Jobs

CONNECT_S = 10
CLOSE_S = 5
ANSWER_S = 30  # a scheduler that says nothing for so long is lost
LOOK_S = 0.3
REFILL = 30  # looks from one order of jobs to the next
TELL_S = 10  # it is told once that there is no worker yet


class DaskCrew(Crew):
    """The workers of the scheduler at `farm`, or of jobs of the batch system `farm`; at most `count` of them.

    Without any worker for `wait_s` it is given up.
    """

    def __init__(
        self, farm: str, options: Mapping[str, Any], count: int | None, wait_s: float | None
    ) -> None:
        super().__init__()
        self._jobs: Callable[[], Jobs] | None = None  # gets them
        if not farm.startswith("tcp://"):
            from tb.flow.farm.clusters import jobs

            self._jobs = partial(jobs, farm, options, count or 1)
        self._farm = farm
        self._count = count
        self._wait_s = wait_s
        self._checkout = worker.checkout()
        self._hands: dict[str, Worker] = {}
        self._refused: dict[str, str] = {}

    async def _hire(self) -> None:
        with token() as name:
            if self._jobs is None:
                async with connected(self._farm, self._farm) as client:
                    await self._watch(client, name, None)
                return
            begun = self._jobs()
            try:
                await begun.cluster
                async with connected(begun.cluster, self._farm) as client:
                    await self._watch(client, name, begun)
            finally:
                await begun.cluster.close()

    async def _watch(self, client: Client, name: str, jobs: Jobs | None) -> None:
        """Workers come and go."""
        asked: dict[str, asyncio.Task[None]] = {}
        since, told = asyncio.get_running_loop().time(), False
        for look in itertools.count():
            try:
                known = await asyncio.wait_for(client.nthreads(), ANSWER_S)
            except (OSError, TimeoutError, RuntimeError):
                raise FarmError(f"FARM {self._farm}: the scheduler is gone") from None
            for address in self._hands.keys() - known.keys():
                hand = self._hands.pop(address)
                await self._leaves(hand, f"worker {hand.name} was lost")
            asked = {address: task for address, task in asked.items() if not task.done()}
            for address in known.keys() - self._hands.keys() - self._refused.keys() - asked.keys():
                if self._count is None or len(self._hands) + len(asked) < self._count:
                    asked[address] = asyncio.ensure_future(self._introduced(client, address, name))
            if jobs is not None and jobs.hopeless:
                raise FarmError(f"FARM {self._farm}: no job can be started: {jobs.hopeless}")
            now = asyncio.get_running_loop().time()
            if self._hands:
                since = now
                if not self._ready.done():
                    self._ready.set_result(None)
            elif not asked and self._wait_s is not None and now - since > self._wait_s:
                why = f": {next(iter(self._refused.values()))}" if self._refused else ""
                raise FarmError(f"FARM {self._farm}: no worker for {self._wait_s:g} s{why}")
            elif now - since > TELL_S and not told:
                told = True
                logs = f"; logs of jobs: {jobs.logs}" if jobs is not None else ""
                print(f"FARM {self._farm}: no worker yet; waiting{logs}", file=sys.stderr, flush=True)
            if jobs is not None and len(known) < jobs.count and look % REFILL == REFILL - 1:
                jobs.refill()
            await asyncio.sleep(LOOK_S)

    async def _introduced(self, client: Client, address: str, name: str) -> None:
        """Takes a worker on, if it can do what is asked for."""
        try:
            said = await asyncio.wait_for(
                client.submit(worker.introduce, name, workers=[address], pure=False).result(), ANSWER_S
            )
        except (OSError, TimeoutError, KilledWorker, FutureCancelledError):
            return  # it has gone again, or is busy: it is asked the next time
        except Exception as error:
            self._refuse(address, f"cannot do runs: {type(error).__name__}: {str(error).splitlines()[0]}")
            return
        if said.checkout != self._checkout:
            self._refuse(
                address, f"on {said.host} has other files in {said.place.root} than the checkout here"
            )
            return
        self._hands[address] = Worker(client, address, said)
        self._joins(self._hands[address])

    def _refuse(self, address: str, why: str) -> None:
        self._refused[address] = f"worker {address} {why}"
        print(f"FARM {self._farm}: not used: {self._refused[address]}", file=sys.stderr, flush=True)


class Worker(Hand):
    """One worker."""

    def __init__(self, client: Client, address: str, said: worker.Introduction) -> None:
        self.name = f"{address} on {said.host}"
        self._client = client
        self._address = address
        self._said = said

    async def do(self, call: Call) -> Any:
        variables = {name: os.environ[name] for name in worker.HANDED_ON if name in os.environ}
        doing = self._client.submit(
            worker.do,
            call.function,
            call.arguments,
            variables,
            self._said.shared,
            workers=[self._address],
            pure=False,
            key=f"{getattr(call.function, '__name__', 'call')}-{uuid.uuid4()}",
        )
        try:
            returned = await doing.result()
        except (BrokenExecutor, KilledWorker):
            raise HandLost(f"its process on {self._said.host} was killed") from None
        except FutureCancelledError:  # worker or scheduler is lost: whoever watches them ends this
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            with suppress(Exception):  # there may be nobody left to tell
                await asyncio.wait_for(self._client.cancel([doing], force=True), CLOSE_S)
            raise
        call.tools = self._said.tools
        return returned.here(self._said.place)

    async def close(self, *, now: bool) -> None:
        if now:
            with suppress(Exception):
                ended = self._client.run(worker.abandon, workers=[self._address], on_error="ignore")
                await asyncio.wait_for(ended, CLOSE_S)


@contextmanager
def token() -> Iterator[str]:
    """The name of a file below BUILD, which holds its name."""
    name = str(uuid.uuid4())
    path = worker.token(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name)
    try:
        yield name
    finally:
        path.unlink(missing_ok=True)


@asynccontextmanager
async def connected(to: Any, farm: str) -> AsyncIterator[Client]:
    """A client of a scheduler. Raises `FarmError` if there is none."""
    client = Client(to, asynchronous=True, set_as_default=False, timeout=CONNECT_S)
    try:
        try:
            await client
        except (OSError, TimeoutError):
            raise FarmError(f"FARM {farm}: no Dask scheduler answers there") from None
        yield client
    finally:
        await client.close(timeout=CLOSE_S)
