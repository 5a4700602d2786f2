"""Which events a handler or a stream is for: ``member-join,user:deploy`` (spec serf.md, 3.5)."""

from __future__ import annotations

from typing import NamedTuple, get_args

from backends.agent.surface import (
    AgentError,
    AgentEvent,
    MemberEvent,
    MemberKind,
    Question,
    UserMessage,
)

KINDS = (*get_args(MemberKind), "user", "query", "*")


class EventFilter(NamedTuple):
    """Lets events of one kind pass, of users and queries also by name."""

    event: str
    name: str = ""  # of a user event or a query; empty: any

    def lets_pass(self, event: AgentEvent) -> bool:
        """Whether it is meant."""
        match event:
            case _ if self.event == "*":
                return True
            case MemberEvent(kind):
                return self.event == kind
            case UserMessage(name=name):
                return self.event == "user" and self.name in ("", name)
            case Question(name=name):
                return self.event == "query" and self.name in ("", name)

    def __str__(self) -> str:
        return f"{self.event}:{self.name}" if self.name else self.event


def parse(text: str) -> tuple[EventFilter, ...]:
    """The filters of a comma list, empty for all; raises ``AgentError``."""
    filters = []
    for item in (text or "*").split(","):
        event, colon, name = item.partition(":")
        if colon and event not in ("user", "query"):
            event = item
        if event not in KINDS:
            raise AgentError("Invalid event filter")
        filters.append(EventFilter(event, name))
    return tuple(filters)


class Script(NamedTuple):
    """What is run at which events."""

    filters: tuple[EventFilter, ...]
    command: str


def script(text: str) -> Script:
    """The handler ``[FILTERS=]COMMAND``; raises ``AgentError`` with what Serf says of a bad one."""
    filters, equals, command = text.partition("=")
    if not equals:
        filters, command = "*", text
    try:
        return Script(parse(filters), command)
    except AgentError:
        bad = next(item for item in filters.split(",") if not _is_good(item))
        raise AgentError(f"Invalid event script: Event '{bad}' invoking '{command}'") from None


def _is_good(item: str) -> bool:
    try:
        parse(item)
    except AgentError:
        return False
    return True
