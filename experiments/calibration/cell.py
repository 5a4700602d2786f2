"""What is compared: groups of two sizes, their settings, and what is noted of an event."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from experiments.experiment import Cell, Row, Scale
from swimsim import LAN, MS, SECOND, Config, Micros


class Params(Struct, frozen=True):
    """One cell: groups of one size, and how many crashes a run of each has."""

    nodes: int
    crashes: int  # of each group, and as many events
    groups: int = 1  # beside one another, without knowing of each other
    probe_interval: Micros = 200 * MS  # everything else is scaled with it
    quiet: Micros = 5 * SECOND  # measured before the first crash


def cells(scale: Scale) -> list[Cell]:
    """Groups of 16 and 32.

    Times of crashes vary by 0.16 s. To tell whether their means are within 10 ms of each other, the
    narrowest margin, takes some 1,100 of them, which ten runs with two groups each have: about an
    hour. Three runs have the 300 that the section asks for at least.
    """
    match scale:
        case "demo":
            return [Cell(Params(8, 8), 1)]
        case "quick":
            return [Cell(Params(nodes, 12), 1) for nodes in (16, 32)]
        case "full":
            return [Cell(Params(nodes, 55, groups=2), 10) for nodes in (16, 32)]


def seed_key(params: Params) -> tuple[str | int, ...]:
    """Each size has its own random numbers."""
    return (params.nodes,)


def config_of(params: Params) -> Config:
    """The LAN profile with every time in the proportion of the probe interval."""
    share = params.probe_interval
    return replace(
        LAN,
        serf=True,  # which user events need
        probe_interval=share,
        probe_timeout=share // 2,
        gossip_interval=share // 5,
        gossip_to_the_dead_time=30 * share,
        push_pull_interval=30 * share,
        reconnect_interval=0,
        stream_timeout=10 * share,
    )


def hush(params: Params) -> Micros:
    """When gossip about a piece of news has long been over; whom it missed, a push/pull tells."""
    return 4 * params.probe_interval


def infection(params: Params, told: list[float]) -> Row:
    """When the others were told by gossip, and how many were not."""
    missed = params.nodes - 1 - len(told)
    return {
        "t_told": float(np.mean(told)) if told else None,
        "t_all_told": None if missed else max(told),
        "missed": missed,
        "limit_s": hush(params) / SECOND,
    }
