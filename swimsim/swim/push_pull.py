"""Anti-entropy and join: exchanging full states over a stream (spec memberlist.md, 5.2, 6.13).

Gossip may miss a member; a periodic exchange of everything with a random peer repairs that,
and is also how a newcomer learns of the group. Each side sends all it holds and takes in the
other's as if it were news, but carefully: what a peer calls dead is only suspected here, with
this node as the accuser, so that the accused can still refute.

Two tables that are the same object, or have the same digest, differ in nothing, and only the
suspicions they share are taken as confirmations. Otherwise records that are one object in
both are passed over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeAlias, assert_never

from msgspec import Struct
from msgspec.structs import replace

from swimsim.config import Config
from swimsim.effects import (
    After,
    Effect,
    Emit,
    Exchange,
    JoinFinished,
    MergeRefused,
    Reply,
    Then,
)
from swimsim.inputs import (
    Exchanged,
    ExchangeFailed,
    ExchangeRequested,
    Join,
    JoinNext,
    PushPullTick,
    WitnessState,
)
from swimsim.member import ALIVE, LEFT, SUSPECT, Member
from swimsim.members import Members, VersionUse
from swimsim.messages import Alive, Dead, PushPull, Suspect
from swimsim.rng import Rng
from swimsim.terms import U32, Address, Micros, NodeId

PushPullInput: TypeAlias = (
    PushPullTick | Join | JoinNext | Exchanged | ExchangeFailed | ExchangeRequested
)
States: TypeAlias = Members | tuple[Member, ...]


class Joining(Struct, frozen=True, gc=False):
    """A join in progress: one exchange after the other."""

    exchange: int  # the one in flight
    waiting: tuple[Address, ...]  # the one in flight first
    contacted: int = 0
    failures: tuple[tuple[Address, str], ...] = ()


class AntiEntropy(Struct, frozen=True, gc=False):
    """The periodic exchange, and the join in progress if there is one."""

    rng: Rng
    armed: bool = False  # the random stagger is over; the next tick exchanges
    exchange: int = U32  # the last one asked for; above every sequence number
    joining: Joining | None = None


Step: TypeAlias = tuple[AntiEntropy, tuple[Effect, ...]]


def period(n: int, config: Config) -> Micros:
    """Time between two exchanges in a group of ``n`` known members; it grows past 32."""
    if n <= 32:
        return config.push_pull_interval
    return config.push_pull_interval * (math.ceil(math.log2(n) - 5) + 1)


def step(
    state: AntiEntropy,
    input: PushPullInput,
    me: NodeId,
    members: Members,
    suspects: Iterable[NodeId],
    config: Config,
) -> Step:
    """Advance anti-entropy by one input. ``suspects`` are the suspected members."""
    match input:
        case PushPullTick():
            return _on_tick(state, me, members, config)
        case Join(addresses):
            if state.joining is not None:
                waiting = (*state.joining.waiting, *addresses)
                return replace(state, joining=replace(state.joining, waiting=waiting)), ()
            return replace(state, joining=Joining(0, addresses)), (Then(JoinNext()),)
        case JoinNext():
            return _join_next(state, members, config)
        case Exchanged(exchange, response):
            assert isinstance(response, PushPull)
            refusal = incompatible(members.versions, _versions(response.states))
            news = merge(members, response.states, suspects, me)
            news += () if refusal else _state(response)
            return _joined(state, exchange, refusal, news)
        case ExchangeFailed(exchange, reason):
            return _joined(state, exchange, reason, ())
        case ExchangeRequested(exchange, _, request):
            assert isinstance(request, PushPull)
            reply = Reply(exchange, PushPull(request.join, members))
            refusal = incompatible(members.versions, _versions(request.states))
            news = merge(members, request.states, suspects, me)
            return state, (reply, *news, *(() if refusal else _state(request)))
        case _:
            assert_never(input)


def _joined(state: AntiEntropy, exchange: int, failure: str, news: tuple[Effect, ...]) -> Step:
    """Count an exchange that is over, if it was part of a join, and go on to the next."""
    joining = state.joining
    if joining is None or joining.exchange != exchange:
        return state, news
    address, *waiting = joining.waiting
    joining = replace(joining, waiting=tuple(waiting))
    if failure:
        joining = replace(joining, failures=(*joining.failures, (address, failure)))
    else:
        joining = replace(joining, contacted=joining.contacted + 1)
    return replace(state, joining=joining), (*news, Then(JoinNext()))


def merge(
    members: Members, remote: States, suspects: Iterable[NodeId], me: NodeId
) -> tuple[Effect, ...]:
    """The news in a peer's state, for membership to judge; or why none of it is acceptable."""
    complaint = incompatible(members.versions, _versions(remote))
    if complaint:
        return (Emit(MergeRefused(complaint)),)
    return tuple(_as_news(member, me) for member in differences(members, remote, suspects))


