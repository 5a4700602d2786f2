"""News about members, merged: alive, suspect, dead, left, and refutation.

SWIM 4.2, Lifeguard IV; the cases are those of spec memberlist.md, sections 6.8 to 6.14. Which
news counts is ``member.outranks``; this module says what follows from it: which record to
keep, what to tell the others, which timer to set, and what to answer when the news is about
this very node. News of a member is worth repeating exactly when it changed something, so a
rumour dies out by itself.

Three local policies are stricter than memberlist and invisible on the wire: an alive of
incarnation 0 never makes a record, an alive whose versions are not six sane bytes is dropped
(spec P12), and an accusation in the last possible incarnation, which nobody could refute, is
ignored (spec P20); once a node itself has come to the last one, it has nothing new to say.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TypeAlias, assert_never

from immutables import Map
from msgspec import Struct
from msgspec.structs import replace

from swimsim.config import Config
from swimsim.effects import (
    After,
    Cleared,
    Conflict,
    Effect,
    Emit,
    Failed,
    Joined,
    LeaveFinished,
    Left,
    Refuted,
    Suspected,
    Then,
    Updated,
    UpdateFinished,
)
from swimsim.inputs import (
    Announce,
    Announced,
    AnnounceLeave,
    HealthChange,
    Leave,
    LeaveSettled,
    LeaveTimeout,
    Lost,
    ProbeFailed,
    Regained,
    Restore,
    RoundEnded,
    SayFarewell,
    Start,
    SuspicionTimeout,
    UpdateMeta,
)
from swimsim.member import ALIVE, DEAD, LEFT, SUSPECT, Member, Peer, outranks, peer
from swimsim.members import EMPTY, Members
from swimsim.messages import Alive, Dead, Suspect, User
from swimsim.swim import suspicion
from swimsim.swim.suspicion import Suspicion
from swimsim.terms import U32, Address, Incarnation, Micros, NodeId

MembershipInput: TypeAlias = (
    Alive
    | Suspect
    | Dead
    | ProbeFailed
    | SuspicionTimeout
    | RoundEnded
    | Start
    | Leave
    | LeaveTimeout
    | LeaveSettled
    | SayFarewell
    | UpdateMeta
    | Restore
    | Announced
)


class Membership(Struct, frozen=True, gc=False):
    """What a node believes of the group, and what it says of itself."""

    me: Peer
    incarnation: Incarnation = 0  # the last that this node used
    members: Members = EMPTY
    suspicions: Map[NodeId, Suspicion] = Map()  # one for each suspect member
    departed: Map[NodeId, Micros] = Map()  # when each dead or left member became so
    leaving: bool = False  # said farewell; for good
    waiting: bool = False  # the owner waits for the farewell to be sent
    intent: Micros | None = None  # time given to the leave intent that is being sent before it


Step: TypeAlias = tuple[Membership, tuple[Effect, ...]]


def step(state: Membership, now: Micros, input: MembershipInput, config: Config) -> Step:
    """Take in one piece of news. News that changes nothing has no effect."""
    if type(input) is Dead:  # what spreads first: a match is slow to say no
        if input.node == state.me.name and not config.refute_death:
            return state, ()
        return _dead(state, now, input)
    if type(input) is Alive:
        return _alive(state, now, input, config)
    match input:
        case Suspect():
            return suspect(state, now, input, config)
        case ProbeFailed(node, incarnation):
            if not config.suspicion:
                return _dead(state, now, Dead(incarnation, node, state.me.name))
            return suspect(state, now, Suspect(incarnation, node, state.me.name), config)
        case SuspicionTimeout(node, started):
            running = state.suspicions.get(node)
            if running is None or running.started != started or now < running.deadline:
                return state, ()
            known = state.members[node]
            return _dead(state, now, Dead(known.incarnation, node, state.me.name))
        case RoundEnded():
            return _forget(state, now, config), ()
        case Start(members):
            if members is None:
                return _speak(state, state.me)
            return _settle(state, now, members, config)
        case Restore(incarnation=incarnation):
            if state.members:
                return state, ()
            return replace(state, incarnation=max(state.incarnation, incarnation)), ()
        case UpdateMeta(meta):
            me = peer(state.me.name, state.me.address, meta, state.me.vsn)
            if not state.members:  # not started: it will be said then
                return replace(state, me=me), (Emit(UpdateFinished(state.incarnation)),)
            return _speak(state, me)
        case Leave(timeout):
            return _leave(state, now, timeout, config)
        case SayFarewell() if state.intent is not None:
            return _say_farewell(state, now, state.intent)
        case SayFarewell():
            return state, ()
        case LeaveTimeout():
            if state.intent is not None:
                return _say_farewell(state, now, state.intent)
            return _farewell_said(state, config, timed_out=True)
        case LeaveSettled(timed_out):
            return state, (Emit(LeaveFinished(timed_out)),)
        case Announced(message):
            return _announced(state, message, config)
        case _:
            assert_never(input)


def _alive(state: Membership, now: Micros, news: Alive, config: Config) -> Step:
    about, name = news.peer, news.peer.name
    known = state.members.get(name)
    if known is not None and news.incarnation <= known.incarnation:
        if known.peer is about or known.peer == about:  # old news, the usual case
            return state, ()
    mine = name == state.me.name
    if (mine and state.leaving) or not _sane(about.vsn):
        return state, ()
    reclaimed = False
    if known is None or known.peer.address != about.address:
        if not is_allowed(about.address, config):
            return state, ()
        if known is not None:
            reclaimed = not mine and _reclaimable(state, known, now, config)
            if not reclaimed:
                return state, (Emit(Conflict(known.peer, about)),)
    if mine:
        return _heard_of_myself(state, news)
    if news.incarnation == 0:
        return state, ()
    if known is not None and known.status == DEAD and not config.refute_death:
        return state, ()
    if known is None or reclaimed or outranks(ALIVE, news.incarnation, known):
        return _take_in(state, news, known)
    return state, ()


def _take_in(state: Membership, news: Alive, known: Member | None) -> Step:
    """Believe ``news`` about another member, and repeat it."""
    about, name = news.peer, news.peer.name
    state = replace(state, members=state.members.put(Member(about, news.incarnation, ALIVE)))
    effects: tuple[Effect, ...] = (Then(Announce(news)),)
    if known is None or known.status >= DEAD:
        if known is not None:
            state = replace(state, departed=state.departed.delete(name))
        return state, (*effects, Then(Regained(name)), Emit(Joined(about, news.incarnation)))
    if known.status == SUSPECT:
        state = replace(state, suspicions=state.suspicions.delete(name))
        effects = (*effects, Emit(Cleared(name, news.incarnation)))
    if known.peer.meta != about.meta:
        effects = (*effects, Emit(Updated(about, news.incarnation)))
    return state, effects


def _heard_of_myself(state: Membership, news: Alive) -> Step:
    """Somebody repeats what this node said, or what an earlier life of its name said."""
    if news.incarnation < state.incarnation:
        return state, ()
    if news.incarnation == state.incarnation and news.peer == state.me:
        return state, ()
    return _refute(state, news.incarnation)


def suspect(state: Membership, now: Micros, news: Suspect, config: Config) -> Step:
    """Take in that a member is suspected; ``step`` for that news alone."""
    running = state.suspicions.get(news.node)
    if running is not None and not suspicion.is_news(running, news.source):
        return state, ()  # the usual case: this accuser has been heard
    known = state.members.get(news.node)
    if known is None or news.incarnation < known.incarnation:
        return state, ()
    if running is not None:
        return _confirm(state, now, news, running)
    if not outranks(SUSPECT, news.incarnation, known):
        return state, ()
    if news.node == state.me.name:
        return _refute(state, news.incarnation)
    begun = suspicion.begin(now, news.source, len(state.members.records), config)
    state = replace(
        state,
        members=state.members.put(Member(known.peer, news.incarnation, SUSPECT)),
        suspicions=state.suspicions.set(news.node, begun),
    )
    return state, (
        Then(Announce(news)),
        After(begun.deadline - now, SuspicionTimeout(news.node, now)),
        Emit(Suspected(news.node, news.incarnation, news.source)),
    )


def _confirm(state: Membership, now: Micros, news: Suspect, running: Suspicion) -> Step:
    """One more accuser; the record's incarnation stays (spec P21)."""
    confirmed = suspicion.confirm(running, news.source)
    state = replace(state, suspicions=state.suspicions.set(news.node, confirmed))
    wait = max(0, confirmed.deadline - now)
    return state, (
        Then(Announce(news)),
        After(wait, SuspicionTimeout(news.node, confirmed.started)),
    )


