"""Why a node believes what it believes of a member: the chain of inputs that led there.

A replay (``swimsim.journal``) has the node before and after every input. An input belongs to the
story of a member when it changed the member's record, its suspicion or the probe round that is
about it, or when it tells of an attempt to reach it. Rounds that it answered in time are counted
and not told one by one. What stands here is what the node could know: what came, from whom, what
followed, and how far the node could trust its own eyes by then (its health score).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct

from swimsim.effects import Conflict, Emit, Exchange, Send
from swimsim.inputs import (
    Exchanged,
    ExchangeFailed,
    ExchangeRequested,
    Join,
    Leave,
    ProbeTick,
    ProbeTimeout,
    Received,
    ReconnectTick,
    Start,
    SuspicionTimeout,
    UpdateMeta,
)
from swimsim.journal import LIFE, ROTATION, START, Replayed
from swimsim.member import Member
from swimsim.members import Members
from swimsim.messages import Ack, Alive, Dead, IndirectPing, Message, Nack, PushPull, Suspect
from swimsim.node import Node
from swimsim.swim.probe import Round
from swimsim.swim.suspicion import Suspicion
from swimsim.terms import MS, SECOND, U32, Address, Micros, NodeId

LATE = 100 * MS  # a timer that fires so much later tells that the node stood still

Kind: TypeAlias = Literal["opens", "answered", "telling"]


class Entry(Struct, frozen=True, gc=False):
    """One input that mattered to the member."""

    number: int
    now: Micros
    health: int  # the node's own score after it; 0 is healthy
    status: str  # of the member after it
    arrived: str  # what happened, and from whom it came
    changed: tuple[str, ...]  # what followed


class Finding(NamedTuple):
    """One thing that followed; what goes as it should is not told each time."""

    text: str
    kind: Kind = "telling"


class Noted(NamedTuple):
    """An entry, and of what kinds its findings are."""

    entry: Entry
    kinds: tuple[Kind, ...]


class Watch(NamedTuple):
    """What the story must remember from one input to the next."""

    member: NodeId
    peers: Mapping[int, Address]  # whom each open exchange is with
    began: Micros  # the round in flight


def story(steps: Iterable[Replayed], member: NodeId) -> Iterator[Entry]:
    """What led to the member's present status, in the order in which it happened."""
    calm: list[Noted] = []
    for noted in _noted(steps, member):
        if "telling" in noted.kinds:
            yield from _condensed(calm)
            calm = []
            yield noted.entry
        else:
            calm.append(noted)
    yield from _condensed(calm)


def standing(node: Node, member: NodeId) -> str:
    """What a node believes of a member, in a line."""
    known = node.members.get(member)
    if known is None:
        return "unknown"
    words = f"{_status(known)}, incarnation {known.incarnation}"
    suspicion = node.membership.suspicions.get(member)
    if suspicion is not None:
        return f"{words}, suspected by {_listed(suspicion.accusers)}, {_end(suspicion)}"
    since = node.membership.departed.get(member)
    return words if since is None else f"{words}, since {at(since)}"


def at(time: Micros) -> str:
    """An instant of the node's clock, as people read it."""
    return f"{time / SECOND:.6f} s"


# --- which inputs matter -----------------------------------------------------------------


def _noted(steps: Iterable[Replayed], member: NodeId) -> Iterator[Noted]:
    watch = Watch(member, {}, 0)
    for step in steps:
        if step.resumed:
            watch = Watch(member, {}, step.now)
            yield _resumption(step, member)
        found = tuple(_findings(step, watch))
        if found:
            status = _status(step.after.members.get(member))
            entry = Entry(
                step.number,
                step.now,
                step.after.health,
                status,
                _arrival(step, watch),
                tuple(each.text for each in found),
            )
            yield Noted(entry, tuple(each.kind for each in found))
        watch = _watched(watch, step)


