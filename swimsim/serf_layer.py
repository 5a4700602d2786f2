"""Serf's layer of one member: the state of its mechanisms, and what concerns which of them.

``node`` hands over what is Serf's: user messages, news of the membership, requests, its timers.
Here they are dispatched, and each mechanism is given what it may read of the others. What this
layer wants of the rest of the node (say something, look for somebody no longer) goes back as
news, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from swimsim import rng
from swimsim.config import Config
from swimsim.effects import (
    After,
    Conflict,
    Effect,
    Emit,
    Failed,
    Joined,
    JoinFinished,
    Left,
    Noted,
    SerfNews,
    Then,
    Updated,
    UpdateFinished,
)
from swimsim.inputs import (
    Announced,
    AnnounceLeave,
    Answer,
    AnswerInternal,
    AnswersEnd,
    Ask,
    AskQuery,
    Erased,
    FireEvent,
    ForceLeave,
    InternalQuery,
    Join,
    KeyringAnswered,
    LaneName,
    ManageKeys,
    PruneDue,
    QueryTimeout,
    QueueCheck,
    ReapDue,
    RequestTimeout,
    RespondQuery,
    Restore,
    SerfRequest,
    SetTags,
    Start,
    Tell,
    WitnessState,
)
from swimsim.member import Peer
from swimsim.members import Members
from swimsim.messages import User
from swimsim.rng import Rng
from swimsim.serf import (
    conflict,
    coordinates,
    exchange,
    harm,
    intents,
    keys,
    lamport,
    queries,
    tags,
    user_events,
)
from swimsim.serf.conflict import Vote
from swimsim.serf.coordinates import Coordinates
from swimsim.serf.intents import Intents
from swimsim.serf.keys import Keys
from swimsim.serf.messages import (
    Gossip,
    JoinIntent,
    LeaveIntent,
    Query,
    QueryResponse,
    Relay,
    UserEvent,
)
from swimsim.serf.queries import Queries
from swimsim.serf.tags import Tags
from swimsim.serf.user_events import UserEvents
from swimsim.swim import broadcast
from swimsim.swim.broadcast import Lane
from swimsim.terms import Incarnation, Micros, NodeId
from swimsim.wire import serf
from swimsim.wire.errors import WireError

LANES: tuple[LaneName, ...] = ("intents", "queries", "events")
_LANE_WORDS = ("Intent", "Query", "Event")


class Group(Protocol):
    """What Serf's layer reads of the membership."""

    @property
    def me(self) -> Peer:
        """What this node says of itself."""
        ...

    @property
    def members(self) -> Members:
        """Everybody SWIM knows of."""
        ...

    @property
    def incarnation(self) -> Incarnation:
        """The last that this node used."""
        ...

    @property
    def leaving(self) -> bool:
        """Whether it has said farewell."""
        ...

    @property
    def intent(self) -> Micros | None:
        """Not None while it says that it is about to."""
        ...


class Serf(Struct, frozen=True, gc=False):
    """All that Serf adds to a member. Make one with ``create``."""

    queries: Queries
    coordinates: Coordinates
    intents: Intents = Intents()
    events: UserEvents = UserEvents()
    keys: Keys = Keys()
    vote: Vote = Vote()
    tags: Tags = Tags()
    lanes: tuple[Lane, Lane, Lane] = (Lane(), Lane(), Lane())  # intents, queries, events
    checking: bool = False  # a ``QueueCheck`` is on its way
    quiet: bool = False  # the join under way is followed by no intent
    pinged: Micros = 0  # when the probe round in flight began


Step: TypeAlias = tuple[Serf, tuple[Effect, ...]]


class Here(Struct, frozen=True, gc=False):
    """The moment, and what may be read of the rest of the node."""

    now: Micros
    group: Group
    config: Config


def create(seed: Rng) -> Serf:
    """The layer of a node that has not started."""
    for_queries, seed = rng.fork(seed)
    return Serf(Queries(for_queries), Coordinates(seed))


def reseeded(state: Serf, seed: Rng) -> Serf:
    """The same layer with another source of randomness."""
    fresh = create(seed)
    return replace(
        state,
        queries=replace(state.queries, rng=fresh.queries.rng),
        coordinates=replace(state.coordinates, rng=fresh.coordinates.rng),
    )


def step(state: Serf, now: Micros, input: Any, group: Group, config: Config) -> Step:
    """Advance whichever mechanism ``input`` concerns."""
    return _TRANSITIONS[type(input)](state, input, Here(now, group, config))


