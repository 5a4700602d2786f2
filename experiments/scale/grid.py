"""Which cells are run, and which of them share their random numbers."""

from __future__ import annotations

from msgspec.structs import astuple

from experiments.experiment import Cell, Scale
from experiments.scale.study import Params


def cells(scale: Scale) -> list[Cell]:
    """The grid of the experiment, cheapest cells first."""
    if scale == "demo":
        return [Cell(Params(1000, "crash"), 8)]
    return _quick() if scale == "quick" else _full()


def _quick() -> list[Cell]:
    grid = [Cell(Params(n, "suspicion"), runs) for n, runs in {1000: 150, 3000: 30}.items()]
    grid += [Cell(Params(n, "crash"), runs) for n, runs in {1000: 4, 3000: 2, 10_000: 1}.items()]
    grid += [Cell(Params(1000, "crash", 0.1), 2), Cell(Params(500, "crashes"), 1)]
    for n, runs in {999: 3, 1000: 6, 3000: 2, 10_000: 1}.items():
        grid += [Cell(Params(n, "news", loss), runs) for loss in (0.0, 0.1)]
    grid += [Cell(Params(n, "rest"), 1) for n in (1000, 10_000)]
    grid += [Cell(Params(n, "cost"), 1) for n in (1000, 10_000)]
    return [*grid, Cell(Params(500, "dense"), 1), Cell(Params(300, "replay"), 1)]


def _full() -> list[Cell]:
    grid = []
    for n, runs in {1000: 1000, 2000: 400, 5000: 200, 10_000: 100, 20_000: 50}.items():
        grid.append(Cell(Params(n, "suspicion"), runs))
    for n, runs in {1000: 20, 2000: 20, 5000: 10, 10_000: 5, 20_000: 3}.items():
        grid.append(Cell(Params(n, "crash"), runs))
    for n, runs in {1000: 10, 5000: 3, 10_000: 2}.items():
        grid.append(Cell(Params(n, "crash", 0.1), runs))
    grid += [Cell(Params(n, "crashes"), runs) for n, runs in {1000: 5, 2000: 3, 5000: 1}.items()]
    sizes = {999: 20, 1000: 20, 2000: 20, 5000: 20, 9999: 10, 10_000: 10, 20_000: 5}
    for n, runs in sizes.items():
        grid += [Cell(Params(n, "news", loss), runs) for loss in (0.0, 0.1)]
    measured = (1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
    grid += [Cell(Params(n, "rest"), 1) for n in measured]
    grid += [Cell(Params(n, "cost"), 3 if n < 50_000 else 1) for n in measured]
    grid += [Cell(Params(n, "dense"), 1) for n in (1000, 5000)]
    grid += [Cell(Params(1000, "replay"), 1), Cell(Params(10_000, "crashes"), 1)]
    for n in (50_000, 100_000):
        grid += [Cell(Params(n, "suspicion"), 10), Cell(Params(n, "crash"), 1)]
        grid += [Cell(Params(n, "news", loss), 3) for loss in (0.0, 0.1)]
    return [*grid, Cell(Params(100_000, "crash", 0.1), 1)]


def seed_key(params: Params) -> tuple[str | int, ...]:
    """Estimates of different cells are independent of each other."""
    return tuple(str(value) for value in astuple(params))
