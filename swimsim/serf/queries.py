"""Queries: a question to all members, and their answers (spec serf.md, 2.13, 1.5, 1.10).

A query spreads like a user event. Whom its filters let pass acks it, if asked to, and may answer
until its time is over. Acks and answers are single packets straight to the asker, which may be
lost; with a relay factor of r each goes over up to r other members as well. The asker counts
each member once. A query is open until its deadline, even when everybody has answered.

Queries whose names begin with ``_serf_`` are the agents' own (``InternalQuery``): whoever asked
one is told of the answers with ``Answer`` and ``AnswersEnd`` in place of events.
"""

from __future__ import annotations

import math
from typing import TypeAlias

from immutables import Map
from msgspec import Struct
from msgspec.structs import replace

from swimsim import rng
from swimsim.config import Config
from swimsim.effects import (
    After,
    Counted,
    Effect,
    Emit,
    Noted,
    QueryAcked,
    QueryAnswered,
    QueryFinished,
    QueryReceived,
    QueryStarted,
    RequestDone,
    RequestRefused,
    Send,
    Then,
)
from swimsim.inputs import (
    Answer,
    AnswersEnd,
    Asker,
    AskQuery,
    InternalQuery,
    QueryTimeout,
    RespondQuery,
    Tell,
)
from swimsim.member import SUSPECT, Member, Peer
from swimsim.members import Members
from swimsim.messages import User, most_user_bytes
from swimsim.rng import Rng
from swimsim.serf import lamport, patterns
from swimsim.serf.messages import (
    ACK_FLAG,
    NO_BROADCAST_FLAG,
    STATUS_ALIVE,
    Filter,
    NodeFilter,
    Query,
    QueryResponse,
    Relay,
    TagFilter,
)
from swimsim.serf.metadata import tags_of
from swimsim.serf.standings import Standings
from swimsim.terms import Address, LamportTime, Micros, NodeId
from swimsim.wire import serf
from swimsim.wire.errors import WireError

INTERNAL = "_serf_"
PING = "_serf_ping"
QUERIES_SINCE = 4  # Serf protocol version from which a member asks
RELAY_SINCE = 5  # memberlist protocol version from which a member relays
MOST_REPLIES = 64  # of one query, or four times the members if that is more
MOST_ANSWERABLE = 512  # queries that the owner may still answer
LONGEST: Micros = 1 << 50  # 36 years; no deadline is later than that from now
REFUSED = "failed to respond to key query: "  # of any query: Serf's own words


class Open(Struct, frozen=True, gc=False):
    """A query of this node's own whose time is not over."""

    asker: Asker
    request: int  # the owner's number, or the mechanism's
    query_id: int
    deadline: Micros
    acked: Map[NodeId, bool] = Map()
    answered: Map[NodeId, bool] = Map()


class Asked(Struct, frozen=True, gc=False):
    """A query that this node may answer."""

    query: Query
    deadline: Micros
    responded: bool = False


class Slot(Struct, frozen=True, gc=False):
    """The queries of one Lamport time."""

    ltime: LamportTime
    ids: tuple[int, ...]


class Queries(Struct, frozen=True, gc=False):
    """The clock of queries, the ring of those heard, the open ones and the answerable ones."""

    rng: Rng
    clock: LamportTime = 1
    least: LamportTime = 0  # queries from before are not told
    ring: Map[int, Slot] = Map()  # by time modulo its length
    open: Map[LamportTime, Open] = Map()
    asked: Map[tuple[LamportTime, int], Asked] = Map()


class Here(Struct, frozen=True, gc=False):
    """What queries are judged by, beside their own state."""

    now: Micros
    me: Peer
    members: Members
    standings: Standings
    config: Config


Step: TypeAlias = tuple[Queries, tuple[Effect, ...]]
Heard: TypeAlias = tuple[Queries, tuple[Effect, ...], bool]


def default_timeout(members: Members, config: Config) -> Micros:
    """How long a query of this group is open when its asker does not say."""
    scale = math.ceil(math.log10(members.present + 1))
    return config.gossip_interval * config.query_timeout_mult * scale


# --- asking ------------------------------------------------------------------------------


def ask(state: Queries, asker: Asker, wanted: AskQuery, here: Here) -> Step:
    """Ask everybody, oneself first; refused when it is too long, or not for owners to ask."""
    timeout = wanted.timeout or default_timeout(here.members, here.config)
    chosen: list[Filter] = [NodeFilter(wanted.nodes)] if wanted.nodes else []
    chosen += [TagFilter(tag, expression) for tag, expression in wanted.tags]
    number, rng_ = rng.below(state.rng, 1 << 31)
    query = Query(
        state.clock,
        number,
        here.me.address,
        here.me.name,
        wanted.name,
        timeout * 1000,
        wanted.payload,
        tuple(map(serf.encode_filter, chosen)) or None,
        ACK_FLAG if wanted.ack else 0,
        wanted.relay_factor if 0 <= wanted.relay_factor <= 255 else 0,
    )
    message = serf.encode(query)
    reason = _refusal(asker, wanted, len(message), here)
    if reason:
        refused = Emit(RequestRefused(wanted.request, reason))
        return state, (Then(AnswersEnd(asker, wanted.request, reason)) if asker else refused,)
    deadline = here.now + timeout
    opened = Open(asker, wanted.request, number, deadline)
    state = replace(state, rng=rng_, open=state.open.set(query.ltime, opened))
    begun: tuple[Effect, ...] = (After(timeout, QueryTimeout(query.ltime)),)
    if not asker:
        started = QueryStarted(wanted.request, query.ltime, number, deadline)
        begun = (Emit(started), *begun)
    state, effects, _ = hear(state, query, here)
    return state, (*begun, *effects, Then(Tell("queries", User(message))))