def concerns(input: object) -> bool:
    """Whether this is something for Serf's layer."""
    return type(input) in _TRANSITIONS


def known(state: Serf, members: Members) -> int:
    """How many members Serf knows, whatever their status."""
    return state.intents.standings.known(members)


def local_state(state: Serf, group: Group, config: Config) -> bytes:
    """Serf's part of a push/pull."""
    clocks = state.intents.clock, state.events.clock, state.queries.clock
    about = exchange.Known(group.members, state.intents.standings)
    return exchange.local_state(about, clocks, user_events.buffer(state.events, config))


def coordinate(state: Serf) -> bytes:
    """Where this node is, as the acks of direct pings carry it."""
    return serf.encode_coordinate(state.coordinates.mine)


def probed(state: Serf, node: NodeId, now: Micros, payload: bytes) -> Step:
    """The direct probe of ``node`` that began at ``pinged`` was acked with this payload."""
    moved, effects = coordinates.observe(state.coordinates, node, now - state.pinged, payload)
    return replace(state, coordinates=moved), effects


# --- messages ----------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _read(payload: bytes) -> Gossip | None:
    """The message, or None: one of another application, or of another time."""
    try:
        return serf.decode_gossip(payload)
    except WireError:
        return None


def _on_user(state: Serf, message: User, here: Here) -> Step:
    """A message of Serf's; what is news is repeated, byte for byte."""
    said = _read(message.payload)
    if said is not None and (reason := harm.of_message(said)):
        return state, (Emit(Noted("WARN", reason)),)
    match said:
        case JoinIntent() | LeaveIntent():
            changed, effects, is_news = intents.hear(state.intents, said, _for_intents(here))
            state, lane = replace(state, intents=changed), LANES[0]
        case Query():
            asked, effects, is_news = queries.hear(state.queries, said, _for_queries(state, here))
            state, lane = replace(state, queries=asked), LANES[1]
        case UserEvent():
            events, effects, is_news = user_events.hear(state.events, said, here.config)
            state, lane = replace(state, events=events), LANES[2]
        case QueryResponse():
            replied, effects = queries.replied(state.queries, said, _for_queries(state, here))
            return replace(state, queries=replied), effects
        case Relay():
            return state, queries.pass_on(said)
        case None:
            return state, ()
    if is_news:
        effects = (*effects, Then(Tell(lane, message)))
    return state, effects


def _on_state(state: Serf, news: WitnessState, here: Here) -> Step:
    """What a peer sent with a push/pull: clocks, who left, who is there, past events."""
    told = exchange.read(news.user_state)
    reason = told if isinstance(told, str) else harm.of_state(told)
    if isinstance(told, str) or reason:
        return state, (Emit(Noted("ERR", reason)),)
    asked = replace(
        state.queries, clock=lamport.witness_clock(state.queries.clock, told.query_ltime)
    )
    merged, effects = intents.merge(state.intents, told, _for_intents(here))
    events, more = user_events.merge(state.events, told, join=news.join, config=here.config)
    return replace(state, queries=asked, intents=merged, events=events), effects + more


# --- the queues ----------------------------------------------------------------------------


def _on_tell(state: Serf, news: Tell, here: Here) -> Step:
    place = LANES.index(news.lane)
    lane, _ = broadcast.enqueue(state.lanes[place], news.message, news.notify)
    lanes = list(state.lanes)
    lanes[place] = lane
    one, two, three = lanes
    state = replace(state, lanes=(one, two, three))
    if state.checking:
        return state, ()
    wait = After(here.config.queue_check_interval, QueueCheck())
    return replace(state, checking=True), (wait,)


def _on_queue_check(state: Serf, check: QueueCheck, here: Here) -> Step:
    """Warn of queues that have grown long, and cut those that have grown too long."""
    config = here.config
    effects: tuple[Effect, ...] = ()
    most = config.max_queue_depth
    if config.min_queue_depth:
        most = max(config.min_queue_depth, 2 * known(state, here.group.members))
    lanes: list[Lane] = []
    for lane, word in zip(state.lanes, _LANE_WORDS, strict=True):
        depth = len(lane.queue)
        if depth >= config.queue_depth_warning and depth:
            effects = (*effects, Emit(Noted("WARN", f"serf: {word} queue depth: {depth}")))
        if depth > most:
            text = f"serf: {word} queue depth ({depth}) exceeds limit ({most}), dropping messages!"
            effects = (*effects, Emit(Noted("WARN", text)))
        kept, done = broadcast.cut(lane, most)
        lanes.append(kept)
        effects += done
    one, two, three = lanes
    state = replace(state, lanes=(one, two, three), checking=any(lane.queue for lane in lanes))
    if state.checking:
        effects = (*effects, After(config.queue_check_interval, QueueCheck()))
    return state, effects


