"""Two members with one name: the others vote on whose it is (spec serf.md, 2.14).

A node that hears of another with its own name asks everybody whom they know by it. Serf's
claimant ends itself unless a majority of those who answer name it; so with nobody else there,
and in other ties, both end. Here a claimant gives way only when more than half of *all* others
that it could ask name somebody else. No member votes for two, so two claimants that know of the
same others cannot both lose, however many answers are lost on the way.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from swimsim.config import Config
from swimsim.effects import Conflict, Effect, Emit, NameContested, Noted, Then
from swimsim.inputs import Answer, AnswerInternal, AnswersEnd, Ask, AskQuery, InternalQuery
from swimsim.member import Peer
from swimsim.serf.messages import ConflictResponse, MemberInfo
from swimsim.wire import serf
from swimsim.wire.errors import WireError

NAME = "_serf_conflict"


class Vote(Struct, frozen=True, gc=False):
    """The vote that is being held, and how it stands."""

    asking: bool = False
    voters: int = 0  # members that could be asked
    votes: int = 0  # those who know somebody by the name
    matching: int = 0  # those who know this node by it


Step: TypeAlias = tuple[Vote, tuple[Effect, ...]]


def contested(state: Vote, news: Conflict, me: Peer, voters: int, config: Config) -> Step:
    """Two addresses claim one name; if it is this node's, have the others vote."""
    existing, other = news.existing, news.other
    if existing.name != me.name:
        claims = f"both {existing.address} and {other.address} are claiming"
        noted = Noted("WARN", f"serf: Name conflict for '{existing.name}' {claims}")
        return state, (Emit(noted),)
    if state.asking:
        return state, ()
    enabled = "true" if config.name_conflict_resolution else "false"
    text = (
        f"serf: Node name conflicts with another node at {other.address}. "
        f"Names must be unique! (Resolution enabled: {enabled})"
    )
    if not config.name_conflict_resolution:
        return state, (Emit(Noted("ERR", text)),)
    payload = me.name.encode("utf-8", "surrogateescape")
    ask = Ask("conflict", AskQuery(0, NAME, payload))
    return Vote(asking=True, voters=voters), (Emit(Noted("ERR", text)), Then(ask))


def vote(query: InternalQuery, known: MemberInfo | None) -> tuple[Effect, ...]:
    """Answer whom this node knows by the name that two claim."""
    response = serf.encode(ConflictResponse(known))
    return (Then(AnswerInternal(query.ltime, query.query_id, response)),)


def voted(state: Vote, answer: Answer, me: Peer) -> Step:
    """One member says whom it knows."""
    try:
        said = serf.decode(answer.payload or b"")
    except WireError:
        return state, ()
    if not state.asking or not isinstance(said, ConflictResponse) or said.member is None:
        return state, ()
    matching = state.matching + (said.member.address == me.address)
    return replace(state, votes=state.votes + 1, matching=matching), ()


def ended(state: Vote, end: AnswersEnd) -> Step:
    """The vote is over: stay, or tell the owner that the name is lost."""
    if not state.asking:
        return state, ()
    if end.refusal:
        text = f"serf: Failed to start name resolution query: {end.refusal}"
        return Vote(), (Emit(Noted("ERR", text)),)
    votes, matching = state.votes, state.matching
    lost = 2 * (votes - matching) > state.voters
    verdict = Noted("INFO", f"serf: majority in name conflict resolution [{matching} / {votes}]")
    if lost:
        text = f"serf: minority in name conflict resolution, quiting [{matching} / {votes}]"
        verdict = Noted("WARN", text)
    elif votes < state.voters and 2 * matching <= votes:
        text = f"serf: no majority in name conflict resolution, staying [{matching} / {votes}]"
        verdict = Noted("WARN", text)
    return Vote(), (Emit(verdict), Emit(NameContested(lost, matching, votes)))
