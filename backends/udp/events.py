"""What a node reports, as its owner reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Generic, TypeVar

from swimsim.effects import Event

BACKLOG = 4_096  # events that wait for a slow reader; older ones are dropped

EventT = TypeVar("EventT", bound=Event)


class JoinError(OSError):
    """Not one of the addresses could be joined; ``failures`` says what became of each."""

    def __init__(self, failures: Iterable[tuple[str, str]]) -> None:
        self.failures = tuple(failures)
        told = "; ".join(f"{where}: {reason}" for where, reason in self.failures)
        super().__init__(f"nobody could be joined: {told}")


class Events(AsyncIterator[EventT], Generic[EventT]):
    """What a node reports from the moment at which this was made until the node stops."""

    def __init__(self, kinds: tuple[type[EventT], ...]) -> None:
        self._kinds = kinds
        self._queue: asyncio.Queue[EventT | None] = asyncio.Queue(BACKLOG)

    def put(self, event: Event | None) -> bool:
        """Take an event in, None for the end; True when the oldest is lost for that."""
        if event is not None and self._kinds and type(event) not in self._kinds:
            return False
        missed = self._queue.full()
        if missed:
            self._queue.get_nowait()
        self._queue.put_nowait(event)  # type: ignore[arg-type]  # it is one of the kinds
        return missed

    async def __anext__(self) -> EventT:
        event = await self._queue.get()
        if event is None:
            self._queue.put_nowait(None)  # the end is the end, whoever asks and how often
            raise StopAsyncIteration
        return event