def _watched(watch: Watch, step: Replayed) -> Watch:
    peers = {each.exchange: each.to for each in step.effects if isinstance(each, Exchange)}
    if peers or isinstance(step.input, Exchanged | ExchangeFailed):
        peers = {**watch.peers, **peers}
        if isinstance(step.input, Exchanged | ExchangeFailed):
            peers.pop(step.input.exchange, None)
        watch = watch._replace(peers=peers)
    is_new = _seq_no(step.before.probe.round) != _seq_no(step.after.probe.round)
    return watch._replace(began=step.now) if is_new else watch


def _resumption(step: Replayed, member: NodeId) -> Noted:
    """Where the node is seen for the first time, or again after a gap."""
    node = step.before
    status = _status(node.members.get(member))
    found = f"{member} is {standing(node, member)}"
    came = _BEGINNINGS.get(step.resumed, f"the journal goes on: {step.resumed}")
    entry = Entry(step.number, step.now, node.health, status, came, (found,))
    return Noted(entry, ("telling",))


_BEGINNINGS = {
    START: "the recording begins",
    ROTATION: "the files begin",
    LIFE: "the node lives anew",
}


def _condensed(calm: list[Noted]) -> Iterator[Entry]:
    """Rounds that went well, as one entry; the last one may still be open."""
    last = calm.pop() if calm and calm[-1].kinds[-1] == "opens" else None
    answers = [noted.entry for noted in calm if "answered" in noted.kinds]
    if len(answers) > 1:
        end = answers[-1]
        found = f"the last of {len(answers)} rounds that it answered since {at(answers[0].now)}"
        yield Entry(end.number, end.now, end.health, end.status, end.arrived, (found,))
    else:
        yield from (noted.entry for noted in calm)
    if last is not None:
        yield last.entry


# --- what followed -----------------------------------------------------------------------


def _findings(step: Replayed, watch: Watch) -> Iterator[Finding]:
    member, before, after = watch.member, step.before, step.after
    if step.raised:
        yield Finding(f"step raised {step.raised}")
        return
    mine = member == after.name
    findings = [
        *_of_rounds(step, watch),
        *_of_streams(step, watch),
        *_of_records(before.members.get(member), after.members.get(member), mine),
        *_of_suspicions(
            before.membership.suspicions.get(member), after.membership.suspicions.get(member)
        ),
        *_of_conflicts(step, member),
    ]
    if before.health != after.health and (findings or mine):
        findings.append(_of_health(step, member))
    yield from findings


def _of_health(step: Replayed, member: NodeId) -> Finding:
    words = f"own health {step.before.health} -> {step.after.health}"
    round_ = step.before.probe.round
    if (
        round_ is None
        or round_.target == member
        or _seq_no(step.after.probe.round) == round_.seq_no
    ):
        return Finding(words)
    became = "was answered" if _answers(step, round_) else "failed"
    return Finding(f"{words}: round {round_.seq_no} of {round_.target} {became}")


def _of_records(known: Member | None, new: Member | None, mine: bool) -> Iterator[Finding]:
    if known is new or known == new:
        return
    if known is None or new is None:
        if new is not None:
            yield Finding(
                f"now a member: {_status(new)}, incarnation {new.incarnation}, {new.peer.address}"
            )
        else:
            yield Finding("forgotten")
        return
    incarnation = f"incarnation {new.incarnation}"
    if known.incarnation != new.incarnation:
        incarnation = f"incarnation {known.incarnation} -> {new.incarnation}"
    if known.status != new.status:
        yield Finding(f"{_status(known)} -> {_status(new)}, {incarnation}")
    elif known.incarnation != new.incarnation:
        yield Finding(f"{'refuted' if mine else 'still ' + _status(new)}, {incarnation}")
    old, now = known.peer, new.peer
    for what, before, after in (
        ("address", old.address, now.address),
        ("metadata", repr(old.meta), repr(now.meta)),
        ("versions", list(old.vsn), list(now.vsn)),
    ):
        if before != after:
            yield Finding(f"{what} {before} -> {after}")