def _dead(state: Membership, now: Micros, news: Dead) -> Step:
    known = state.members.get(news.node)
    gone = LEFT if news.source == news.node else DEAD
    if known is None or not outranks(gone, news.incarnation, known):
        return state, ()
    mine = news.node == state.me.name
    if mine and not state.leaving:
        return _refute(state, news.incarnation)
    suspicions = state.suspicions
    if known.status == SUSPECT:
        suspicions = suspicions.delete(news.node)
    state = replace(
        state,
        members=state.members.put(Member(known.peer, news.incarnation, gone)),
        suspicions=suspicions,
        departed=state.departed.set(news.node, now),
    )
    announce = Then(Announce(news, notify=mine))
    if gone == LEFT:
        return state, (announce, Emit(Left(news.node, news.incarnation, news.source)))
    return state, (
        announce,
        Then(Lost(known.peer)),
        Emit(Failed(news.node, news.incarnation, news.source)),
    )


def _refute(state: Membership, accused: Incarnation) -> Step:
    """Answer an accusation, or a claim about this node, with a higher incarnation."""
    incarnation = max(state.incarnation, accused) + 1
    if incarnation > U32:
        return state, ()
    state = replace(
        state,
        incarnation=incarnation,
        members=state.members.put(Member(state.me, incarnation, ALIVE)),
    )
    return state, (
        Then(Announce(Alive(incarnation, state.me))),
        Then(HealthChange(+1)),
        Emit(Refuted(incarnation)),
    )


