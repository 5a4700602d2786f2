"""The agent's log: lines with levels, for the terminal, for syslog, for those who monitor.

Lines look like Serf's (spec serf.md, 3.7), ``2026/11/23 05:17:30 [INFO] agent: joined: 1 nodes``.
The last 512 are kept whatever the display level, for ``monitor``. Until the gate is opened, lines
are held back, so that what the start-up has to say stands together.
"""

from __future__ import annotations

import syslog
from collections import deque
from collections.abc import Callable
from datetime import datetime

from backends.agent.subscription import Subscription
from backends.agent.surface import AgentError

LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERR")
KEPT = 512  # lines

_PRIORITIES = {
    "TRACE": syslog.LOG_DEBUG,
    "DEBUG": syslog.LOG_INFO,
    "INFO": syslog.LOG_NOTICE,
    "WARN": syslog.LOG_WARNING,
    "ERR": syslog.LOG_ERR,
}
FACILITIES = (
    *("KERN", "USER", "MAIL", "DAEMON", "AUTH", "SYSLOG", "LPR", "NEWS", "UUCP", "CRON"),
    *(f"LOCAL{number}" for number in range(8)),
)


def level_of(text: str) -> int:
    """The rank of a level in any case; raises ``AgentError``."""
    name = text.upper()
    if name not in LEVELS:
        raise AgentError(f"Unknown log level: {name}")
    return LEVELS.index(name)


class Log:
    """Where everything is told; ``say`` prints one line."""

    def __init__(self, say: Callable[[str], None], level: str = "INFO") -> None:
        self._say = say
        self._level = level_of(level)
        self._facility: int | None = None
        self._lines: deque[tuple[int, str]] = deque(maxlen=KEPT)
        self._gated: list[str] | None = []  # None: the gate is open
        self._readers: dict[Subscription[str], int] = {}

    @property
    def level(self) -> str:
        """What is displayed: this level and above."""
        return LEVELS[self._level]

    @level.setter
    def level(self, name: str) -> None:
        self._level = level_of(name)

    def open(self) -> None:
        """Print what was held back, and from now on at once."""
        held, self._gated = self._gated or (), None
        for line in held:
            self._print(line)

    def to_syslog(self, facility: str) -> None:
        """Tell syslog as well; raises ValueError for a facility that it has not."""
        name = facility.upper()
        if name not in FACILITIES:
            raise ValueError(f"invalid syslog facility: {facility}")
        self._facility = getattr(syslog, f"LOG_{name}")
        syslog.openlog("serf", 0, self._facility)

    def __call__(self, level: str, text: str) -> None:
        """Tell something, which may have several lines."""
        rank = LEVELS.index(level)
        now = datetime.now().astimezone().strftime("%Y/%m/%d %H:%M:%S")
        line = f"{now} [{level}] {text}"
        self._lines.append((rank, line))
        for reader, least in list(self._readers.items()):
            if rank >= least:
                reader.put(line)
        if rank < self._level:
            return
        if self._facility is not None:
            syslog.syslog(_PRIORITIES[level], text.replace("\0", ""))
        if self._gated is None:
            self._print(line)
        else:
            self._gated.append(line)
            del self._gated[:-KEPT]

    def monitor(self, level: str) -> Subscription[str]:
        """Lines of this level and above, those that are kept first; raises ``AgentError``."""
        least = level_of(level)
        kept = [line for rank, line in self._lines if rank >= least]
        reader = Subscription(kept, room=2 * KEPT, on_close=self._forget)
        self._readers[reader] = least
        return reader

    def close(self) -> None:
        """Nobody is told any more."""
        for reader in list(self._readers):
            reader.close()

    def _forget(self, reader: Subscription[str]) -> None:
        self._readers.pop(reader, None)

    def _print(self, line: str) -> None:
        self._say(f"    {line}")
