"""Event handlers: scripts that run when something happens (spec serf.md, 3.5).

Each handler has a queue and a task of its own: it gets its events one after another, in their
order, and neither waits for other handlers nor keeps the agent waiting. A script that takes too
long is killed with everything it started. What others say reaches a script through its
environment and its standard input, never through the command line.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterable, Mapping
from contextlib import suppress
from tempfile import TemporaryFile
from time import monotonic

from backends.agent.filters import Script
from backends.agent.surface import (
    AgentError,
    AgentEvent,
    MemberEvent,
    Question,
    Surface,
    UserMessage,
)
from swimsim.serf.messages import MemberInfo

OUTPUT = 8192  # bytes of a script's output that are kept, the last ones
ROOM = 1024  # events that wait for one handler
SLOW_S = 1.0  # a script that takes longer is warned of
GRACE_S = 1.0  # from the first signal to a script that is too slow to the last
DRAIN_S = 0.1  # for output that comes after a script has ended

_ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n"})


class Handlers:
    """All handlers of one agent. ``timeout`` is in seconds, 0 for none."""

    def __init__(self, agent: Surface, scripts: Iterable[Script], timeout: float) -> None:
        self._agent = agent
        self._timeout = timeout
        self._handlers: list[Handler] = []
        self.replace(scripts)

    def replace(self, scripts: Iterable[Script]) -> None:
        """Have these from the next event on; one that stays goes on with its queue."""
        old = {each.script: each for each in self._handlers}
        wanted = dict.fromkeys(scripts)
        self._handlers = [
            old.get(script) or Handler(self._agent, script, self._timeout) for script in wanted
        ]
        for script, handler in old.items():
            if script not in wanted:
                handler.finish()

    def handle(self, event: AgentEvent) -> None:
        """Give an event to all that it is for."""
        for handler in self._handlers:
            handler.handle(event)

    def listed(self) -> dict[str, str]:
        """Commands by filter, as ``info`` shows them."""
        return {
            str(each): handler.script.command
            for handler in self._handlers
            for each in handler.script.filters
        }

    async def stop(self, patience: float = GRACE_S) -> None:
        """Let what is queued run for so long, then end it."""
        for handler in self._handlers:
            handler.finish()
        await asyncio.gather(*(handler.ended(patience) for handler in self._handlers))


class Handler:
    """One script and its queue."""

    def __init__(self, agent: Surface, script: Script, timeout: float) -> None:
        self.script = script
        self._agent = agent
        self._timeout = timeout
        self._queue: asyncio.Queue[AgentEvent | None] = asyncio.Queue()
        self._is_full = False
        self._task = asyncio.create_task(self._work())

    def handle(self, event: AgentEvent) -> None:
        """Queue an event, once for each filter that lets it pass, as Serf runs it."""
        for _ in filter(lambda each: each.lets_pass(event), self.script.filters):
            if self._queue.qsize() >= ROOM:
                if not self._is_full:
                    self._say("WARN", f"{ROOM} events wait for it, dropping what comes")
                self._is_full = True
                return
            self._is_full = False
            self._queue.put_nowait(event)

    def finish(self) -> None:
        """Take no more; end when the queue is empty."""
        self._queue.put_nowait(None)

    async def ended(self, patience: float) -> None:
        """Wait for the end, or bring it about."""
        await asyncio.wait({self._task}, timeout=patience)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        while (event := await self._queue.get()) is not None:
            try:
                await self._run(event)
            except (OSError, ValueError) as error:  # no process, or a NUL in the environment
                self._say("ERR", f"Error invoking script: {error}")

    async def _run(self, event: AgentEvent) -> None:
        began = monotonic()
        run = Run(self.script.command, environment(event, self._agent), stdin(event))
        slow = asyncio.get_running_loop().call_later(
            SLOW_S, lambda: self._say("WARN", f"slow, execution exceeding {SLOW_S:g}s")
        )
        try:
            problem = await run.done(self._timeout)
        finally:
            slow.cancel()
        self._agent.sample(f"agent.invoke.{self.script.command}", (monotonic() - began) * 1000)
        kind = told(event)
        if run.lost:
            self._say("WARN", f"generated {run.lost} bytes too many, kept the last {OUTPUT}")
        if run.output:
            text = run.output.decode(errors="replace").rstrip("\n")
            level = "ERR" if problem else "INFO"
            self._agent.log(level, f"agent: Event '{kind}' script output: {text}")
        if problem:
            text = f"agent: Error invoking script '{self.script.command}': {problem}"
            self._agent.log("ERR", text)
        elif isinstance(event, Question) and run.output:
            try:
                self._agent.respond(event.ltime, event.query_id, run.output)
            except AgentError as error:
                self._agent.log("WARN", f"agent: Failed to respond to query '{kind}': {error}")

    def _say(self, level: str, text: str) -> None:
        self._agent.log(level, f"agent: Script '{self.script.command}' {text}")


class Run:
    """One run of a script."""

    def __init__(self, command: str, env: Mapping[str, str], stdin: bytes) -> None:
        self._command, self._env, self._stdin = command, env, stdin
        self._kept = bytearray()
        self.lost = 0  # bytes of output that were too many

    @property
    def output(self) -> bytes:
        """The last bytes that it printed, on either stream."""
        return bytes(self._kept)

    async def done(self, timeout: float) -> str:
        """Run it; what went wrong, if anything."""
        output, writing = os.pipe()  # ours, as asyncio waits for the end of pipes of its own
        reading = asyncio.create_task(self._read(output))
        try:
            with TemporaryFile() as given:
                given.write(self._stdin)
                given.seek(0)
                process = await asyncio.create_subprocess_exec(
                    "/bin/sh",
                    "-c",
                    self._command,
                    stdin=given,
                    stdout=writing,
                    stderr=writing,
                    env=self._env,
                    start_new_session=True,
                )
        finally:
            os.close(writing)
        problem = ""
        try:
            async with asyncio.timeout(timeout or None):
                await process.wait()
        except TimeoutError:
            await _kill(process)
            problem = f"killed after {timeout:g}s"
        except asyncio.CancelledError:
            _signal(process.pid, signal.SIGKILL)
            reading.cancel()
            raise
        await asyncio.wait({reading}, timeout=DRAIN_S)  # something it left behind may hold it open
        _BEHIND.add(reading)
        reading.add_done_callback(_BEHIND.discard)
        if not problem and process.returncode:
            code = process.returncode
            problem = f"exit status {code}" if code > 0 else f"signal: {signal.Signals(-code).name}"
        return problem

    async def _read(self, descriptor: int) -> None:
        stream = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(descriptor, "rb")
        )
        try:
            while data := await stream.read(OUTPUT):
                self._kept += data
                excess = max(0, len(self._kept) - OUTPUT)
                self.lost += excess
                del self._kept[:excess]
        finally:
            transport.close()


_BEHIND: set[asyncio.Task[None]] = set()
"""Readers of what scripts left running behind them prints, so that it does not block."""


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End a script and all that it started."""
    _signal(process.pid, signal.SIGTERM)
    with suppress(TimeoutError):
        async with asyncio.timeout(GRACE_S):
            await process.wait()
    _signal(process.pid, signal.SIGKILL)
    await process.wait()


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