def _settle(state: Membership, now: Micros, members: Members, config: Config) -> Step:
    """Take over a group's table; its suspicions and its dead begin to age now."""
    mine = members[state.me.name]
    me = mine.peer if mine.peer == state.me else state.me  # one object for what is said twice
    state = replace(state, me=me, members=members, incarnation=mine.incarnation)
    effects: tuple[Effect, ...] = ()
    if members.count(ALIVE) == len(members):
        return state, effects
    for member in members:
        name = member.peer.name
        if member.status >= DEAD:
            state = replace(state, departed=state.departed.set(name, now))
        elif member.status == SUSPECT:
            begun = suspicion.begin(now, state.me.name, len(members), config)
            state = replace(state, suspicions=state.suspicions.set(name, begun))
            effects = (*effects, After(begun.deadline - now, SuspicionTimeout(name, now)))
    return state, effects


def _speak(state: Membership, me: Peer) -> Step:
    """Say something new of oneself: that one lives, or what one's metadata is now."""
    incarnation = state.incarnation + 1
    if state.leaving or incarnation > U32:
        return state, (Emit(UpdateFinished(state.incarnation)),)
    first, before = len(state.members) == 0, state.me
    members = state.members.put(Member(me, incarnation, ALIVE))
    state = replace(state, me=me, incarnation=incarnation, members=members)
    effects: tuple[Effect, ...] = (Emit(Joined(me, incarnation)),) if first else ()
    if me.meta != before.meta:
        effects = (*effects, Emit(Updated(me, incarnation)))
    waits = not first and not _alone(state)
    if not first and not waits:
        effects = (*effects, Emit(UpdateFinished(incarnation)))
    return state, (Then(Announce(Alive(incarnation, me), notify=waits)), *effects)


def _leave(state: Membership, now: Micros, timeout: Micros, config: Config) -> Step:
    if state.leaving:
        return state, () if state.waiting else (Emit(LeaveFinished(timed_out=False)),)
    if state.intent is not None:
        return state, ()
    if config.serf:  # first the intent, then the farewell itself
        alone = _alone(state)
        state = replace(state, intent=timeout)
        told = Then(SayFarewell()) if alone else After(timeout, LeaveTimeout())
        return state, (Then(AnnounceLeave(alone)), told)
    return _say_farewell(state, now, timeout)


def _say_farewell(state: Membership, now: Micros, timeout: Micros) -> Step:
    name = state.me.name
    state, effects = _dead(
        replace(state, leaving=True, waiting=True, intent=None),
        now,
        Dead(state.incarnation, name, name),
    )
    if not _alone(state):
        return state, (*effects, After(timeout, LeaveTimeout()))
    return replace(state, waiting=False), (*effects, Emit(LeaveFinished(timed_out=False)))


def _farewell_said(state: Membership, config: Config, *, timed_out: bool) -> Step:
    """The farewell is said; Serf waits until the last who got it have passed it on."""
    if not state.waiting:
        return state, ()
    state = replace(state, waiting=False)
    if config.serf:
        return state, (After(config.leave_propagate_delay, LeaveSettled(timed_out)),)
    return state, (Emit(LeaveFinished(timed_out)),)


def _announced(state: Membership, message: Alive | Suspect | Dead | User, config: Config) -> Step:
    match message:
        case Alive(incarnation):
            return state, (Emit(UpdateFinished(incarnation)),)
        case Dead():
            return _farewell_said(state, config, timed_out=False)
        case _:
            return state, ()


def _forget(state: Membership, now: Micros, config: Config) -> Membership:
    """Drop who has been dead, or has left, for longer than the dead are gossiped to."""
    before = now - config.gossip_to_the_dead_time
    members, departed = state.members, state.departed
    for name in sorted(name for name, since in departed.items() if since < before):
        if name != state.me.name:
            members, departed = members.remove(name), departed.delete(name)
    return replace(state, members=members, departed=departed)


def _alone(state: Membership) -> bool:
    """Whether no other member is there to hear a broadcast."""
    return state.members.present - (not state.leaving) == 0


def _reclaimable(state: Membership, known: Member, now: Micros, config: Config) -> bool:
    """Whether another address may take over the name of a member that is gone."""
    if known.status == LEFT:
        return True
    if known.status != DEAD or not config.dead_node_reclaim_time:
        return False
    return now - state.departed[known.peer.name] > config.dead_node_reclaim_time


def _sane(vsn: bytes) -> bool:
    return len(vsn) == 6 and 0 < vsn[0] <= vsn[1]


def is_allowed(address: Address, config: Config) -> bool:
    """Whether a member may live at this address, or speak from it."""
    if not config.allowed_networks:
        return True
    if len(address.host) not in (4, 16):
        return False
    ip = ip_address(address.host)
    if ip.version == 6 and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return any(ip in ip_network(network) for network in config.allowed_networks)