def _refusal(asker: Asker, wanted: AskQuery, encoded: int, here: Here) -> str:
    """Why a query cannot be asked, or ""."""
    if here.me.vsn[5] < QUERIES_SINCE:
        return "Feature not supported"
    is_ping = wanted.name == PING and wanted.payload is None
    if not asker and wanted.name.startswith(INTERNAL) and not is_ping:
        return f"Queries cannot contain the '{INTERNAL}' prefix"
    if not 0 <= wanted.relay_factor <= 255:
        return f"the relay factor is {wanted.relay_factor}, expected 0 to 255"
    if not 0 <= wanted.timeout <= LONGEST:
        return f"the timeout is {wanted.timeout} us, expected 0 to {LONGEST}"
    limit, most = here.config.query_size_limit, most_user_bytes(here.config)
    if encoded > limit:
        return f"query exceeds limit of {limit} bytes"
    if encoded > most:
        return f"query has {encoded} bytes and cannot leave: a packet takes {most}"
    return ""


def replied(state: Queries, said: QueryResponse, here: Here) -> Step:
    """An ack or an answer to a query of this node's."""
    opened = state.open.get(said.ltime)
    if opened is None:
        text = f"serf: reply for non-running query (LTime: {said.ltime}, ID: {said.query_id})"
        return state, (Emit(Noted("WARN", f"{text} From: {said.source}")),)
    if opened.query_id != said.query_id:
        ids = f"(Local: {opened.query_id}, Response: {said.query_id})"
        return state, (Emit(Noted("WARN", f"serf: query reply ID mismatch {ids}")),)
    if here.now > opened.deadline:
        return state, ()
    is_ack = bool(said.flags & ACK_FLAG)
    seen, kind = (opened.acked, "acks") if is_ack else (opened.answered, "responses")
    if said.source in seen:
        return state, (Emit(Counted(f"serf.query_duplicate_{kind}")),)
    if len(seen) >= max(MOST_REPLIES, 4 * here.standings.known(here.members)):
        return state, (Emit(Noted("WARN", "serf: too many replies to one query, dropping")),)
    seen = seen.set(said.source, True)
    opened = replace(opened, acked=seen) if is_ack else replace(opened, answered=seen)
    state = replace(state, open=state.open.set(said.ltime, opened))
    counted = Emit(Counted(f"serf.query_{kind}"))
    if is_ack:
        told = () if opened.asker else (Emit(QueryAcked(opened.request, said.source)),)
        return state, (counted, *told)
    if opened.asker:
        answer = Answer(opened.asker, opened.request, said.source, said.payload)
        return state, (counted, Then(answer))
    return state, (counted, Emit(QueryAnswered(opened.request, said.source, said.payload)))


def timed_out(state: Queries, ltime: LamportTime) -> Step:
    """The time of a query of this node's is over."""
    opened = state.open.get(ltime)
    if opened is None:
        return state, ()
    state = replace(state, open=state.open.delete(ltime))
    if opened.asker:
        return state, (Then(AnswersEnd(opened.asker, opened.request)),)
    return state, (Emit(QueryFinished(opened.request, len(opened.acked), len(opened.answered))),)


# --- being asked --------------------------------------------------------------------------


def hear(state: Queries, query: Query, here: Here) -> Heard:
    """Take in a query, unless it was heard already; whether it is to be repeated."""
    clock = lamport.witness(state.clock, query.ltime)
    if clock != state.clock:
        state = replace(state, clock=clock)
    if query.ltime < state.least:
        return state, (), False
    length = here.config.query_buffer
    if clock > length and query.ltime < clock - length:
        times = f"from time {query.ltime} (current: {clock})"
        noted = Noted("WARN", f"serf: received old query {query.name} {times}")
        return state, (Emit(noted),), False
    place = query.ltime % length
    slot = state.ring.get(place)
    ids = slot.ids if slot is not None and slot.ltime == query.ltime else ()
    if query.query_id in ids or len(ids) >= MOST_ANSWERABLE:
        return state, (), False
    slot = Slot(query.ltime, (*ids, query.query_id))
    state = replace(state, ring=state.ring.set(place, slot))
    repeat = not query.flags & NO_BROADCAST_FLAG
    passes, complaint = _passes(query, here.me)
    if not passes:
        return state, (Emit(Noted("WARN", complaint)),) if complaint else (), repeat
    effects: tuple[Effect, ...] = ()
    if query.flags & ACK_FLAG:
        ack = QueryResponse(query.ltime, query.query_id, here.me.name, ACK_FLAG)
        state, effects, _ = _reply(state, query, serf.encode(ack), here)
    state, told = _told(state, query, here)
    return state, effects + told, repeat


