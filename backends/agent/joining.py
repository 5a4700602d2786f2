"""How an agent finds the others again: remembered members, seeds, for as long as it takes.

Serf tries what its snapshot names once, and its retry-join addresses until the first success. Here
both go on: an agent that finds itself alone tries its seeds and all that it remembers, the failed
ones too, and a seed that is not among the living is tried now and then even by one in company, so
that two halves of a cluster that forgot each other come together again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from backends.agent.surface import AgentError
from backends.udp import addresses
from swimsim.serf.messages import STATUS_ALIVE, MemberInfo
from swimsim.terms import Address

AT_ONCE = 8  # remembered members that are tried in one go

Log = Callable[[str, str], None]
Join = Callable[[Sequence[str], bool], Awaitable[int]]
"""Join these addresses, ``quiet`` for one who was there before; raises ``AgentError``."""


class Joining:
    """The tries of one agent. ``members`` says who is there now, ``remembered`` where who was."""

    def __init__(
        self,
        name: str,
        join: Join,
        members: Callable[[], Iterable[MemberInfo]],
        remembered: Callable[[], Mapping[str, str]],
        log: Log,
        *,
        interval: float,
        port: int,
    ) -> None:
        self._name, self._join, self._members = name, join, members
        self._remembered, self._log = remembered, log
        self._interval, self._port = interval, port

    async def rejoin(self, known: Mapping[str, str]) -> None:
        """Join any one of those whom the snapshot knew."""
        names = [name for name in known if name != self._name]
        random.shuffle(names)
        for name in names:
            where = known[name]
            text = f"Attempting re-join to previously known node: {name}: {where}"
            self._log("INFO", f"serf: {text}")
            try:
                await self._join([where], True)
            except AgentError:
                continue
            self._log("INFO", f"serf: Re-joined to previously known node: {name}: {where}")
            return
        if names:
            self._log("WARN", "serf: Failed to re-join any previously known node")

    async def retry(self, seeds: Sequence[str], most: int) -> bool:
        """Join the seeds, again and again; False when ``most`` retries (0: any number) failed."""
        tries = 0
        while True:
            self._log("INFO", f"agent: Joining cluster...({', '.join(seeds)})")
            try:
                joined = await self._join(seeds, False)
                text = f"agent: Join completed. Synced with {joined} initial agents"
                self._log("INFO", text)
                return True
            except AgentError as error:
                tries += 1
                if 0 < most < tries:
                    text = "agent: maximum retry join attempts made, exiting"
                    self._log("ERR", text)
                    return False
                wait = f"retrying in {self._interval:g}s"
                self._log("WARN", f"agent: Join failed: {error}, {wait}")
            await asyncio.sleep(self._interval)

    async def seek(self, seeds: Sequence[str]) -> None:
        """Look for company for ever."""
        while True:
            await asyncio.sleep(self._interval)
            alive = [each for each in self._members() if each.status == STATUS_ALIVE]
            if len(alive) > 1:
                await self._try_missing(seeds, {each.address for each in alive})
            else:
                await self._try_all(seeds)

    async def _try_all(self, seeds: Sequence[str]) -> None:
        others = [where for name, where in self._remembered().items() if name != self._name]
        chosen = random.sample(others, min(AT_ONCE, len(others)))
        if not seeds and not chosen:
            return
        self._log("INFO", f"agent: alone, trying {', '.join([*seeds, *chosen])}")
        if await self._tried([*seeds, *chosen]):
            self._log("INFO", "agent: alone no more")

    async def _try_missing(self, seeds: Sequence[str], present: set[Address]) -> None:
        for seed in seeds:
            try:
                host, port = addresses.parse(seed.rpartition("/")[2], self._port)
                found = await addresses.look_up(host, port)
            except (OSError, addresses.AddressError):
                continue
            if present.isdisjoint(found) and await self._tried([seed]):
                self._log("INFO", f"agent: joined {seed}, a seed that was not a member")

    async def _tried(self, targets: Sequence[str]) -> bool:
        try:
            return await self._join(targets, True) > 0
        except AgentError:
            return False
