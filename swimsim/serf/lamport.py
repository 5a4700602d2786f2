"""Lamport clocks: an order of what happened, without clocks (spec serf.md, 2.3).

Whoever says something stamps it with its clock; whoever hears it moves its own clock past the
stamp. So what was said in answer to something always has the later stamp. Serf keeps three
clocks: of intents, of user events, of queries.

A stranger may send the last number there is. Serf's clock would then go round to zero; this one
stays at the last, so that a clock never goes back.
"""

from __future__ import annotations

from swimsim.terms import LamportTime

LAST = 0xFFFF_FFFF_FFFF_FFFF


def tick(clock: LamportTime) -> LamportTime:
    """The clock after something was said with it."""
    return min(clock + 1, LAST)


def witness(clock: LamportTime, time: LamportTime) -> LamportTime:
    """The clock after something was heard that was said at ``time``."""
    return min(time + 1, LAST) if time >= clock else clock


def witness_clock(clock: LamportTime, other: LamportTime) -> LamportTime:
    """The clock after another's clock was read, in a push/pull; 0 says nothing."""
    return witness(clock, other - 1) if other else clock
