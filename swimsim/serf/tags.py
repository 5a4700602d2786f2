"""Tags: what a member says of itself, in its metadata (spec serf.md, 1.6, 2.18).

To change them is to say something new of oneself in the next incarnation, which is membership's
business (``UpdateMeta``). Here is the size check, and who waits until the news is out.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from swimsim.config import Config
from swimsim.effects import After, Effect, Emit, RequestDone, RequestRefused, Then
from swimsim.inputs import META_LIMIT, RequestTimeout, SetTags, UpdateMeta
from swimsim.member import Peer, peer
from swimsim.messages import Alive, most_bytes, size
from swimsim.terms import U32, Incarnation, RequestId
from swimsim.wire import serf


class Tags(Struct, frozen=True, gc=False):
    """The changes that are being told: who waits, and the incarnation that carries it."""

    waiting: tuple[tuple[RequestId, Incarnation], ...] = ()


Step: TypeAlias = tuple[Tags, tuple[Effect, ...]]


def change(
    state: Tags, ask: SetTags, me: Peer, incarnation: Incarnation, config: Config, *, started: bool
) -> Step:
    """Carry these tags from now on; refused when they, or what carries them, are too long."""
    meta = serf.encode_tags(dict(ask.tags), me.vsn[5], limit=None)
    reason = _too_long(meta, me, config)
    if reason:
        return state, (Emit(RequestRefused(ask.request, reason)),)
    update = Then(UpdateMeta(meta))
    if not started:
        return state, (update, Emit(RequestDone(ask.request)))
    waiting = (*state.waiting, (ask.request, incarnation + 1))
    late = After(config.broadcast_timeout, RequestTimeout(ask.request))
    return replace(state, waiting=waiting), (late, update)


def finished(state: Tags, incarnation: Incarnation) -> Step:
    """What this node says of itself in this incarnation has been said, or something newer."""
    done = [each for each in state.waiting if each[1] <= incarnation]
    if not done:
        return state, ()
    waiting = tuple(each for each in state.waiting if each[1] > incarnation)
    told = tuple(Emit(RequestDone(request)) for request, _ in done)
    return replace(state, waiting=waiting), told


def timed_out(state: Tags, request: RequestId) -> Step:
    """The change has not been told in time; it holds all the same."""
    waiting = tuple(each for each in state.waiting if each[0] != request)
    if waiting == state.waiting:
        return state, ()
    refused = RequestRefused(request, "timeout waiting for update broadcast")
    return replace(state, waiting=waiting), (Emit(refused),)


def _too_long(meta: bytes, me: Peer, config: Config) -> str:
    if len(meta) > META_LIMIT:
        most = f"Encoded length of tags exceeds limit of {META_LIMIT} bytes"
        return f"{most}: it is {len(meta)}"
    alive = size(Alive(U32, peer(me.name, me.address, meta, me.vsn)))
    if alive > most_bytes(config):
        told = f"encoded tags have {len(meta)} bytes, and what announces them {alive}"
        return f"{told}: a packet takes {most_bytes(config)}"
    return ""
