"""What came of it: tables, and a verdict for every acceptance line of E7."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from experiments import statistics
from experiments.churn.study import Params, capacity
from experiments.experiment import Row, Verdict, by_cell

EVERYWHERE_S = {(1, True): 10.6, (6, True): 12.2, (13, True): 13.2, (32, True): 16.4,
                (64, True): 23.9, (1, False): 10.6, (6, False): 12.2, (13, False): 13.2,
                (32, False): 16.0, (64, False): 22.8}  # fmt: skip
"""Median time until all crashed members are removed everywhere: the reference model, by crashes and
Lifeguard (n = 128; spec experiments.md, E7)."""

RAPID_SIZES = {1000: 901, 1500: 1383, 2000: 1858}
"""Distinct sizes that memberlist reported while so many joined (Rapid, ATC 2018)."""


def of_kind(rows: pd.DataFrame, kind: str) -> Iterator[tuple[Params, pd.DataFrame]]:
    """The rows of one kind by cell."""
    found = rows[rows.kind == kind]
    return by_cell(found, Params) if len(found) else iter(())


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Simultaneous crashes: when the victims are removed, in seconds."""
    lines = []
    for params, group in of_kind(rows, "crash"):
        removed = statistics.survival(group.everywhere_s, group.limit_s)
        lines.append(
            {
                "nodes": params.nodes,
                "crashed": params.crashed,
                "protocol": "Lifeguard" if params.lifeguard else "SWIM",
                "runs": len(group),
                "first_s": group.first_s.median(),
                "half_s": group.half_s.median(),
                "everywhere_s": removed.quantile(0.5).value,
                "R_everywhere_s": _reference(params),
                "p95_s": removed.quantile(0.95).value,
                "survivor_dead": int(group.survivor_dead.sum()),
                "intermediate_sizes": group.intermediate_sizes.median(),
                "queue_max": int(group.queue_max.max()),
            }
        )
    return pd.DataFrame(lines)


def _reference(params: Params) -> float | None:
    return EVERYWHERE_S.get((params.crashed, params.lifeguard)) if params.nodes == 128 else None


def tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Joins, bad networks, sessions, and the load of updates."""
    joins = [
        {
            "nodes": params.nodes,
            "joins_per_s": params.joins_per_s or "at once",
            "runs": len(group),
            "99%_report_n_s": group.nearly_s.median(),
            "all_report_n_s": statistics.survival(group.all_s, group.limit_s).quantile(0.5).value,
            "F15_s": params.nodes / capacity(params.nodes),
            "sizes": int(group.sizes.median()),
            "Rapid_sizes": RAPID_SIZES.get(params.nodes),
            "queue_max": int(group.queue_max.max()),
            "refused": int(group.refused.sum()),
        }
        for params, group in of_kind(rows, "join")
    ]
    networks = [
        {
            "trouble": params.trouble,
            "nodes": params.nodes,
            "troubled": params.troubled,
            "runs": len(group),
            **{
                name: group[name].mean()
                for name in (
                    "oscillating",
                    "returns_per_cycle",
                    "flaps_per_observer_hour",
                    "removed_for_good",
                    "views_at_end",
                    "time_incomplete",
                    "wrongly_dead",
                )
            },
        }
        for params, group in of_kind(rows, "network")
    ]
    sessions = [
        {
            "nodes": params.nodes,
            "mean_session_s": params.session_s,
            "runs": len(group),
            **{
                name: group[name].mean()
                for name in (
                    "deaths",
                    "survivor_dead",
                    "flaps_per_observer_hour",
                    "queue_early",
                    "queue_late",
                    "queue_max",
                )
            },
        }
        for params, group in of_kind(rows, "sessions")
    ]
    updates = [
        {"nodes": params.nodes, "load": params.load, **growth(params, group)}
        for params, group in of_kind(rows, "queue")
    ]
    named: dict[str, list[Row]] = {
        "joins": joins,
        "networks": networks,
        "sessions": sessions,
        "updates": updates,
    }
    return {name: pd.DataFrame(lines) for name, lines in named.items() if lines}


def growth(params: Params, group: pd.DataFrame) -> dict[str, float]:
    """Mean queue in the middle and in the last third of a run."""
    middle = group[(group.time_s > params.watch_s / 3) & (group.time_s <= 2 * params.watch_s / 3)]
    late = group[group.time_s > 2 * params.watch_s / 3]
    return {
        "offered_per_s": float(group.offered_per_s.iloc[0]),
        "queue_middle": float(middle.queue_mean.mean()),
        "queue_late": float(late.queue_mean.mean()),
        "queue_max": float(group.queue_max.max()),
    }


def verdicts(rows: pd.DataFrame) -> list[Verdict]:
    """The acceptance lines of E7."""
    judged = [*_judge_joins(rows)]
    for params, group in of_kind(rows, "crash"):
        judged += _judge_crash(params, group)
    judged += _judge_survivors(rows)
    for params, group in of_kind(rows, "network"):
        if params.trouble == "flip-flop":
            judged += _judge_flip_flop(params, group)
    judged += _judge_queues(rows)
    return judged


TAIL_EXPLAINED = (
    "When nobody has anything left to gossip, a few of the n^2 pairs of node and news are still "
    "missing (F11); they wait for push/pull, whose period is fixed by n in steps. So the last node "
    "is late by a chance that does not grow in a line; the time until 99 % report n does."
)


def _judge_joins(rows: pd.DataFrame) -> Iterator[Verdict]:
    """A storm of joins: how long until all report n."""
    at_once = [(p, g) for p, g in of_kind(rows, "join") if not p.joins_per_s]
    for params, group in at_once:
        if params.nodes == 2000:
            time = statistics.survival(group.all_s, group.limit_s).quantile(0.5).value
            yield Verdict(
                "n=2000 join one seed at once: all report n",
                "50 to 200 s (Rapid's mean: up to 95 s)",
                f"{time:.0f} s, 99 % of them after {group.nearly_s.median():.0f} s",
                50 <= time <= 200,
            )
        if params.nodes >= 1000:
            share = float((group.sizes / params.nodes).min())
            yield Verdict(
                f"n={params.nodes} join at once: distinct sizes reported",
                "at least 0.7 n",
                f"{share:.2f} n",
                share >= 0.7,
            )
    if len(at_once) >= 3:
        sizes = [params.nodes for params, group in at_once for _ in range(len(group))]
        times = pd.concat([group.all_s.fillna(group.limit_s) for _, group in at_once])
        fit = statistics.r_squared(sizes, times)
        nearly = pd.concat([group.nearly_s.fillna(group.limit_s) for _, group in at_once])
        yield Verdict(
            "the time of a join storm is linear in n",
            "R^2 at least 0.9",
            f"{fit:.3f} over n = {', '.join(map(str, sorted(set(sizes))))} "
            f"(until 99 % report n: {statistics.r_squared(sizes, nearly):.3f})",
            fit >= 0.9 if max(sizes) >= 1000 else None,
            TAIL_EXPLAINED,
        )


def _judge_crash(params: Params, group: pd.DataFrame) -> Iterator[Verdict]:
    """All who died at once are removed everywhere."""
    expected = _reference(params)
    protocol = "Lifeguard" if params.lifeguard else "SWIM"
    if expected is not None:
        tolerance = 0.25 if params.crashed >= params.nodes / 2 else 0.1
        median = statistics.survival(group.everywhere_s, group.limit_s).quantile(0.5)
        yield Verdict(
            f"{params.crashed} of {params.nodes} crash, {protocol}: removed everywhere",
            f"median {expected:g} s of the reference model within {tolerance:.0%}",
            f"{median.value:.2f} s [{median.low:.2f}, {median.high:.2f}], {len(group)} runs",
            statistics.judge(
                median, (1 - tolerance) * expected, (1 + tolerance) * expected, len(group)
            ),
        )
    if params.nodes >= 300:
        share = float(group.observers_with_two.mean())
        yield Verdict(
            f"{params.crashed} of {params.nodes} crash: intermediate sizes",
            "at least 2 at most observers",
            f"at {share:.0%} of them, {group.intermediate_sizes.median():g} in the median",
            share > 0.5,
        )


def _judge_survivors(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Nobody who lives is called dead."""
    crashes = rows[rows.kind == "crash"]
    if len(crashes):
        wrong = int(crashes.survivor_dead.sum())
        yield Verdict(
            "after mass failures no survivor is called dead",
            "0 without loss",
            f"{wrong} in {len(crashes)} runs",
            wrong == 0,
        )


