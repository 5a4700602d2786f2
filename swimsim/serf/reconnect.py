"""Trying to reach the failed again (spec serf.md, section 2.8).

SWIM forgets the dead: nobody probes them, gossip reaches them only for a while, and a network
cut that outlasts that while would split the group for good. Serf remembers whom it has lost
and now and then tries to exchange states with one of them, as in a join. The fewer are left
and the more are lost, the likelier each try is, so that the whole group makes about one
attempt an interval for each lost member, however large it is.

Nobody lost, no tick: the next one is set when somebody fails, at the moment at which a ticker
that never stopped would have fired.
"""

from __future__ import annotations

from typing import TypeAlias, assert_never

from immutables import Map
from msgspec import Struct
from msgspec.structs import replace

from swimsim import rng
from swimsim.config import Config
from swimsim.effects import After, Effect, Exchange
from swimsim.inputs import Lost, ReconnectTick, Regained
from swimsim.members import Members
from swimsim.messages import PushPull
from swimsim.rng import Rng
from swimsim.terms import Address, Micros, NodeId

ReconnectInput: TypeAlias = Lost | Regained | ReconnectTick

FIRST_EXCHANGE = 1 << 33  # exchanges are numbered from here, apart from all other kinds


class Absence(Struct, frozen=True, gc=False):
    """Where a lost member was last heard, and when it was lost."""

    address: Address
    since: Micros


class Reconnect(Struct, frozen=True, gc=False):
    """Whom a node has lost, and the ticker that tries to reach them."""

    rng: Rng
    origin: Micros = 0  # an instant at which the ticker fires; every interval from it is another
    ticking: bool = False  # a ``ReconnectTick`` is on its way
    exchange: int = FIRST_EXCHANGE  # the last one asked for
    lost: Map[NodeId, Absence] = Map()


Step: TypeAlias = tuple[Reconnect, tuple[Effect, ...]]


def step(
    state: Reconnect, now: Micros, input: ReconnectInput, members: Members, config: Config
) -> Step:
    """Take note of a loss or a return, or try to reach somebody."""
    match input:
        case Lost(peer):
            if not config.reconnect_interval:
                return state, ()
            state = replace(state, lost=state.lost.set(peer.name, Absence(peer.address, now)))
            if state.ticking:
                return state, ()
            until = _until_tick(state, now, config)
            return replace(state, ticking=True), (After(until, ReconnectTick()),)
        case Regained(node):
            if node not in state.lost:
                return state, ()
            return replace(state, lost=state.lost.delete(node)), ()
        case ReconnectTick():
            return _on_tick(state, now, members, config)
        case _:
            assert_never(input)


def _on_tick(state: Reconnect, now: Micros, members: Members, config: Config) -> Step:
    lost = state.lost
    for name in sorted(lost):
        if now - lost[name].since > config.reconnect_timeout:
            lost = lost.delete(name)
    state = replace(state, lost=lost, ticking=bool(lost))
    if not lost:
        return state, ()
    again = After(_until_tick(state, now, config), ReconnectTick())
    left = max(1, members.present)
    chance, rng_ = rng.below(state.rng, left)
    if chance >= len(lost):
        return replace(state, rng=rng_), (again,)
    place, rng_ = rng.below(rng_, len(lost))
    target = lost[sorted(lost)[place]].address
    exchange = state.exchange + 1
    state = replace(state, rng=rng_, exchange=exchange)
    request = PushPull(True, members)
    return state, (Exchange(exchange, target, request, config.stream_timeout), again)


def _until_tick(state: Reconnect, now: Micros, config: Config) -> Micros:
    return config.reconnect_interval - (now - state.origin) % config.reconnect_interval