def _of_suspicions(known: Suspicion | None, new: Suspicion | None) -> Iterator[Finding]:
    if new is None or known == new:  # what becomes of a suspicion is in the record
        return
    if known is None or known.started != new.started:
        yield Finding(f"suspected by {_listed(new.accusers)}: {_end(new)}")
        return
    confirmed = len(new.accusers) - 1
    yield Finding(
        f"{new.accusers[-1]} confirms, {confirmed} of {new.wanted}: "
        f"dead at {at(new.deadline)} instead of {at(known.deadline)}"
    )


def _end(suspicion: Suspicion) -> str:
    """When a suspicion will be believed."""
    words = f"dead at {at(suspicion.deadline)} unless it refutes"
    missing = suspicion.wanted + 1 - len(suspicion.accusers)
    if missing <= 0:
        return words
    accusers = "1 more accuser" if missing == 1 else f"{missing} more accusers"
    return f"{words}, at {at(suspicion.started + suspicion.least)} with {accusers}"


def _of_conflicts(step: Replayed, member: NodeId) -> Iterator[Finding]:
    for each in step.effects:
        if isinstance(each, Emit) and isinstance(each.event, Conflict):
            existing, other = each.event.existing, each.event.other
            if existing.name == member:
                yield Finding(
                    f"{other.address} claims its name: ignored, {existing.address} has it"
                )


# --- probe rounds ------------------------------------------------------------------------


def _of_rounds(step: Replayed, watch: Watch) -> Iterator[Finding]:
    old, new = step.before.probe.round, step.after.probe.round
    if old is new:
        return
    same = _seq_no(old) == _seq_no(new)
    if old is not None and old.target == watch.member:
        yield from _progress(step, old, new if same else None, watch)
    if new is not None and new.target == watch.member and not same:
        yield Finding(
            f"round {new.seq_no} pings it; failed if there is no answer by {at(new.deadline)}",
            "opens",
        )


def _progress(step: Replayed, old: Round, new: Round | None, watch: Watch) -> Iterator[Finding]:
    """What became of a round in flight, which is over when ``new`` is None."""
    called = f"round {old.seq_no}"
    if old.direct and (new is None or not new.direct) and _asked(step):
        yield Finding(f"{called} had no answer: {_asked(step)}")
    if new is not None:
        if new.nacks_due < old.nacks_due:
            yield Finding(f"{called}: a helper hears nothing of it either")
        if new.stream_acked and not old.stream_acked:
            yield Finding(f"{called}: it answered over a stream, packets may be lost")
    elif _answers(step, old):
        took = f"{called} answered after {(step.now - watch.began) / 1000:.3f} ms"
        if old.direct:
            yield Finding(took, "answered")
        else:
            yield Finding(f"{took}, late or through a helper")
    elif old.stream_acked:
        yield Finding(f"{called} succeeds, by the stream alone")
    else:
        missing = f", {old.nacks_due} of {old.nack_count} nacks missing" if old.nack_count else ""
        yield Finding(f"{called} failed: nobody reached it{missing}")


def _answers(step: Replayed, round_: Round) -> bool:
    """Whether the input holds the ack of this round."""
    return isinstance(step.input, Received) and any(
        isinstance(message, Ack) and message.seq_no == round_.seq_no
        for message in step.input.messages
    )


def _asked(step: Replayed) -> str:
    """Who was asked for help, and whether a stream was opened."""
    sends = (each for each in step.effects if isinstance(each, Send))
    helpers = [
        _name(step.before.members, send.to)
        for send in sends
        if isinstance(send.messages[0], IndirectPing)
    ]
    words = [f"asked {_listed(helpers)} to ping it"] if helpers else []
    if any(isinstance(each, Exchange) and each.exchange <= U32 for each in step.effects):
        words.append("opened a stream to it")
    return " and ".join(words)