def _on_announced(state: Serf, news: Announced, here: Here) -> Step:
    """An intent has been told: a force-leave, or this node's own."""
    assert isinstance(news.message, User)
    changed, effects = intents.said(state.intents, news.message)
    return replace(state, intents=changed), effects


# --- news of the membership ----------------------------------------------------------------


def _on_membership(state: Serf, news: intents.MembershipNews, here: Here) -> Step:
    changed, effects = intents.on_news(state.intents, news, _for_intents(here))
    return replace(state, intents=changed), effects


def _on_start(state: Serf, start: Start, here: Here) -> Step:
    if start.members is None:
        return state, ()
    changed, effects = intents.settle(state.intents, _for_intents(here))
    return replace(state, intents=changed), effects


def _on_restore(state: Serf, restore: Restore, here: Here) -> Step:
    """Take up the clocks of an earlier life."""
    member, event, query = restore.clock, restore.event_clock, restore.query_clock
    return replace(
        state,
        intents=replace(state.intents, clock=lamport.witness(state.intents.clock, member)),
        events=replace(
            state.events,
            clock=lamport.witness(state.events.clock, event),
            least=lamport.tick(event),
        ),
        queries=replace(
            state.queries,
            clock=lamport.witness(state.queries.clock, query),
            least=lamport.tick(query),
        ),
    ), ()


def _on_join(state: Serf, join: Join, here: Here) -> Step:
    ignoring = state.events.ignoring or join.ignore_old
    return replace(state, quiet=join.quiet, events=replace(state.events, ignoring=ignoring)), ()


def _on_join_finished(state: Serf, news: JoinFinished, here: Here) -> Step:
    """Say that this node has come, if it has come anywhere."""
    quiet = state.quiet
    state = replace(state, quiet=False, events=replace(state.events, ignoring=False))
    if quiet or not news.contacted:
        return state, ()
    changed, effects = intents.announce(state.intents, _for_intents(here))
    return replace(state, intents=changed), effects


def _on_announce_leave(state: Serf, news: AnnounceLeave, here: Here) -> Step:
    changed, effects = intents.announce_leave(state.intents, _for_intents(here), alone=news.alone)
    return replace(state, intents=changed), effects


def _on_erased(state: Serf, news: Erased, here: Here) -> Step:
    return replace(state, coordinates=coordinates.forget(state.coordinates, news.node)), ()


def _on_updated(state: Serf, news: UpdateFinished, here: Here) -> Step:
    changed, effects = tags.finished(state.tags, news.incarnation)
    return replace(state, tags=changed), effects


def _on_conflict(state: Serf, news: Conflict, here: Here) -> Step:
    me, voters = here.group.me, here.group.members.others_present(here.group.me.name)
    vote, effects = conflict.contested(state.vote, news, me, voters, here.config)
    return replace(state, vote=vote), effects


# --- requests and their timers -----------------------------------------------------------------


def _on_request(state: Serf, ask: SerfRequest, here: Here) -> Step:
    group, config = here.group, here.config
    match ask:
        case FireEvent():
            events, effects = user_events.fire(state.events, ask, config)
            return replace(state, events=events), effects
        case AskQuery():
            return _ask(state, Ask("", ask), here)
        case RespondQuery():
            asked, effects = queries.answered(state.queries, ask, _for_queries(state, here))
            return replace(state, queries=asked), effects
        case SetTags():
            changed, effects = tags.change(
                state.tags, ask, group.me, group.incarnation, config, started=bool(group.members)
            )
            return replace(state, tags=changed), effects
        case ForceLeave():
            forced, effects = intents.force_leave(state.intents, ask, _for_intents(here))
            return replace(state, intents=forced), effects
        case ManageKeys():
            managing, effects = keys.manage(state.keys, ask, group.members.present)
            return replace(state, keys=managing), effects


def _on_request_timeout(state: Serf, late: RequestTimeout, here: Here) -> Step:
    forced, effects = intents.timed_out(state.intents, late.request)
    changed, more = tags.timed_out(state.tags, late.request)
    return replace(state, intents=forced, tags=changed), effects + more


