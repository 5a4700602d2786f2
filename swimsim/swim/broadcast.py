"""The transmit-limited queue and the gossip tick (SWIM 4.1; spec memberlist.md, 6.15, 6.17).

News spreads in two ways: it rides on pings and acks (piggyback), and at every gossip tick a
few random members are sent whatever fits a packet. Each piece of news is sent a number of
times that grows with the logarithm of the group, then dropped. The least sent goes first,
within that the longest, within that the newest; news of a member displaces older news of it.

The queue is a sorted tuple, so what goes into a packet stands at its front, what does not fit
is skipped by bisection, and the rest is moved as a block without being looked at. A node with
nothing to say does not tick: the next tick is set when news comes in, at the moment at which a
ticker that never stopped would have fired.

Serf has three more queues of the same kind, its *lanes*: what news of members leaves free in a
packet is offered to each of them in turn (spec memberlist.md, 2.8; serf.md, 2.5).
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from functools import lru_cache
from typing import Literal, TypeAlias, TypeVar

from immutables import Map
from msgspec import Struct
from msgspec.structs import astuple, replace

from swimsim.config import Config
from swimsim.effects import After, Effect, Send, Then
from swimsim.inputs import Announced, GossipTick
from swimsim.member import DEAD, Member
from swimsim.members import Members
from swimsim.messages import (
    COMPOUND_HEADER,
    COMPOUND_PART,
    CRC_SINCE,
    Alive,
    Dead,
    Message,
    Suspect,
    User,
    envelope,
    size,
)
from swimsim.rng import Rng
from swimsim.terms import Micros, NodeId

LEAST_ROOM = 3  # bytes; what has no more than that left is not offered to Serf's lanes
MOST_PARTS = 126  # and one message that they ride on: old peers misread 128 (spec P14)

_TICK = GossipTick()


class Broadcast(Struct, frozen=True, order=True, gc=False):
    """One piece of news. The order of the first three fields is the order of sending."""

    transmits: int  # times sent so far
    shortness: int  # bytes, negated: longest first
    age: int  # order of arrival, negated: newest first; unique in its queue
    name: NodeId  # whom it is about; something of its own for the application's news
    message: Alive | Suspect | Dead | User
    notify: bool  # give ``Announced`` when it is done


class Broadcasts(Struct, frozen=True, gc=False):
    """The queue, and the ticker that empties it."""

    rng: Rng
    origin: Micros = 0  # an instant at which the ticker fires; every interval from it is another
    ticking: bool = False  # a ``GossipTick`` is on its way
    arrivals: int = 0  # broadcasts so far
    queue: tuple[Broadcast, ...] = ()  # sorted
    named: Map[NodeId, int] = Map()  # the ages of the same broadcasts, by whom they are about


class Lane(Struct, frozen=True, gc=False):
    """One of Serf's queues; the ticker of the membership's empties it as well."""

    arrivals: int = 0
    queue: tuple[Broadcast, ...] = ()  # sorted
    named: Map[NodeId, int] = Map()


Lanes: TypeAlias = tuple[Lane, ...]
Step: TypeAlias = tuple[Broadcasts, tuple[Effect, ...]]
Loaded: TypeAlias = tuple[Broadcasts, Lanes, tuple[Message, ...], tuple[Effect, ...]]
Queue = TypeVar("Queue", Broadcasts, Lane)


def retransmit_limit(n: int, config: Config) -> int:
    """How often a broadcast is sent in a group of ``n`` known members; at least once."""
    return _limit(n, config.retransmit_mult, config.retransmit_scale)


@lru_cache(maxsize=1024)
def _limit(n: int, mult: int, scale: Literal["log10", "ln"]) -> int:
    log = math.log if scale == "ln" else math.log10
    return max(1, mult * math.ceil(log(n + 1)))


def announce(
    state: Broadcasts,
    now: Micros,
    message: Alive | Suspect | Dead | User,
    notify: bool,
    config: Config,
) -> Step:
    """Have a message spread; ``notify``: give ``Announced`` when it is done."""
    state, displaced = enqueue(state, message, notify)
    state, ticking = wake(state, now, config)
    return state, displaced + ticking


def wake(state: Broadcasts, now: Micros, config: Config) -> Step:
    """Have the ticker fire, now that there is something to say."""
    if state.ticking or not config.gossip_nodes:
        return state, ()
    return replace(state, ticking=True), (_next_tick(state, now, config),)


def load(state: Broadcasts, lanes: Lanes, room: int, n: int, known: int, config: Config) -> Loaded:
    """What fits ``room`` bytes: news of members first, then of each lane what still fits.

    ``n`` members are in the table, ``known`` to Serf.
    """
    state, messages, finished = take(state, room, n, config)
    if not lanes or not any(lane.queue for lane in lanes):
        return state, lanes, messages, finished
    room -= sum(map(size, messages)) + COMPOUND_PART * len(messages)
    filled = list(lanes)
    for place, lane in enumerate(lanes):
        if not lane.queue or room <= LEAST_ROOM:
            continue
        filled[place], more, done = take(lane, room, known, config, MOST_PARTS - len(messages))
        room -= sum(map(size, more)) + COMPOUND_PART * len(more)
        messages += more
        finished += done
    return state, tuple(filled), messages, finished


def take(
    state: Queue, room: int, n: int, config: Config, most: int = MOST_PARTS
) -> tuple[Queue, tuple[Message, ...], tuple[Effect, ...]]:
    """The next messages, at most ``most``, that fit ``room`` bytes, each counted as sent once more.

    ``room`` includes what a compound adds for each message. Also returns ``Announced`` news
    for broadcasts that this finished.
    """
    queue, place = state.queue, 0
    limit = retransmit_limit(n, config)
    if whole := _whole(queue, room, 1, limit, most):  # the usual case
        return replace(state, queue=whole[0]), whole[1], ()
    picked: list[Broadcast] = []
    kept: list[Broadcast] = []
    while place < len(queue) and len(picked) < most:
        free = room - COMPOUND_PART
        if free <= 0:
            break
        broadcast = queue[place]
        if free + broadcast.shortness >= 0:
            picked.append(broadcast)
            room = free + broadcast.shortness
            place += 1
        else:  # on to the longest that does fit
            fitting = bisect_left(queue, (broadcast.transmits, -free), place, key=_rank)
            kept += queue[place:fitting]
            place = fitting
    if not picked:
        return state, (), ()
    kept += queue[place:]
    named, finished = state.named, []
    for broadcast in picked:
        if broadcast.transmits + 1 < limit:
            insort(kept, replace(broadcast, transmits=broadcast.transmits + 1))
        else:
            named = named.delete(broadcast.name)
            if broadcast.notify:
                finished.append(Then(Announced(broadcast.message)))
    state = replace(state, queue=tuple(kept), named=named)
    return state, tuple([broadcast.message for broadcast in picked]), tuple(finished)


def _whole(
    queue: tuple[Broadcast, ...], room: int, times: int, limit: int, most: int = MOST_PARTS
) -> tuple[tuple[Broadcast, ...], tuple[Message, ...]] | None:
    """The queue after all of it was sent ``times`` times, and what is sent; their order stays.

    None when it does not all fit a packet, or when that would finish some of it.
    """
    if not queue or queue[-1].transmits + times >= limit or len(queue) > most:
        return None
    sent, messages = [], []
    for transmits, shortness, age, name, message, notify in map(astuple, queue):
        room += shortness - COMPOUND_PART
        sent.append(Broadcast(transmits + times, shortness, age, name, message, notify))
        messages.append(message)
    return (tuple(sent), tuple(messages)) if room >= 0 else None


def room_beside(message: Message, config: Config) -> int:
    """Bytes that a packet with ``message`` has left for broadcasts (spec memberlist.md, 2.8)."""
    return config.packet_size - size(message) - COMPOUND_HEADER - envelope(config)


def _rank(broadcast: Broadcast) -> tuple[int, int]:
    return broadcast.transmits, broadcast.shortness


def about(message: Alive | Suspect | Dead | User, arrival: int) -> NodeId:
    """The name under which news displaces older news; the application's displaces none."""
    match message:
        case Alive(_, peer):
            return peer.name
        case User():
            return NodeId(f"\0{arrival}")
        case _:
            return message.node


