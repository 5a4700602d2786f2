"""How long to wait before a suspicion is believed (SWIM 4.2; Lifeguard IV-B; memberlist 6.8).

SWIM waits a fixed time, long enough for the accused to hear of it and refute. Lifeguard starts
with a much longer wait and shortens it with each *independent* accuser:

    S(C) = max(Min, Max - (Max - Min) * ln(C + 1) / ln(K + 1))

so that a node whose own links are bad, and who is alone in its suspicions, waits for long,
while a real crash, which everybody notices, is believed as fast as in SWIM.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from swimsim.config import Config
from swimsim.terms import MS, Micros, NodeId


class Suspicion(Struct, frozen=True, gc=False):
    """One running suspicion of one member."""

    started: Micros
    deadline: Micros  # when the member is declared dead; confirmations draw it nearer
    least: Micros  # Min, from the start
    most: Micros  # Max, from the start
    wanted: int  # K, confirmations until Min is reached
    accusers: tuple[NodeId, ...]  # the first, then the confirmations; never more than K + 1


def bounds(n: int, config: Config) -> tuple[Micros, Micros]:
    """Min and Max, the shortest and the longest wait in a group of ``n`` known members."""
    return _bounds(
        n,
        config.suspicion_scale,
        config.suspicion_mult * config.probe_interval,
        config.suspicion_max_timeout_mult,
    )


@lru_cache(maxsize=1024)
def _bounds(
    n: int, scale: Literal["log10", "ln"], unit: Micros, most: int
) -> tuple[Micros, Micros]:
    if scale == "ln":
        least = math.ceil(math.log(n + 1)) * unit
    else:
        least = math.floor(1000 * max(1.0, math.log10(max(1, n)))) * unit // 1000
    return least, least * most


def confirmations(n: int, config: Config) -> int:
    """K: how many further accusers shorten the wait to Min; 0 when too few could exist."""
    if not config.lha_suspicion:
        return 0
    wanted = config.max_confirmations
    if wanted is None:
        wanted = max(0, config.suspicion_mult - 2)
    return wanted if n - 2 >= wanted else 0


def begin(now: Micros, accuser: NodeId, n: int, config: Config) -> Suspicion:
    """The suspicion that ``accuser`` raises now, in a group of ``n`` known members."""
    least, most = bounds(n, config)
    wanted = confirmations(n, config)
    if wanted == 0:
        most = least
    return Suspicion(now, now + most, least, most, wanted, (accuser,))


def is_news(suspicion: Suspicion, accuser: NodeId) -> bool:
    """Whether a word of ``accuser`` would confirm it: somebody else's, and still wanted."""
    return len(suspicion.accusers) <= suspicion.wanted and accuser not in suspicion.accusers


def confirm(suspicion: Suspicion, accuser: NodeId) -> Suspicion:
    """The same suspicion with one more accuser, or the very object if that is no news."""
    if not is_news(suspicion, accuser):
        return suspicion
    confirmed = len(suspicion.accusers)  # this one included, the first accuser not
    share = math.log(confirmed + 1) / math.log(suspicion.wanted + 1)
    wait = suspicion.most - (suspicion.most - suspicion.least) * share
    wait = max(suspicion.least, math.floor(wait / MS) * MS)
    return replace(
        suspicion,
        deadline=suspicion.started + wait,
        accusers=(*suspicion.accusers, accuser),
    )