DEAF_EXPLAINED = (
    "Each cycle ends in a verdict of death, at S_min and a few seconds. But gossip of it is over "
    "when the member hears again, and nothing in a ping or an ack tells it: it learns of its death "
    "from a push/pull, or from Serf's reconnect, which makes about one attempt each 30 s in the "
    "whole group. Some of its 20 s pass without either, and the cycle with them."
)


def _judge_flip_flop(params: Params, group: pd.DataFrame) -> Iterator[Verdict]:
    """Members that hear nothing for 20 s in every 40 come and go, and are never gone for good."""
    gone, swinging = float(group.removed_for_good.max()), float(group.oscillating.min())
    yield Verdict(
        f"n={params.nodes}, flip-flop: not all are removed for good",
        "some node still holds some of them present at the end",
        f"all removed in the view of {gone:.0%} of the nodes",
        gone < 1,
    )
    yield Verdict(
        f"n={params.nodes}, flip-flop: oscillations",
        "at least one a cycle at half of the observers or more",
        f"at {swinging:.0%}; {group.returns_per_cycle.mean():.2f} a cycle on average",
        swinging >= 0.5,
        DEAF_EXPLAINED,
    )


def _judge_queues(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Below F15 queues stay short; above, they grow until every member has news in them."""
    for params, group in of_kind(rows, "queue"):
        found = growth(params, group)
        told = f"{found['queue_middle']:.1f}, then {found['queue_late']:.1f} of {params.nodes}"
        claim = f"n={params.nodes}, updates at {params.load:g} of F15"
        if params.load <= 0.8:
            bounded = found["queue_late"] <= 1.25 * found["queue_middle"] + 2
            yield Verdict(
                f"{claim}: the queue is bounded",
                "no longer in the last third of the run than in the second",
                told,
                bounded and found["queue_late"] < params.nodes / 2,
            )
        elif params.load >= 1.5:
            yield Verdict(
                f"{claim}: the queue grows",
                "until news of nearly every member waits (newer news displaces older)",
                told,
                found["queue_late"] >= 0.8 * params.nodes,
            )
    for params, group in of_kind(rows, "sessions"):
        early, late = float(group.queue_early.mean()), float(group.queue_late.mean())
        yield Verdict(
            f"n={params.nodes}, sessions of {params.session_s} s: the queue is bounded",
            "churn is below F15: no longer in the last third than in the second",
            f"{early:.1f}, then {late:.1f}; longest {int(group.queue_max.max())}",
            late <= 1.25 * early + 2,
        )