def cut(lane: Lane, depth: int) -> tuple[Lane, tuple[Effect, ...]]:
    """The lane with no more than ``depth`` broadcasts.

    Dropped are those sent most often, of these the shortest, of these the oldest; whoever waits
    for one is told that it is over.
    """
    dropped = lane.queue[depth:]
    if not dropped:
        return lane, ()
    named = lane.named
    for broadcast in dropped:
        named = named.delete(broadcast.name)
    done = tuple(Then(Announced(each.message)) for each in dropped if each.notify)
    return replace(lane, queue=lane.queue[:depth], named=named), done


def enqueue(
    state: Queue, message: Alive | Suspect | Dead | User, notify: bool
) -> tuple[Queue, tuple[Effect, ...]]:
    """Put news in the queue in place of older news of the same member."""
    name = about(message, state.arrivals + 1)
    queue, age = list(state.queue), state.named.get(name)
    effects: tuple[Effect, ...] = ()
    if age is not None:
        place = next(place for place, older in enumerate(queue) if older.age == age)
        displaced = queue.pop(place)
        if displaced.notify:
            effects = (Then(Announced(displaced.message)),)
    arrivals = state.arrivals + 1
    broadcast = Broadcast(0, -size(message), -arrivals, name, message, notify)
    insort(queue, broadcast)
    named = state.named.set(name, -arrivals)
    return replace(state, arrivals=arrivals, queue=tuple(queue), named=named), effects


