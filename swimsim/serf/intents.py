"""Join and leave intents against news of the membership (spec serf.md, 2.6, 2.7, 2.9, 2.10).

To memberlist a farewell and a death look alike from afar; to Serf a member has *left* if it said
so beforehand, in a leave intent. Lamport times order the intents about one member: one that is
not newer than the last is old news, and a newer one is repeated, so intents spread by gossip.

Intents and members race each other. An intent about somebody unknown is kept for a while, in
case the member is only late; a member that was thought failed has left when its intent, or
somebody's force-leave, arrives after all; and whoever hears that it is leaving, and is not,
refutes with a join intent.

Two rules differ from Serf's. A member whose own farewell was heard has left, whether or not its
intent was: nobody else can have said it. And to prune a member that is still leaving does not
stop the node for six seconds: it is looked at again after them, and forgotten only if it has
left by then; a member that refuted meanwhile stays.
"""

from __future__ import annotations

from typing import TypeAlias

from immutables import Map
from msgspec import Struct
from msgspec.structs import replace

from swimsim.config import Config
from swimsim.effects import (
    After,
    Effect,
    Emit,
    Failed,
    Joined,
    Left,
    MemberChanged,
    RequestDone,
    RequestRefused,
    Then,
    Updated,
)
from swimsim.inputs import (
    Erased,
    ForceLeave,
    PruneDue,
    ReapDue,
    Regained,
    RequestTimeout,
    SayFarewell,
    Tell,
)
from swimsim.member import LEFT, SUSPECT, Peer
from swimsim.members import Members
from swimsim.messages import User
from swimsim.serf import lamport
from swimsim.serf.messages import (
    STATUS_ALIVE,
    STATUS_FAILED,
    STATUS_LEAVING,
    STATUS_LEFT,
    JoinIntent,
    LeaveIntent,
    SerfState,
)
from swimsim.serf.standings import PLAIN, Standing, Standings
from swimsim.terms import LamportTime, Micros, NodeId, RequestId
from swimsim.wire import serf

MembershipNews: TypeAlias = Joined | Updated | Failed | Left


class Recent(Struct, frozen=True, gc=False):
    """An intent about somebody unknown."""

    leaves: bool
    ltime: LamportTime
    heard: Micros


class Intents(Struct, frozen=True, gc=False):
    """The clock of intents, how the members stand, and what was said of strangers."""

    clock: LamportTime = 1
    standings: Standings = Standings()
    recent: Map[NodeId, Recent] = Map()
    swept: Micros = 0  # when ``recent`` was last rid of what is too old
    forced: Map[bytes, RequestId] = Map()  # force-leaves that are being told, by their bytes
    farewell: bytes = b""  # this node's own leave intent, while it is being told


Step: TypeAlias = tuple[Intents, tuple[Effect, ...]]
Heard: TypeAlias = tuple[Intents, tuple[Effect, ...], bool]
"""The state after a message, what it entails, and whether it is worth repeating."""


class Here(Struct, frozen=True, gc=False):
    """What intents are judged by, beside their own state."""

    now: Micros
    me: Peer
    living: bool  # this node has not begun to leave
    members: Members
    config: Config


# --- messages ----------------------------------------------------------------------------


def hear(state: Intents, said: JoinIntent | LeaveIntent, here: Here) -> Heard:
    """Take in one intent."""
    state = replace(state, clock=lamport.witness(state.clock, said.ltime))
    known = state.standings.get(said.node, here.members)
    if known is None:
        state, is_news = _remember(state, said, here)
        return state, (), is_news
    if said.ltime <= known.ltime:
        return state, (), False
    if isinstance(said, JoinIntent):
        status = STATUS_ALIVE if known.status == STATUS_LEAVING else known.status
        return _put(state, said.node, replace(known, status=status, ltime=said.ltime)), (), True
    if said.node == here.me.name and here.living:
        state, effects = announce(state, here)
        return state, effects, False
    state, effects = _leaves(state, said, known, here)
    return state, effects, True


def merge(state: Intents, told: SerfState, here: Here) -> Step:
    """Take in what a peer knows of everybody. Nothing of it is repeated."""
    times = dict(told.status_ltimes or ())
    left = told.left_members or ()
    clock = lamport.witness_clock(state.clock, told.ltime)
    if times:
        clock = lamport.witness(clock, max(times.values()))
    state = replace(state, clock=clock)
    effects: tuple[Effect, ...] = ()
    for name in left:
        ltime = min(times.pop(name, 0) + 1, lamport.LAST)
        state, more, _ = hear(state, LeaveIntent(ltime, name), here)
        effects += more
    about, slots = state.standings.about, here.members.slots
    for name, ltime in times.items():
        known = about.get(name)
        if ltime <= known.ltime if known is not None else ltime == 0 and name in slots:
            continue  # nearly always
        state, more, _ = hear(state, JoinIntent(ltime, name), here)
        effects += more
    return state, effects


