"""What the owner of a node asks of Serf's layer, and what comes back to whom.

A request carries a number, and the events that answer it carry the same. ``Requests`` gives the
numbers out and hands each answer to whoever waits for it. Some requests end within the step that
took them in (``now``), others when the cluster has heard of them (``wait``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import TypeAlias

from swimsim.effects import (
    Event,
    KeysFinished,
    QueryAcked,
    QueryAnswered,
    QueryFinished,
    QueryStarted,
    RequestDone,
    RequestRefused,
)
from swimsim.inputs import Input
from swimsim.terms import LamportTime, Micros

Make: TypeAlias = Callable[[int], Input]
"""A request, of its number."""

Ending: TypeAlias = RequestDone | KeysFinished | QueryStarted
STOPPED = "the node was stopped"


class RequestError(Exception):
    """The node refuses, or could not do it in time; the text is what Serf says."""


class Answers(AsyncIterator[QueryAcked | QueryAnswered]):
    """What comes back to a query, each node's ack and answer once, until its deadline."""

    def __init__(self) -> None:
        self.ltime: LamportTime = 0  # with the next, names the query
        self.query_id = 0
        self.deadline: Micros = 0  # by the node's clock
        self._held: deque[QueryAcked | QueryAnswered] = deque()
        self._is_over = False
        self._news = asyncio.Event()

    def put(self, answer: QueryAcked | QueryAnswered) -> None:
        """Take one in."""
        if not self._is_over:
            self._held.append(answer)
            self._news.set()

    def close(self) -> None:
        """Wait for no more; what has come can still be read."""
        self._is_over = True
        self._news.set()

    async def __anext__(self) -> QueryAcked | QueryAnswered:
        while not self._held:
            if self._is_over:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._held.popleft()


class Requests:
    """The open requests of one node. ``feed`` lets an input happen to it."""

    def __init__(self, feed: Callable[[Input], None]) -> None:
        self._feed = feed
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Event | None]] = {}
        self._queries: dict[int, Answers] = {}

    async def wait(self, make: Make) -> Ending:
        """Make a request and wait until it has ended; raises ``RequestError``."""
        number, future = self._made(make)
        try:
            return _ending(await future)
        finally:
            self._waiting.pop(number, None)

    def now(self, make: Make) -> Ending:
        """Make a request that ends at once; raises ``RequestError``."""
        number, future = self._made(make)
        self._waiting.pop(number, None)
        assert future.done(), "this request takes its time"
        return _ending(future.result())

    def ask(self, make: Make) -> Answers:
        """Make a query; raises ``RequestError``."""
        answers = Answers()
        number, future = self._made(make, answers)
        self._waiting.pop(number, None)
        try:
            started = _ending(future.result())
        except RequestError:
            self._queries.pop(number, None)
            raise
        assert isinstance(started, QueryStarted)
        answers.ltime, answers.query_id = started.ltime, started.query_id
        answers.deadline = started.deadline
        return answers

    def _made(
        self, make: Make, answers: Answers | None = None
    ) -> tuple[int, asyncio.Future[Event | None]]:
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        if answers is not None:
            self._queries[number] = answers
        try:
            self._feed(make(number))
        except BaseException:
            self._waiting.pop(number, None)
            self._queries.pop(number, None)
            raise
        return number, future

    def hear(self, event: Event) -> None:
        """Hand an event to whoever waits for it, if somebody does."""
        match event:
            case QueryAcked(request) | QueryAnswered(request):
                if request in self._queries:
                    self._queries[request].put(event)
            case QueryFinished(request):
                if request in self._queries:
                    self._queries.pop(request).close()
            case (
                RequestDone(request)
                | RequestRefused(request)
                | KeysFinished(request)
                | QueryStarted(request)
            ):
                future = self._waiting.get(request)
                if future is not None and not future.done():
                    future.set_result(event)
            case _:
                pass

    def stop(self) -> None:
        """The node is gone: nobody waits any longer."""
        for future in self._waiting.values():
            if not future.done():
                future.set_result(None)
        for answers in self._queries.values():
            answers.close()
        self._queries.clear()


def _ending(event: Event | None) -> Ending:
    match event:
        case None:
            raise RequestError(STOPPED)
        case RequestRefused(_, reason):
            raise RequestError(reason)
        case _:
            assert isinstance(event, Ending)
            return event