def _of_streams(step: Replayed, watch: Watch) -> Iterator[Finding]:
    """Attempts to reach the member over a stream."""
    known = step.before.members.get(watch.member)
    address = None if known is None else known.peer.address
    match step.input:
        case ExchangeFailed(exchange) if watch.peers.get(exchange) == address is not None:
            what = f"round {exchange}" if exchange <= U32 else "push/pull"
            yield Finding(f"{what}: it was not reached over a stream")
        case ReconnectTick():
            lost = step.before.upkeep.reconnect.lost.get(watch.member)
            opened = (each.to for each in step.effects if isinstance(each, Exchange))
            if lost is not None and lost.address in opened:
                yield Finding("tries to reach it again, over a stream")


# --- what arrived ------------------------------------------------------------------------


def _arrival(step: Replayed, watch: Watch) -> str:
    """What happened, as far as it concerns the member, and from whom it came."""
    members, member, input = step.before.members, watch.member, step.input
    match input:
        case Received(source, messages):
            said = [each for each in messages if _concerns(each, member, step.before.probe.round)]
            words = "; ".join(map(_said, said or messages))
            return f"packet from {_named(members, source)}: {words}"
        case ExchangeRequested(_, source, request):
            return f"stream from {_named(members, source)}: {_held(request, member)}"
        case Exchanged(exchange, response):
            whom = _named(members, watch.peers.get(exchange))
            return f"stream to {whom} answered: {_held(response, member)}"
        case ExchangeFailed(exchange, reason):
            return f"stream to {_named(members, watch.peers.get(exchange))} failed: {reason}"
        case SuspicionTimeout(node, started):
            return f"timer: the suspicion of {node} that began at {at(started)} is over"
        case ProbeTimeout(seq_no):
            return f"timer: the direct answer to round {seq_no} is overdue"
        case ProbeTick(due) if step.now - due >= LATE:
            return f"timer: probe tick, {(step.now - due) / SECOND:.3f} s late"
        case ProbeTick():
            return "timer: probe tick"
        case Start() | Join() | Leave() | UpdateMeta():
            return f"owner: {type(input).__name__.lower()}"
        case _:
            return f"timer: {type(input).__name__}"


def _concerns(message: Message, member: NodeId, round_: Round | None) -> bool:
    match message:
        case Suspect(_, node) | Dead(_, node):
            return node == member
        case Alive(_, peer):
            return peer.name == member
        case Ack(seq_no) | Nack(seq_no):
            return round_ is not None and round_.seq_no == seq_no and round_.target == member
        case _:
            return False


def _said(message: Message) -> str:
    match message:
        case Suspect(incarnation, node, source):
            return f"{source} suspects {node}, incarnation {incarnation}"
        case Dead(incarnation, node, source) if node == source:
            return f"{node} has left, incarnation {incarnation}"
        case Dead(incarnation, node, source):
            return f"{node} is dead, incarnation {incarnation}, says {source}"
        case Alive(incarnation, peer):
            return f"{peer.name} is alive, incarnation {incarnation}"
        case Ack(seq_no) | Nack(seq_no):
            return f"{type(message).__name__.lower()} {seq_no}"
        case _:
            return type(message).__name__.lower()


def _held(content: object, member: NodeId) -> str:
    """What the other side of a push/pull believes of the member."""
    if not isinstance(content, PushPull):
        return f"{type(content).__name__.lower()}"
    states = content.states
    if isinstance(states, Members):
        known = states.get(member)
    else:
        known = next((each for each in states if each.peer.name == member), None)
    kind = "a join" if content.join else "a push/pull"
    if known is None:
        return f"{kind}, it does not know {member}"
    return f"{kind}, it holds {member} {_status(known)}, incarnation {known.incarnation}"


# --- words -------------------------------------------------------------------------------


def _status(known: Member | None) -> str:
    return "unknown" if known is None else known.status.name.lower()


def _seq_no(round_: Round | None) -> int | None:
    return None if round_ is None else round_.seq_no


def _name(members: Members, address: Address) -> str:
    """Whose address it is."""
    names = sorted(each.peer.name for each in members if each.peer.address == address)
    return names[0] if names else str(address)


def _named(members: Members, address: Address | None) -> str:
    if address is None:
        return "somebody"
    name = _name(members, address)
    return name if name == str(address) else f"{name} ({address})"


def _listed(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
