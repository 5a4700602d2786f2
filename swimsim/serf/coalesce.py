"""Telling several events as one (spec serf.md, 2.15).

A burst of members that come and go, or of user events of one name, is more than a handler needs.
The first event opens a window; it closes after the *period*, or as soon as nothing more came for
the *quiet* time, and what then holds is told at once. It stands between a node and its owner's
handlers, so the owner runs it, and it is no part of the node: hand in every event with the time,
and call again, without an event, at the time that came back.

Three faults of Serf's are not here. Nothing is told again with later windows; a member that joined
and changed in one window is told as joined; and what is kept of members ends with them.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from immutables import Map
from msgspec import Struct
from msgspec.structs import replace

from swimsim.config import Config
from swimsim.effects import Event, MemberChanged, MemberEvent, UserEventReceived
from swimsim.member import Peer
from swimsim.terms import Micros, NodeId

KINDS: tuple[MemberEvent, ...] = ("join", "leave", "failed", "update", "reap")


class MembersChanged(Struct, frozen=True):
    """What several ``MemberChanged`` of one kind have come to; peers are sorted by name."""

    kind: MemberEvent
    peers: tuple[Peer, ...]


Told: TypeAlias = MembersChanged | Event


class Window(Struct, frozen=True, gc=False):
    """When what is held will be told: at whichever comes first."""

    end: Micros
    quiet: Micros

    @property
    def due(self) -> Micros:
        """When it closes if nothing more comes."""
        return min(self.end, self.quiet)


class Coalescer(Struct, frozen=True, gc=False):
    """What is held, and what was told last of each member."""

    members: Map[NodeId, MemberChanged] = Map()
    members_window: Window | None = None
    users: Map[str, tuple[UserEventReceived, ...]] = Map()  # of the highest time, by name
    users_window: Window | None = None
    last: Map[NodeId, MemberEvent] = Map()


class Step(NamedTuple):
    """What comes of one event, or of a moment."""

    state: Coalescer
    told: tuple[Told, ...]
    due: Micros | None  # call again then, at the latest


def step(state: Coalescer, now: Micros, event: Event | None, config: Config) -> Step:
    """Take in an event, and tell what is due; what cannot wait is told at once."""
    told: tuple[Told, ...] = ()
    if state.members_window is not None and state.members_window.due <= now:
        state, told = _members_told(state)
    if state.users_window is not None and state.users_window.due <= now:
        state, users = _users_told(state)
        told += users
    match event:
        case None:
            pass
        case MemberChanged() if config.coalesce_period:
            state = _hold_member(state, now, event, config)
        case MemberChanged(kind, peer):
            told = (*told, MembersChanged(kind, (peer,)))
        case UserEventReceived(coalesce=True) if config.user_coalesce_period:
            state = _hold_user(state, now, event, config)
        case _:
            told = (*told, event)
    windows = [each.due for each in (state.members_window, state.users_window) if each is not None]
    return Step(state, told, min(windows, default=None))


def flush(state: Coalescer) -> Step:
    """Tell everything now: the owner ends."""
    state, members = _members_told(state)
    state, users = _users_told(state)
    return Step(state, members + users, None)


def _hold_member(state: Coalescer, now: Micros, event: MemberChanged, config: Config) -> Coalescer:
    name = event.peer.name
    held = state.members.get(name)
    if held is not None and held.kind == "join" and event.kind == "update":
        event = replace(held, peer=event.peer)
    window = _window(state.members_window, now, config.coalesce_period, config.quiescent_period)
    return replace(state, members=state.members.set(name, event), members_window=window)


def _hold_user(
    state: Coalescer, now: Micros, event: UserEventReceived, config: Config
) -> Coalescer:
    held = state.users.get(event.name, ())
    if not held or event.ltime > held[0].ltime:
        held = (event,)
    elif event.ltime == held[0].ltime:
        held = (*held, event)
    window = _window(
        state.users_window, now, config.user_coalesce_period, config.user_quiescent_period
    )
    return replace(state, users=state.users.set(event.name, held), users_window=window)


def _window(open_: Window | None, now: Micros, period: Micros, quiet: Micros) -> Window:
    end = now + period if open_ is None else open_.end
    return Window(end, now + quiet if quiet else end)


def _members_told(state: Coalescer) -> tuple[Coalescer, tuple[Told, ...]]:
    last = state.last
    groups: dict[MemberEvent, list[Peer]] = {kind: [] for kind in KINDS}
    for name in sorted(state.members):
        event = state.members[name]
        if event.kind == last.get(name) and event.kind != "update":
            continue
        last = last.delete(name) if event.kind == "reap" and name in last else last
        if event.kind != "reap":
            last = last.set(name, event.kind)
        groups[event.kind].append(event.peer)
    told = tuple(MembersChanged(kind, tuple(peers)) for kind, peers in groups.items() if peers)
    return replace(state, members=Map(), members_window=None, last=last), told


def _users_told(state: Coalescer) -> tuple[Coalescer, tuple[Told, ...]]:
    told = tuple(event for name in sorted(state.users) for event in state.users[name])
    return replace(state, users=Map(), users_window=None), told
