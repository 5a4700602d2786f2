"""Things handed to one reader, in their order, until either side ends it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")
ROOM = 512  # things that wait for a slow reader, as in Serf


class Subscription(AsyncIterator[T], Generic[T]):
    """A queue of bounded length.

    What does not fit is dropped; ``on_drop`` is told at the first of each run of losses.
    """

    def __init__(
        self,
        first: Iterable[T] = (),
        *,
        room: int = ROOM,
        on_drop: Callable[[], None] = lambda: None,
        on_close: Callable[[Subscription[T]], None] = lambda _: None,
    ) -> None:
        self._held = deque(first)
        self._room = max(room, len(self._held))
        self._on_drop, self._on_close = on_drop, on_close
        self._is_dropping = self._is_over = False
        self._news = asyncio.Event()

    def put(self, thing: T) -> None:
        """Take one in."""
        if self._is_over:
            return
        if len(self._held) >= self._room:
            if not self._is_dropping:
                self._is_dropping = True
                self._on_drop()
            return
        self._is_dropping = False
        self._held.append(thing)
        self._news.set()

    def close(self) -> None:
        """Ask for no more; a reader that waits sees the end."""
        if not self._is_over:
            self._is_over = True
            self._news.set()
            self._on_close(self)

    async def __anext__(self) -> T:
        while not self._held:
            if self._is_over:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._held.popleft()
