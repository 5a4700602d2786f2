"""Join and leave intents: what a member says it is about to do (spec serf.md, 2.3, 2.7, 2.9).

To memberlist a farewell and a death look alike from afar; to Serf a member has *left* only if it
said so beforehand, in a leave intent that travels as a user message. Lamport times order intents
about one member: each carries the clock of its author, whoever hears one moves its own clock
past it, and one that is not newer than the last about that member is old news. New news is
repeated, so intents spread by the same gossip as everything else.

Only what membership needs is here: this node's own leave intent, its clock, and the repeating.
An intent about somebody who is no member is neither remembered nor repeated, so strangers leave
no trace.
"""

from __future__ import annotations

from typing import TypeAlias, assert_never

from immutables import Map
from msgspec import Struct
from msgspec.structs import replace

from swimsim.config import Config
from swimsim.effects import Effect, Then
from swimsim.inputs import Announce, AnnounceLeave, WitnessState
from swimsim.members import Members
from swimsim.messages import User
from swimsim.serf.messages import JoinIntent, LeaveIntent, SerfState
from swimsim.terms import LamportTime, NodeId
from swimsim.wire import serf
from swimsim.wire.errors import WireError

IntentInput: TypeAlias = User | AnnounceLeave | WitnessState


class Intents(Struct, frozen=True, gc=False):
    """The member clock, and the time of the newest intent about each member that made one."""

    clock: LamportTime = 1
    said: Map[NodeId, LamportTime] = Map()


Step: TypeAlias = tuple[Intents, tuple[Effect, ...]]


def step(state: Intents, input: IntentInput, me: NodeId, members: Members, config: Config) -> Step:
    """Take in one message of Serf's, or say what this node is about to do."""
    if not config.serf:
        return state, ()
    match input:
        case User(payload):
            try:
                said = serf.decode_gossip(payload)
            except WireError:  # a message of another application, or of another time
                return state, ()
            if not isinstance(said, JoinIntent | LeaveIntent):
                return state, ()
            state = _witness(state, said.ltime + 1)
            if said.node == me or said.node not in members.slots:
                return state, ()
            if said.ltime <= state.said.get(said.node, 0):
                return state, ()
            state = replace(state, said=state.said.set(said.node, said.ltime))
            return state, (Then(Announce(input)),)
        case WitnessState(user_state):
            try:
                told = serf.decode(user_state)
            except WireError:
                return state, ()
            return _witness(state, told.ltime if isinstance(told, SerfState) else 0), ()
        case AnnounceLeave():
            intent = User(serf.encode(LeaveIntent(state.clock, me)))
            state = replace(state, clock=state.clock + 1)
            return state, (Then(Announce(intent, notify=True)),)
        case _:
            assert_never(input)


def _witness(state: Intents, time: LamportTime) -> Intents:
    return replace(state, clock=time) if time > state.clock else state