def announce(state: Intents, here: Here) -> Step:
    """Say that this node has come, or is still here."""
    said = JoinIntent(state.clock, here.me.name)
    state, effects, _ = hear(state, said, here)
    return state, (*effects, Then(Tell("intents", User(serf.encode(said)))))


def announce_leave(state: Intents, here: Here, *, alone: bool) -> Step:
    """Say that this node is about to leave, if anybody is there to hear it."""
    state, said, effects = _leave_intent(state, here.me.name, False, replace(here, living=False))
    if alone:
        return state, effects
    state = replace(state, farewell=said.payload)
    return state, (*effects, Then(Tell("intents", said, notify=True)))


# --- news of the membership ----------------------------------------------------------------


def on_news(state: Intents, news: MembershipNews, here: Here) -> Step:
    """Follow what SWIM believes of a member now."""
    match news:
        case Joined(peer):
            return _joined(state, peer, here)
        case Updated(peer):
            return state, (Emit(MemberChanged("update", peer)),)
        case Failed(node) | Left(node):
            return _gone(state, here.members[node].peer, isinstance(news, Left), here)


def _joined(state: Intents, peer: Peer, here: Here) -> Step:
    known = state.standings.about.get(peer.name)
    if known is None:
        recent = _recent(state, peer.name, here)
        if recent is not None:
            status = STATUS_LEAVING if recent.leaves else STATUS_ALIVE
            state = _put(state, peer.name, Standing(status, recent.ltime))
        return state, (Emit(MemberChanged("join", peer)),)
    short = here.now - known.since < here.config.flap_timeout
    flap = known.status == STATUS_FAILED and short
    state = _put(state, peer.name, Standing(STATUS_ALIVE, known.ltime))
    return state, (Emit(MemberChanged("join", peer, flap)),)


def _gone(state: Intents, peer: Peer, said_farewell: bool, here: Here) -> Step:
    name = peer.name
    known = state.standings.about.get(name, PLAIN)
    left = said_farewell or known.status == STATUS_LEAVING
    status = STATUS_LEFT if left else STATUS_FAILED
    state = _put(state, name, Standing(status, known.ltime, here.now, peer))
    told: tuple[Effect, ...] = (Emit(MemberChanged("leave" if left else "failed", peer)),)
    if left:
        told = (Then(Regained(name)), *told)  # it need not be looked for
    if name == here.me.name:
        return state, told
    return state, (*told, _reap_later(name, status, here.now, here))


def settle(state: Intents, here: Here) -> Step:
    """Take over a group in which some are gone already."""
    effects: tuple[Effect, ...] = ()
    if here.members.present == len(here.members):
        return state, effects
    for member in here.members:
        if member.status > SUSPECT:
            name, status = member.peer.name, STATUS_FAILED
            if member.status == LEFT:
                status = STATUS_LEFT
            state = _put(state, name, Standing(status, 0, here.now, member.peer))
            effects = (*effects, _reap_later(name, status, here.now, here))
    return state, effects


# --- to make somebody leave, and to forget ---------------------------------------------------


def force_leave(state: Intents, ask: ForceLeave, here: Here) -> Step:
    """Tell everybody that a member has left; to forget one that is alive must be forced."""
    known = state.standings.get(ask.node, here.members)
    if ask.prune and not ask.force and known is not None and known.status == STATUS_ALIVE:
        reason = f"member {ask.node} is alive and would refute: not pruned unless forced"
        return state, (Emit(RequestRefused(ask.request, reason)),)
    state, said, effects = _leave_intent(state, ask.node, ask.prune, here)
    if not here.members.others_present(here.me.name):
        return state, (*effects, Emit(RequestDone(ask.request)))
    state = replace(state, forced=state.forced.set(said.payload, ask.request))
    return state, (
        *effects,
        Then(Tell("intents", said, notify=True)),
        After(here.config.broadcast_timeout, RequestTimeout(ask.request)),
    )


def said(state: Intents, message: User) -> Step:
    """An intent has been told as often as it will be: a force-leave, or this node's own."""
    if message.payload == state.farewell:
        return replace(state, farewell=b""), (Then(SayFarewell()),)
    request = state.forced.get(message.payload)
    if request is None:  # nobody waits for it any more
        return state, ()
    state = replace(state, forced=state.forced.delete(message.payload))
    return state, (Emit(RequestDone(request)),)


def timed_out(state: Intents, request: RequestId) -> Step:
    """A force-leave has not been told in time."""
    for payload, waiting in state.forced.items():
        if waiting == request:
            refused = RequestRefused(request, "timed out broadcasting node removal")
            return replace(state, forced=state.forced.delete(payload)), (Emit(refused),)
    return state, ()


