"""The process around an agent: what it prints as it starts, its signals, its end.

What is printed, in which order, and the exit statuses are Serf's (spec serf.md, 3.2 and 3.4):
0 after a farewell that took no more than three seconds, 1 otherwise.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from backends.agent import files, readings
from backends.agent.agent import Agent
from backends.agent.config import CREATE, SETUP, Plan, gather, key_of, plan, seconds
from backends.agent.discovery import Discovery
from backends.agent.joining import Joining
from backends.agent.logs import Log
from backends.agent.rpc.addresses import UNIX
from backends.agent.rpc.server import Server
from backends.agent.snapshot import Snapshot
from backends.agent.surface import AgentError
from backends.agent.telemetry import Exporter
from backends.recorder import Recorder
from backends.serf_config import tags_of
from backends.udp import Runtime
from backends.udp.addresses import AddressError
from swimsim.inputs import Restore
from swimsim.serf.messages import STATUS_LEFT
from swimsim.wire.keyring import Keyring

FAREWELL_S = 3.0  # that a graceful end may take
_NAMES = {signal.SIGINT: "interrupt", signal.SIGTERM: "terminated", signal.SIGHUP: "hangup"}
_WIDTH = 31  # columns before the colon


class Kept(NamedTuple):
    """What an agent has from its files."""

    keyring: Keyring | None
    tags: dict[str, str]
    snapshot: Snapshot | None


class Process:
    """Runs one agent to its end. ``say`` prints a line, ``complain`` one on standard error."""

    def __init__(
        self,
        flags: Sequence[tuple[str, str]],
        say: Callable[[str], None],
        complain: Callable[[str], None],
    ) -> None:
        self._flags = list(flags)
        self._say, self._complain = say, complain
        self._signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
        self._plan: Plan
        self._agent: Agent
        self._log: Log
        self._close: list[Callable[[], Coroutine[Any, Any, None]]] = []

    async def run(self) -> int:
        """Live; the exit status."""
        loop = asyncio.get_running_loop()
        handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
        for number in handled:
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        try:
            return await self._whole()
        except AgentError as error:
            self._print(str(error))
            return 1
        finally:
            for close in reversed(self._close):
                await close()
            for number in handled:
                loop.remove_signal_handler(number)

    async def _whole(self) -> int:
        self._plan = plan(gather(self._flags))
        for warning in self._plan.warnings:
            self._print(warning)
        self._log = Log(self._print, self._plan.settings.log_level)
        if self._plan.settings.enable_syslog:
            self._log.to_syslog(self._plan.settings.syslog_facility)
        self._print("==> Starting Serf agent...")
        kept = self._keep()
        await self._start(kept)
        self._print("==> Starting Serf agent RPC...")
        await self._serve()
        self._introduce(kept)
        joined = await self._unless_ended(self._join())
        if isinstance(joined, AgentError):
            raise joined
        self._print("")
        self._print("==> Log data will now stream in as it occurs:")
        self._print("")
        self._log.open()
        await self._discover()
        self._seek(kept)
        return await self._live()

    # --- the start -----------------------------------------------------------------------

    def _keep(self) -> Kept:
        """Read the files; raises ``AgentError``."""
        settings = self._plan.settings
        ring, tags = key_of(settings), tags_of(settings)
        try:
            if settings.keyring_file:
                ring = files.read_keyring(Path(settings.keyring_file))
                count = len(ring.keys)
                text = f"Restored keyring with {count} keys from {settings.keyring_file}"
                self._log("INFO", f"agent: {text}")
            if settings.tags_file:
                held = files.read_tags(Path(settings.tags_file))
                if held is not None:
                    tags = held
                    text = f"Restored {len(tags)} tag(s) from {settings.tags_file}"
                    self._log("INFO", f"agent: {text}")
        except files.FileError as error:
            raise AgentError(f"{SETUP}{error}") from None
        snapshot = None
        if settings.snapshot_path:
            path, rejoin = Path(settings.snapshot_path), settings.rejoin_after_leave
            try:
                snapshot = Snapshot(path, self._log, rejoin=rejoin)
            except OSError as error:
                told = f"failed to open snapshot: open {path}: {files.told(error)}"
                raise AgentError(f"{CREATE}Failed to setup snapshot: {told}") from None
        return Kept(ring, tags, snapshot)

    async def _start(self, kept: Kept) -> None:
        settings = self._plan.settings
        self._agent = agent = Agent(self._plan, self._log, kept.tags)
        recorder = None
        if settings.journal:
            try:
                recorder = Recorder(settings.journal, began=f"agent {self._plan.name}")
            except OSError as error:
                raise AgentError(f"{SETUP}journal: {files.told(error)}") from None
            self._close.append(_closing(recorder))
            agent.history.record(recorder)
        self._close.append(agent.end)
        keyring_file = settings.keyring_file
        try:
            runtime = Runtime(
                self._plan.name,
                bind=self._plan.where.bind,
                advertise=self._plan.where.advertise,
                config=self._plan.config,
                tags=kept.tags,
                restore=None if kept.snapshot is None else _restored(kept.snapshot),
                keyring=kept.keyring,
                save_keyring=(lambda ring: files.write_keyring(Path(keyring_file), ring))
                if keyring_file
                else None,
                label=settings.label.encode(),
                compress=settings.enable_compression,
                journal=agent.history,
                listener=agent.heard,
            )
        except ValueError as error:
            raise AgentError(f"{CREATE}{error}") from None
        try:
            await agent.begin(runtime, kept.snapshot)
        except (OSError, AddressError) as error:
            host, _, port = self._plan.where.bind.rpartition(":")
            raise AgentError(
                f"{CREATE}Failed to create memberlist: Could not set up network transport: "
                f'failed to start TCP listener on "{host}" port {port}: '
                f"listen tcp {self._plan.where.bind}: bind: {_told(error)}"
            ) from None

    async def _serve(self) -> None:
        settings = self._plan.settings
        server = Server(self._agent, settings.rpc_auth)
        try:
            await server.start(settings.rpc_addr, mode=_mode(settings.rpc_mode))
        except OSError as error:
            where = settings.rpc_addr
            kind = "unix" if where.startswith(UNIX) else "tcp"
            told = f"listen {kind} {where.removeprefix(UNIX)}: bind: {_told(error)}"
            raise AgentError(f"Error starting RPC listener: {told}") from None
        except ValueError as error:
            raise AgentError(f"Error starting RPC listener: {error}") from None
        self._close.append(server.stop)
        metrics = self._agent.metrics
        if settings.statsd_addr or settings.statsite_addr:
            self._agent.spawn(metrics.send(settings.statsd_addr, settings.statsite_addr))
        if settings.prometheus_addr:
            exporter = Exporter(lambda: readings.read(self._agent))
            try:
                exporter.start(settings.prometheus_addr)
            except (OSError, AddressError) as error:
                raise AgentError(f"Error starting Prometheus listener: {_told(error)}") from None
            self._close.append(exporter.stop)

    def _introduce(self, kept: Kept) -> None:
        settings, where = self._plan.settings, self._plan.where
        runtime = self._agent.runtime
        self._print("==> Serf agent running!")
        self._fact("Node name", f"'{self._plan.name}'")
        self._fact("Bind addr", f"'{runtime.bound}'")
        if where.advertise:
            self._print(f"    Advertise addr: '{where.advertise}'")
        self._fact("RPC addr", f"'{settings.rpc_addr}'")
        self._fact("Encrypted", str(kept.keyring is not None).lower())
        self._fact("Snapshot", str(kept.snapshot is not None).lower())
        self._fact("Profile", settings.profile)
        self._fact("Message Compression Enabled", str(settings.enable_compression).lower())
        if settings.discover:
            self._fact("mDNS cluster", settings.discover)

    def _fact(self, name: str, value: str) -> None:
        self._print(f"{name:>{_WIDTH}}: {value}")

    # --- finding the others --------------------------------------------------------------

    async def _join(self) -> AgentError | None:
        settings = self._plan.settings
        if not settings.start_join:
            return None
        replay = settings.replay_on_join
        self._print(f"==> Joining cluster...(replay: {str(replay).lower()})")
        try:
            joined = await self._agent.join(settings.start_join, replay)
        except AgentError as error:
            return error
        self._print(f"    Join completed. Synced with {joined} initial agents")
        return None

    async def _discover(self) -> None:
        settings, agent = self._plan.settings, self._agent
        if not settings.discover:
            return
        discovery = Discovery(
            settings.discover, self._plan.name, agent.runtime.address, settings.mdns, self._log
        )
        self._close.append(discovery.stop)
        try:
            await discovery.start()
        except (OSError, AgentError) as error:
            raise AgentError(f"Error starting mDNS listener: {error}") from None
        replay = settings.replay_on_join
        agent.spawn(discovery.run(lambda places: agent.join(places, replay)))

    def _seek(self, kept: Kept) -> None:
        settings, agent = self._plan.settings, self._agent

        def remembered() -> dict[str, str]:
            if kept.snapshot is None:
                there = (each for each in agent.members() if each.status != STATUS_LEFT)
                return {each.name: str(each.address) for each in there}
            return {**kept.snapshot.memory.failed, **kept.snapshot.memory.alive}

        async def join(addresses: Sequence[str], quiet: bool) -> int:
            replay = settings.replay_on_join and not quiet
            return await agent.join_quietly(addresses, quiet, replay=replay)

        joining = Joining(
            self._plan.name,
            join,
            agent.members,
            remembered,
            self._log,
            interval=seconds(settings.retry_interval),
            port=agent.runtime.bound.port,
        )

        async def retry() -> None:
            if not await joining.retry(settings.retry_join, settings.retry_max_attempts):
                agent.stop(1)

        if kept.snapshot is not None:
            agent.spawn(joining.rejoin({**kept.snapshot.found.failed, **kept.snapshot.found.alive}))
        if settings.retry_join:
            agent.spawn(retry())
        agent.spawn(joining.seek((*settings.retry_join, *settings.start_join)))

    # --- until the end -------------------------------------------------------------------

    async def _live(self) -> int:
        while True:
            number = await self._unless_ended(self._signals.get())
            if number is None:
                return self._agent.ending.result().status
            if number == signal.SIGUSR1:
                self._complain(self._agent.metrics.dump())
                continue
            self._print(f"==> Caught signal: {_NAMES[number]}")
            if number == signal.SIGHUP:
                await self._reload()
                continue
            settings = self._plan.settings
            graceful = settings.leave_on_terminate
            if number == signal.SIGINT:
                graceful = not settings.skip_leave_on_interrupt
            return await self._leave() if graceful else 1

    async def _leave(self) -> int:
        self._print("==> Gracefully shutting down agent...")
        leaving = asyncio.ensure_future(self._said_farewell())
        again = asyncio.ensure_future(self._signals.get())
        done, _ = await asyncio.wait(
            {leaving, again}, timeout=FAREWELL_S, return_when=asyncio.FIRST_COMPLETED
        )
        for task in (leaving, again):
            if not task.done():
                task.cancel()
        await asyncio.gather(leaving, again, return_exceptions=True)
        return 0 if leaving in done and leaving.result() else 1

    async def _said_farewell(self) -> bool:
        try:
            await self._agent.leave()
        except AgentError as error:
            self._print(f"==> Error: {error}")
            await asyncio.sleep(FAREWELL_S)
            return False
        return True

    async def _unless_ended(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What ``work`` comes to; None when the agent is to end first."""
        task = asyncio.ensure_future(work)
        await asyncio.wait({task, self._agent.ending}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return None

    async def _reload(self) -> None:
        """Read flags and files again; what cannot be changed while it runs stays."""
        self._print("==> Reloading configuration...")
        try:
            fresh = plan(gather(self._flags))
        except AgentError as error:
            self._print(f"Failed to reload configs: {error}")
            return
        self._log.level = fresh.settings.log_level
        if self._agent.handlers is not None:
            self._agent.handlers.replace(fresh.scripts)
        old, new = tags_of(self._plan.settings), tags_of(fresh.settings)
        changed = {name: text for name, text in new.items() if old.get(name) != text}
        gone = [name for name in old if name not in new]
        self._plan = self._agent.plan = fresh
        if changed or gone:  # what was set since stays
            try:
                await self._agent.set_tags(changed, gone)
            except AgentError as error:
                self._print(f"Failed to update tags: {error}")

    def _print(self, line: str) -> None:
        try:
            self._say(line)
        except OSError:  # nobody listens any more
            self._say = lambda line: None


def _restored(snapshot: Snapshot) -> Restore:
    """What the earlier life of this agent knew."""
    clocks = snapshot.found.clocks
    return Restore(
        clocks["clock"], clocks["event-clock"], clocks["query-clock"], snapshot.found.incarnation
    )


def _mode(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise AgentError(f"rpc_mode: expected permissions such as 0660, got {text!r}") from None


def _told(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number).lower() if number else str(error)


def _closing(recorder: Recorder) -> Callable[[], Coroutine[Any, Any, None]]:
    async def close() -> None:
        await asyncio.to_thread(recorder.close)

    return close