def gossip(
    state: Broadcasts,
    lanes: Lanes,
    now: Micros,
    me: NodeId,
    members: Members,
    departed: Map[NodeId, Micros],
    known: int,
    config: Config,
) -> tuple[Broadcasts, Lanes, tuple[Effect, ...]]:
    """Send what fits to a few random members; each of them costs one transmission."""
    if not state.queue and not has_news(state, lanes):
        return replace(state, ticking=False), lanes, ()
    again = _next_tick(state, now, config)
    if members.present <= 1 and not members.others_present(me) and not members.count(DEAD):
        return state, lanes, (again,)
    fresh = now - config.gossip_to_the_dead_time

    def hears_gossip(member: Member) -> bool:
        status = member.status
        if status < DEAD:
            return member.peer.name != me
        return status == DEAD and departed[member.peer.name] >= fresh and member.peer.name != me

    chosen, rng = members.sample(state.rng, config.gossip_nodes, hears_gossip)
    room = config.packet_size - COMPOUND_HEADER - envelope(config)
    n = len(members.records)
    effects: list[Effect] = []
    if not lanes and (
        whole := _whole(state.queue, room, len(chosen), retransmit_limit(n, config))
    ):  # the usual case: the same for all of them
        queue, messages = whole
        for member in chosen:
            peer = member.peer
            effects.append(Send(peer.address, messages, peer.vsn[1] >= CRC_SINCE))
        effects.append(again)
        return replace(state, rng=rng, queue=queue), lanes, tuple(effects)
    state = replace(state, rng=rng)
    for member in chosen:
        state, lanes, messages, finished = load(state, lanes, room, n, known, config)
        if not messages:
            break
        crc = member.peer.vsn[1] >= CRC_SINCE
        effects.append(Send(member.peer.address, messages, crc))
        effects.extend(finished)
    if not has_news(state, lanes):
        return replace(state, ticking=False), lanes, tuple(effects)
    return state, lanes, (*effects, again)


def has_news(state: Broadcasts, lanes: Lanes) -> bool:
    """Whether anything waits to be said."""
    return bool(state.queue) or any(lane.queue for lane in lanes)


def _next_tick(state: Broadcasts, now: Micros, config: Config) -> After:
    """The ticker fires on its grid even when this tick came late."""
    interval = config.gossip_interval
    return After(interval - (now - state.origin) % interval, _TICK)
