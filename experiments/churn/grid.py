"""Which cells are run, and which of them share their random numbers."""

from __future__ import annotations

from experiments.churn.study import Params
from experiments.experiment import Cell, Scale


def cells(scale: Scale) -> list[Cell]:
    """The grid, cheapest first."""
    if scale == "demo":
        return [Cell(Params("crash", 128, crashed=32), 10)]
    quick = scale == "quick"
    runs = 5 if quick else 40
    grid = [
        Cell(Params("updates", 128 if not quick else 64, load=load, watch_s=20), 1 if quick else 3)
        for load in ((0.5, 1.5) if quick else (0.25, 0.5, 0.8, 1.0, 1.2, 1.5, 2.0))
    ]
    for crashed in (1, 6, 13, 32, 64):
        for lifeguard in (True, False):
            params = Params("crash", 128, crashed=crashed, lifeguard=lifeguard)
            grid.append(Cell(params, runs))
    grid.append(Cell(Params("crash", 300 if quick else 1000, crashed=10, film=True), 1))
    grid.append(Cell(Params("flip-flop", 100, film=True), 1 if quick else 5))
    grid.append(Cell(Params("egress", 100), 1 if quick else 5))
    for session in (300,) if quick else (300, 3600):
        grid.append(Cell(Params("sessions", 128, session_s=session), 1 if quick else 5))
    for nodes in (100, 200, 300) if quick else (100, 250, 500, 1000):
        grid.append(Cell(Params("join", nodes, watch_s=600), 1 if quick or nodes > 250 else 3))
    if not quick:
        grid.append(Cell(Params("join", 500, joins_per_s=50, watch_s=600), 1))
        grid.append(Cell(Params("join", 500, joins_per_s=10, watch_s=600), 1))
        grid.append(Cell(Params("flip-flop", 1000), 1))
        grid.append(Cell(Params("join", 2000, watch_s=600, film=True), 1))
    return grid


def seed_key(params: Params) -> tuple[str | int, ...]:
    """Cells that differ in the protocol alone share their random numbers."""
    return (params.trouble, params.nodes, params.crashed, params.session_s, params.joins_per_s)