def prune_due(state: Intents, due: PruneDue, here: Here) -> Step:
    """Forget a member that has left as it was told to; look again if it is still leaving."""
    known = state.standings.about.get(due.node)
    if known is None or known.ltime != due.ltime:
        return state, ()
    if known.status == STATUS_LEFT:
        return _erase(state, due.node, known, here)
    if known.status == STATUS_LEAVING:
        return state, (_prune_later(due.node, due.ltime, here),)
    return state, ()


def reap_due(state: Intents, due: ReapDue, here: Here) -> Step:
    """Forget a member that has been gone for long enough."""
    known = state.standings.about.get(due.node)
    if known is None or known.since != due.since:
        return state, ()
    timeout = _timeouts(here.config).get(known.status)
    if timeout is None or here.now - known.since <= timeout:
        return state, ()
    return _erase(state, due.node, known, here)


def _leave_intent(
    state: Intents, name: NodeId, prune: bool, here: Here
) -> tuple[Intents, User, tuple[Effect, ...]]:
    """Say, to oneself first, that a member leaves."""
    intent = LeaveIntent(state.clock, name, prune)
    state = replace(state, clock=lamport.tick(state.clock))
    state, effects, _ = hear(state, intent, here)
    return state, User(serf.encode(intent)), effects


def _leaves(state: Intents, said: LeaveIntent, known: Standing, here: Here) -> Step:
    """A member is leaving, or has left after all."""
    name = said.node
    effects: tuple[Effect, ...] = ()
    standing = replace(known, ltime=said.ltime)
    if known.status == STATUS_ALIVE:
        standing = replace(standing, status=STATUS_LEAVING)
    elif known.status == STATUS_FAILED:
        assert known.peer is not None
        standing = replace(standing, status=STATUS_LEFT)
        effects = (
            Then(Regained(name)),
            Emit(MemberChanged("leave", known.peer)),
            _reap_later(name, STATUS_LEFT, known.since, here),
        )
    state = _put(state, name, standing)
    if not said.prune or name == here.me.name:
        return state, effects
    if standing.status == STATUS_LEAVING:
        return state, (*effects, _prune_later(name, said.ltime, here))
    state, erased = _erase(state, name, standing, here)
    return state, effects + erased


def _erase(state: Intents, name: NodeId, known: Standing, here: Here) -> Step:
    assert known.peer is not None
    state = replace(state, standings=state.standings.remove(name))
    reaped = Emit(MemberChanged("reap", known.peer))
    return state, (Then(Regained(name)), Then(Erased(name)), reaped)


def _prune_later(name: NodeId, ltime: LamportTime, here: Here) -> After:
    wait = here.config.broadcast_timeout + here.config.leave_propagate_delay
    return After(wait, PruneDue(name, ltime))


def _reap_later(name: NodeId, status: int, since: Micros, here: Here) -> After:
    """At the first tick of the reaper at which the member has been gone for too long."""
    interval = here.config.reap_interval
    over = since + _timeouts(here.config)[status] + 1
    tick = -(-over // interval) * interval
    return After(max(0, tick - here.now), ReapDue(name, since))


def _timeouts(config: Config) -> dict[int, Micros]:
    return {STATUS_FAILED: config.reconnect_timeout, STATUS_LEFT: config.tombstone_timeout}


# --- strangers -----------------------------------------------------------------------------


def _remember(state: Intents, said: JoinIntent | LeaveIntent, here: Here) -> tuple[Intents, bool]:
    """Keep an intent about a stranger, if it is the newest about it and there is room."""
    config = here.config
    known = _recent(state, said.node, here)
    if known is not None and said.ltime <= known.ltime:
        return state, False
    recent = state.recent
    if said.node not in recent and len(recent) >= config.recent_intent_limit:
        if here.now - state.swept < config.reap_interval:
            return state, False
        kept = {name: each for name, each in recent.items() if not _is_old(each, here)}
        recent = Map(kept)
        state = replace(state, recent=recent, swept=here.now)
        if len(recent) >= config.recent_intent_limit:
            return state, False
    heard = Recent(isinstance(said, LeaveIntent), said.ltime, here.now)
    return replace(state, recent=recent.set(said.node, heard)), True


def _recent(state: Intents, name: NodeId, here: Here) -> Recent | None:
    known = state.recent.get(name)
    return None if known is None or _is_old(known, here) else known


def _is_old(recent: Recent, here: Here) -> bool:
    return here.now - recent.heard > here.config.recent_intent_timeout


def _put(state: Intents, name: NodeId, standing: Standing) -> Intents:
    return replace(state, standings=state.standings.put(name, standing))