def respond(
    state: Queries, answer: RespondQuery, here: Here
) -> tuple[Queries, tuple[Effect, ...], str]:
    """Answer a query; also why that is refused, or ""."""
    key = answer.ltime, answer.query_id
    asked = state.asked.get(key)
    response = QueryResponse(*key, here.me.name, 0, answer.payload)
    message, limit = serf.encode(response), here.config.query_response_size_limit
    if len(message) > limit:
        return state, (), f"{REFUSED}response exceeds limit of {limit} bytes"
    if asked is not None and asked.responded:
        return state, (), f"{REFUSED}response already sent"
    if asked is None or here.now > asked.deadline:
        return state, (), f"{REFUSED}response is past the deadline"
    state, effects, reason = _reply(state, asked.query, message, here)
    if reason:
        return state, effects, REFUSED + reason
    asked = replace(asked, responded=True)
    return replace(state, asked=state.asked.set(key, asked)), effects, ""


def answered(state: Queries, answer: RespondQuery, here: Here) -> Step:
    """The owner answers a query."""
    state, effects, reason = respond(state, answer, here)
    if reason:
        return state, (*effects, Emit(RequestRefused(answer.request, reason)))
    return state, (*effects, Emit(RequestDone(answer.request)))


def pass_on(relay: Relay) -> tuple[Effect, ...]:
    """Send somebody's message on; it is not looked into."""
    return _send(relay.address, relay.message)


def _told(state: Queries, query: Query, here: Here) -> Step:
    """Tell the owner of a query, or whichever mechanism answers it."""
    deadline = here.now + max(-1, min(query.timeout_ns // 1000, LONGEST))
    asked = _trimmed(state.asked, here.now)
    key = query.ltime, query.query_id
    state = replace(state, asked=asked.set(key, Asked(query, deadline)))
    if query.name.startswith(INTERNAL):
        return state, (Then(InternalQuery(*key, query.name, query.payload)),)
    received = QueryReceived(
        *key, query.name, query.payload, query.source, query.source_node, deadline
    )
    return state, (Emit(received),)


def _trimmed(
    asked: Map[tuple[LamportTime, int], Asked], now: Micros
) -> Map[tuple[LamportTime, int], Asked]:
    """Room for one more: without those whose time is over, looked at when there are many."""
    if len(asked) < MOST_REPLIES:
        return asked
    living = {key: each for key, each in asked.items() if each.deadline >= now}
    if len(living) >= MOST_ANSWERABLE:
        first = min(living, key=lambda key: (living[key].deadline, key))
        del living[first]
    return Map(living)


def _reply(
    state: Queries, query: Query, message: bytes, here: Here
) -> tuple[Queries, tuple[Effect, ...], str]:
    """Send an ack or an answer, straight and over others; why the latter failed, or ""."""
    direct = _send(query.source, message)
    k, members = query.relay_factor, here.members
    if not k or here.standings.known(members) < k + 1:
        return state, direct, ""
    relay = User(serf.encode(Relay(query.source, query.source_node, message)))
    limit = here.config.query_response_size_limit
    if len(relay.payload) > limit:
        return state, direct, f"relayed response exceeds limit of {limit} bytes"
    me, about = here.me.name, here.standings.about

    def can_relay(member: Member) -> bool:
        peer = member.peer
        if peer.name == me or member.status > SUSPECT or peer.vsn[1] < RELAY_SINCE:
            return False
        standing = about.get(peer.name)
        return standing is None or standing.status == STATUS_ALIVE

    chosen, rng_ = members.sample(state.rng, k, can_relay)
    sends = [Send(member.peer.address, (relay,)) for member in chosen]
    return replace(state, rng=rng_), (*direct, *sends), ""


def _send(to: Address, message: bytes) -> tuple[Effect, ...]:
    """One packet, if there is such an address."""
    if len(to.host) not in (4, 16) or not 0 < to.port < 1 << 16 or not message:
        return ()
    return (Send(to, (User(message),)),)


# --- filters -------------------------------------------------------------------------------


def _passes(query: Query, me: Peer) -> tuple[bool, str]:
    """Whether every filter lets this member pass; what is wrong with one that cannot be read."""
    for blob in query.filters or ():
        try:
            chosen = serf.decode_filter(blob)
            if isinstance(chosen, NodeFilter):
                if me.name not in chosen.nodes:
                    return False, ""
            elif not patterns.pattern(chosen.expression).found_in(
                tags_of(me.meta).get(chosen.tag, "")
            ):
                return False, ""
        except (WireError, patterns.PatternError) as error:
            return False, f"serf: failed to read a filter of query {query.name}: {error}"
    return True, ""
