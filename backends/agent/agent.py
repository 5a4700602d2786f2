"""One agent: a runtime, what it prints of what it sees, and how it ends.

It starts, joins, reports every change of membership on standard output, and on SIGINT or
SIGTERM says farewell before it ends; a second signal ends it at once. When nobody reads what it
prints any more, that is a signal, too.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, TypeVar

from backends.udp import JoinError, Runtime
from backends.udp.runtime import Events
from swimsim.effects import (
    Cleared,
    Conflict,
    Event,
    Failed,
    HealthChanged,
    Joined,
    Left,
    MergeRefused,
    Refuted,
    Suspected,
    Updated,
)
from swimsim.member import Peer

T = TypeVar("T")
Say = Callable[[str], None]
LEVELS = ("DEBUG", "INFO", "WARN", "ERR")
PROPAGATE_S = 1.0  # the farewell is given this long to spread after it was sent


class Agent:
    """A node in the foreground; ``say`` prints one line."""

    def __init__(self, runtime: Runtime, say: Say, *, level: str = "INFO") -> None:
        self.runtime = runtime
        self._say = say
        self._level = LEVELS.index(level)
        self._ending = asyncio.Event()

    async def run(self, join: Sequence[str] = ()) -> int:
        """Live until a signal; the exit status. Raises OSError when the address is taken."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        try:
            events = self.runtime.events()
            async with self.runtime as node:
                self._introduce()
                reporter = asyncio.create_task(self._report(events))
                try:
                    return await self._live(node, join)
                finally:
                    reporter.cancel()
                    await asyncio.gather(reporter, return_exceptions=True)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def _live(self, node: Runtime, join: Sequence[str]) -> int:
        if join:
            try:
                joined = await self._unless_signalled(node.join(join))
            except JoinError as error:
                self.log("ERR", str(error))
                return 1
            if joined is not None:
                self.log("INFO", f"joined: {joined} addresses")
        await self._ending.wait()
        self._print("==> Gracefully leaving...")
        self._ending.clear()
        return 0 if await self._unless_signalled(self._farewell()) else 1

    async def _unless_signalled(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What ``work`` comes to; None when a signal comes first."""
        tasks = asyncio.create_task(work), asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return tasks[0].result() if tasks[0].done() else None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _farewell(self) -> bool:
        others = len(self.runtime.members) > 1
        if not await self.runtime.leave():
            self.log("WARN", "the farewell could not be sent as often as it should be")
        if others:
            await asyncio.sleep(PROPAGATE_S)
        return True

    def _on_signal(self) -> None:
        self._ending.set()

    # --- what it says --------------------------------------------------------------------

    def log(self, level: str, text: str) -> None:
        """Print one line with the time, if the level is wanted."""
        if LEVELS.index(level) >= self._level:
            now = datetime.now().astimezone().strftime("%Y/%m/%d %H:%M:%S")
            self._print(f"    {now} [{level}] {text}")

    def _print(self, line: str) -> None:
        try:
            self._say(line)
        except OSError:  # nobody listens any more
            self._say = lambda line: None
            self._ending.set()

    def _introduce(self) -> None:
        node = self.runtime
        self._print("==> swimsim agent running!")
        self._print(f"         Node name: '{node.name}'")
        self._print(f"         Bind addr: '{node.address}'")
        self._print(f"         Encrypted: {node.envelope.keyring is not None}")
        self._print("")

    async def _report(self, events: Events) -> None:
        async for event in events:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        match event:
            case Joined(peer):
                self.log("INFO", f"EventMemberJoin: {_where(peer)}")
            case Updated(peer):
                self.log("INFO", f"EventMemberUpdate: {peer.name}")
            case Left(node, _, source):
                self.log("INFO", f"EventMemberLeave: {node} (says {source})")
            case Failed(node, _, source):
                self.log("INFO", f"EventMemberFailed: {node} (says {source})")
            case Suspected(node, _, source):
                self.log("INFO", f"suspect: {node} (says {source})")
            case Cleared(node, incarnation):
                self.log("INFO", f"alive after all: {node}, incarnation {incarnation}")
            case Refuted(incarnation):
                self.log("WARN", f"refuted a suspicion of this node, incarnation {incarnation}")
            case Conflict(existing, other):
                claim = f"{existing.name} is at {existing.address}, {other.address} claims it too"
                self.log("WARN", f"name conflict: {claim}")
            case MergeRefused(reason):
                self.log("WARN", f"a peer's state was refused: {reason}")
            case HealthChanged(score):
                self.log("DEBUG", f"local health score {score}")
            case _:
                self.log("DEBUG", str(event))


def _where(peer: Peer) -> str:
    return f"{peer.name} {str(peer.address).rpartition(':')[0].strip('[]')}"