def _on_prune(state: Serf, due: PruneDue, here: Here) -> Step:
    changed, effects = intents.prune_due(state.intents, due, _for_intents(here))
    return replace(state, intents=changed), effects


def _on_reap(state: Serf, due: ReapDue, here: Here) -> Step:
    changed, effects = intents.reap_due(state.intents, due, _for_intents(here))
    return replace(state, intents=changed), effects


# --- queries between mechanisms ------------------------------------------------------------------


def _ask(state: Serf, news: Ask, here: Here) -> Step:
    asked, effects = queries.ask(state.queries, news.asker, news.query, _for_queries(state, here))
    return replace(state, queries=asked), effects


def _on_query_timeout(state: Serf, due: QueryTimeout, here: Here) -> Step:
    asked, effects = queries.timed_out(state.queries, due.ltime)
    return replace(state, queries=asked), effects


def _on_answer(state: Serf, news: Answer, here: Here) -> Step:
    if news.asker == "conflict":
        vote, effects = conflict.voted(state.vote, news, here.group.me)
        return replace(state, vote=vote), effects
    managing, effects = keys.answered(state.keys, news, here.group.members.present)
    return replace(state, keys=managing), effects


def _on_answers_end(state: Serf, news: AnswersEnd, here: Here) -> Step:
    if news.asker == "conflict":
        vote, effects = conflict.ended(state.vote, news)
        return replace(state, vote=vote), effects
    managing, effects = keys.ended(state.keys, news, here.group.members.present)
    return replace(state, keys=managing), effects


def _on_internal_query(state: Serf, query: InternalQuery, here: Here) -> Step:
    """Answer what another agent, not its owner, asks."""
    if query.name == queries.PING:
        return state, ()  # the ack is the answer
    if query.name in keys.QUERIES:
        return state, keys.asked(query)
    if query.name != conflict.NAME:
        noted = Noted("WARN", f"serf: Unhandled internal query '{query.name}'")
        return state, (Emit(noted),)
    name = NodeId((query.payload or b"").decode("utf-8", "surrogateescape"))
    if name == here.group.me.name:
        return state, ()
    known_by = state.intents.standings.info(name, here.group.members)
    return state, conflict.vote(query, known_by)


def _on_answer_internal(state: Serf, news: AnswerInternal, here: Here) -> Step:
    answer = RespondQuery(0, news.ltime, news.query_id, news.payload)
    asked, effects, reason = queries.respond(state.queries, answer, _for_queries(state, here))
    if reason:
        effects = (*effects, Emit(Noted("ERR", f"serf: {reason}")))
    return replace(state, queries=asked), effects


def _on_keyring(state: Serf, answer: KeyringAnswered, here: Here) -> Step:
    return state, keys.changed(answer, here.group.me.name, here.config)


# --- what mechanisms are given to read ---------------------------------------------------------


def _for_intents(here: Here) -> intents.Here:
    group = here.group
    living = not group.leaving and group.intent is None
    return intents.Here(here.now, group.me, living, group.members, here.config)


def _for_queries(state: Serf, here: Here) -> queries.Here:
    group, standings = here.group, state.intents.standings
    return queries.Here(here.now, group.me, group.members, standings, here.config)


_TRANSITIONS: dict[type[SerfNews], Callable[[Serf, Any, Here], Step]] = {
    User: _on_user,
    WitnessState: _on_state,
    Joined: _on_membership,
    Updated: _on_membership,
    Failed: _on_membership,
    Left: _on_membership,
    Conflict: _on_conflict,
    UpdateFinished: _on_updated,
    JoinFinished: _on_join_finished,
    Start: _on_start,
    Restore: _on_restore,
    Join: _on_join,
    AnnounceLeave: _on_announce_leave,
    Announced: _on_announced,
    Erased: _on_erased,
    Tell: _on_tell,
    QueueCheck: _on_queue_check,
    FireEvent: _on_request,
    AskQuery: _on_request,
    RespondQuery: _on_request,
    SetTags: _on_request,
    ForceLeave: _on_request,
    ManageKeys: _on_request,
    RequestTimeout: _on_request_timeout,
    PruneDue: _on_prune,
    ReapDue: _on_reap,
    Ask: _ask,
    Answer: _on_answer,
    AnswersEnd: _on_answers_end,
    InternalQuery: _on_internal_query,
    AnswerInternal: _on_answer_internal,
    QueryTimeout: _on_query_timeout,
    KeyringAnswered: _on_keyring,
}
