"""Several scenarios on common seeds: what a change of one line does.

An operator who changes a setting wants to know what the setting does, not what chance did. So every
scenario runs once for each seed, and the runs of one seed share who is struck, and when every
timer first ticks, as far as the scenarios let them: differences are paired, seed by seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor

import pandas as pd
from msgspec import Struct
from msgspec.structs import asdict

from backends.sim.scenario import Death, Outcome, Plan
from experiments.experiment import Row

ONE = ["scenario", "seed"]  # what names a run


class Compared(Struct, frozen=True):
    """What came of all runs; in every frame ``scenario`` and ``seed`` say of which run a row is."""

    runs: pd.DataFrame  # one row a run: the fields of ``Outcome``
    deaths: pd.DataFrame  # one row a process that ended: the fields of ``Death``
    events: pd.DataFrame  # as in ``Trace.events``; no columns where they were not recorded
    messages: pd.DataFrame  # kind, fate, messages, bytes, of all nodes together; the same


class Run(Struct, frozen=True):
    """One run, as its process hands it over."""

    outcome: Outcome
    events: pd.DataFrame
    messages: pd.DataFrame


def compare(plans: Mapping[str, Plan], seeds: Iterable[int], executor: Executor) -> Compared:
    """Run every scenario with every seed on ``executor``; rows come in the order of both."""
    chosen = tuple(seeds)
    names = [(name, seed) for name in plans for seed in chosen]
    runs = list(executor.map(_run, [plans[name] for name, _ in names], [seed for _, seed in names]))
    outcomes: list[Row] = []
    deaths: list[Row] = []
    for (name, _), run in zip(names, runs, strict=True):
        told = {"scenario": name, **asdict(run.outcome)}
        for death in told.pop("deaths"):
            deaths.append({"scenario": name, "seed": run.outcome.seed, **asdict(death)})
        outcomes.append(told)
    return Compared(
        pd.DataFrame(outcomes),
        pd.DataFrame(deaths, columns=[*ONE, *Death.__struct_fields__]),
        _joined(names, [run.events for run in runs]),
        _joined(names, [run.messages for run in runs]),
    )


def _run(plan: Plan, seed: int) -> Run:
    outcome, cluster = plan.run(seed)
    trace = cluster.trace
    events = messages = pd.DataFrame()
    if "events" in trace.record:
        events = trace.events()
    if "messages" in trace.record:
        kinds = trace.messages().groupby(["kind", "fate"], as_index=False)
        messages = kinds[["messages", "bytes"]].sum()
    return Run(outcome, events, messages)


def _joined(names: list[tuple[str, int]], frames: list[pd.DataFrame]) -> pd.DataFrame:
    """The frames below one another, with the run's name in front of each row."""
    told = dict(zip(names, frames, strict=True))
    filled = {name: frame for name, frame in told.items() if len(frame)}
    joined = pd.concat(filled or told, names=ONE)
    return joined.reset_index(level=ONE).reset_index(drop=True)