def differences(members: Members, remote: States, suspects: Iterable[NodeId]) -> list[Member]:
    """The records of ``remote`` that could be news, in the order in which the peer holds them.

    Equal records are no news, but an equal suspicion is a confirmation.
    """
    if isinstance(remote, tuple):
        return [m for m in remote if m.status == SUSPECT or members.get(m.peer.name) != m]
    if remote.records is members.records or remote.digest == members.digest:
        return [remote[name] for name in sorted(suspects, key=remote.slots.__getitem__)]
    same_slot = members.records.get
    return [
        member
        for slot, member in enumerate(remote)
        if member.status == SUSPECT
        or (member is not same_slot(slot) and member != members.get(member.peer.name))
    ]


def incompatible(local: tuple[VersionUse, ...], remote: tuple[VersionUse, ...]) -> str:
    """Why two groups cannot merge, or "" when they can.

    Everybody's current versions must lie in what every living member supports.
    """
    uses = (*local, *(use for use in remote if use not in local))
    living = [use.vsn for use in uses if use.alive and len(use.vsn) == 6]
    for part, what in ((0, "protocol"), (3, "delegate")):
        least = max((vsn[part] for vsn in living), default=0)
        most = min((vsn[part + 1] for vsn in living), default=255)
        for use in uses:
            current = use.vsn[part + 2] if len(use.vsn) == 6 else 0
            if not least <= current <= most:
                return f"{what} version {current} is outside of {least} to {most}"
    return ""


def _on_tick(state: AntiEntropy, me: NodeId, members: Members, config: Config) -> Step:
    again = After(period(len(members), config), PushPullTick())
    if not state.armed:
        return replace(state, armed=True), (again,)

    mine = members.get(me)
    if members.count(ALIVE) == (mine is not None and mine.status == ALIVE):  # nobody else is
        return state, (again,)

    def other(member: Member) -> bool:
        return member.status == ALIVE and member.peer.name != me

    chosen, rng = members.sample(state.rng, 1, other)
    state = replace(state, rng=rng)
    if not chosen:
        return state, (again,)
    exchange = state.exchange + 1
    request = Exchange(
        exchange, chosen[0].peer.address, PushPull(False, members), config.stream_timeout
    )
    return replace(state, exchange=exchange), (request, again)


def _join_next(state: AntiEntropy, members: Members, config: Config) -> Step:
    joining = state.joining
    if joining is None:
        return state, ()
    if not joining.waiting:
        finished = JoinFinished(joining.contacted, joining.failures)
        return replace(state, joining=None), (Emit(finished),)
    exchange = state.exchange + 1
    state = replace(state, exchange=exchange, joining=replace(joining, exchange=exchange))
    request = PushPull(True, members)
    return state, (Exchange(exchange, joining.waiting[0], request, config.stream_timeout),)


def _as_news(member: Member, me: NodeId) -> Then:
    name = member.peer.name
    if member.status == ALIVE:
        return Then(Alive(member.incarnation, member.peer))
    if member.status == LEFT:
        return Then(Dead(member.incarnation, name, name))
    return Then(Suspect(member.incarnation, name, me))


def _state(said: PushPull) -> tuple[Effect, ...]:
    """The application's part of a push/pull, for whom it concerns."""
    return (Then(WitnessState(said.user, said.join)),) if said.user else ()


def _versions(states: States) -> tuple[VersionUse, ...]:
    if isinstance(states, Members):
        return states.versions
    seen: dict[bytes, bool] = {}
    for member in states:
        seen[member.peer.vsn] = seen.get(member.peer.vsn, False) or member.status == ALIVE
    return tuple(VersionUse(vsn, alive, 1) for vsn, alive in seen.items())