# --- what a script is given -----------------------------------------------------------------


def told(event: AgentEvent) -> str:
    """An event as the log calls it."""
    match event:
        case MemberEvent(kind):
            return kind
        case UserMessage(name=name):
            return f"user-event: {name}"
        case Question(name=name):
            return f"query: {name}"


def environment(
    event: AgentEvent, agent: Surface, base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The agent's own environment, and what happened."""
    tags = agent.tags()
    env = dict(os.environ if base is None else base)
    env["SERF_SELF_NAME"] = agent.name
    env["SERF_SELF_ROLE"] = tags.get("role", "")
    for name, value in tags.items():
        env[f"SERF_TAG_{re.sub('[^A-Z0-9_]', '_', name.upper())}"] = value
    match event:
        case MemberEvent(kind):
            env["SERF_EVENT"] = kind
        case UserMessage(ltime, name):
            env |= {"SERF_EVENT": "user", "SERF_USER_EVENT": name, "SERF_USER_LTIME": str(ltime)}
        case Question(ltime, _, name):
            env |= {"SERF_EVENT": "query", "SERF_QUERY_NAME": name, "SERF_QUERY_LTIME": str(ltime)}
    return env


def stdin(event: AgentEvent) -> bytes:
    """What a script reads: a line for each member, or the payload."""
    match event:
        case MemberEvent(_, members):
            return "".join(map(_line, members)).encode("utf-8", "surrogateescape")
        case UserMessage(payload=payload) | Question(payload=payload):
            ends = not payload or payload.endswith(b"\n")
            return (payload or b"") + (b"" if ends else b"\n")


def _line(member: MemberInfo) -> str:
    tags = dict(member.tags or ())
    pairs = ",".join(f"{key}={value}" for key, value in tags.items())
    address = str(member.address).rpartition(":")[0].strip("[]")
    role = tags.get("role", "").translate(_ESCAPES)
    return f"{member.name.translate(_ESCAPES)}\t{address}\t{role}\t{pairs.translate(_ESCAPES)}\n"
