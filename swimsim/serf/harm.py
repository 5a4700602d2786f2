"""Well-formed messages that do harm, which a member neither takes in nor passes on.

Serf's agents repeat whatever is news, so one packet of a stranger reaches everybody. Three kinds
are stopped here (tests/vectors/hostile.json has them all):

* a Lamport time that no other follows. Serf's clock goes round to zero; one that stays where it
  is would find everything said afterwards too old;
* a query that Serf 0.9.4 dies of: one with a filter of no bytes, or about a key with no payload;
* a relay of anything but a reply. Members ask for nothing else (spec serf.md, 2.13), and a
  stranger could throw what he likes at whomever he likes, from here.
"""

from __future__ import annotations

from swimsim.serf import lamport
from swimsim.serf.messages import Gossip, Query, QueryResponse, Relay, SerfState
from swimsim.wire import serf
from swimsim.wire.errors import WireError

KEYED = ("_serf_install-key", "_serf_use-key", "_serf_remove-key")


def of_message(said: Gossip) -> str:
    """Why a message must not be taken in, or ""."""
    if isinstance(said, Relay):
        return "" if _is_reply(said.message) else "serf: a relay of something that is no reply"
    if said.ltime >= lamport.LAST:
        return f"serf: {type(said).__name__} at Lamport time {said.ltime}, the last there is"
    if isinstance(said, Query):
        if not all(said.filters or ()):
            return f"serf: query {said.name} has a filter of no bytes"
        if said.name in KEYED and not said.payload:
            return f"serf: query {said.name} names no key"
    return ""


def of_state(told: SerfState) -> str:
    """Why a peer's state must not be taken in, or ""."""
    times = [told.ltime, told.event_ltime, told.query_ltime]
    times += [ltime for _, ltime in told.status_ltimes or ()]
    if told.events is not None:
        times += [slot.ltime for _, slot in told.events.slots]
    return "serf: a state with the last Lamport time there is" if max(times) >= lamport.LAST else ""


def _is_reply(message: bytes) -> bool:
    try:
        return isinstance(serf.decode_gossip(message), QueryResponse)
    except WireError:
        return False
