"""What came of it: tables, and a verdict for every acceptance line of E12."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from experiments import statistics, theory
from experiments.experiment import Verdict, by_cell
from experiments.scale.study import LIMIT, Params
from experiments.statistics import Interval
from swimsim import LAN, SECOND
from swimsim.swim import push_pull

PERIOD_S = LAN.probe_interval / SECOND
DELTA_S = LAN.gossip_interval / SECOND
ALPHA = LAN.suspicion_mult

WORDS = {
    "t_suspicion": "first suspicion",
    "t_first": "first detection",
    "t_full": "all survivors know",
    "t50": "half of all have the news",
    "t_all": "all have the news",
}


def expected(params: Params, quantity: str) -> float | None:
    """What the formulas say of a quantity, in seconds; None where they say nothing."""
    n, fanout, q = params.nodes, LAN.gossip_nodes, 1 - params.loss
    living = n - (n // 100 if params.what == "crashes" else 1)
    match quantity:
        case "t_suspicion":
            return theory.first_suspicion_mean(n, living, PERIOD_S)
        case "t_first":
            return theory.first_detection_mean(n, living, PERIOD_S, ALPHA)
        case "t50":
            return theory.spread_time(n, fanout, q, DELTA_S, 0.5)
        case "t_all":
            return theory.spread_time_to_all(n, fanout, q, DELTA_S)
        case _:
            return None


def _quantities(params: Params) -> tuple[str, ...]:
    match params.what:
        case "suspicion":
            return ("t_suspicion",)
        case "crash" | "crashes":
            return ("t_suspicion", "t_first", "t_full")
        case "news":
            return ("t50", "t_all")
        case _:
            return ()


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Each time with its interval, and its formula."""
    lines = []
    for params, group in by_cell(rows, Params):
        for quantity in _quantities(params):
            sample = group[quantity].dropna()
            mean = (
                statistics.mean(sample) if len(sample) else Interval(math.nan, math.nan, math.nan)
            )
            lines.append(
                {
                    "nodes": params.nodes,
                    "of": params.what,
                    "loss": params.loss,
                    "quantity": WORDS[quantity],
                    "runs": len(group),
                    "censored": len(group) - len(sample),
                    "mean_s": mean.value,
                    "low_s": mean.low,
                    "high_s": mean.high,
                    "expected_s": expected(params, quantity),
                }
            )
    return pd.DataFrame(lines)


def tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What a size costs a node, and what the protocol itself derives from it.

    ``_us``: CPU of a node-second, with nothing to do or over 30 s with a crash; ``_kib``: memory.
    """
    lines = []
    for params, group in of(rows, "cost"):
        packets = rows[(rows.what == "rest") & (rows.nodes == params.nodes)]
        lines.append(
            {
                "nodes": params.nodes,
                "runs": len(group),
                "rest_us": group.rest_us_per_node_s.min(),
                "crash_us": group.span_us_per_node_s.min(),
                "steps_per_s": group.steps_per_s.max(),
                "rest_kib": group.rest_kib_per_node.median(),
                "peak_kib": group.peak_kib_per_node.median(),
                "peak_mib": group.peak_mib.median(),
                "packets_s": packets.packets_per_node_s.mean() if len(packets) else None,
                "M": theory.transmissions(params.nodes, LAN.retransmit_mult),
                "push_pull_s": push_pull.period(params.nodes, LAN) / SECOND,
            }
        )
    return {"cost of a node": pd.DataFrame(lines)} if lines else {}


def of(
    rows: pd.DataFrame, *kinds: str, loss: float | None = None
) -> Iterator[tuple[Params, pd.DataFrame]]:
    """The cells that ask one of these."""
    for params, group in by_cell(rows, Params):
        if params.what in kinds and (loss is None or params.loss == loss):
            yield params, group


def verdicts(rows: pd.DataFrame) -> list[Verdict]:
    """The acceptance lines of E12."""
    return [
        *_judge_suspicion(rows),
        *_judge_detection(rows),
        *_judge_news(rows),
        *_judge_everybody(rows),
        *_judge_load(rows),
        *_judge_same(rows),
        *_judge_memory(rows),
        *_judge_growth(rows),
    ]


def _label(params: Params) -> str:
    return f"n={params.nodes:,}" + (f", {params.loss:.0%} loss" if params.loss else "")


ENOUGH = 100
"""Runs from which on the interval of a mean of exponential times is trusted to say no."""


def _judge_suspicion(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Mean first suspicion within 5 % of F2, whatever the size."""
    groups = list(of(rows, "suspicion", loss=0.0))
    for params, group in groups:
        # At 95 % over all cells together.
        mean = statistics.mean(group.t_suspicion.dropna(), 1 - 0.05 / len(groups))
        reference = expected(params, "t_suspicion")
        assert reference is not None
        yield Verdict(
            f"{_label(params)}: first suspicion as F2 says",
            f"{reference:.3f} s within 5 %",
            f"{mean.value:.3f} s [{mean.low:.3f}, {mean.high:.3f}], {len(group)} runs",
            statistics.judge(mean, 0.95 * reference, 1.05 * reference, len(group), ENOUGH),
        )


def _judge_detection(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Nobody is declared dead before S_min is over, and hardly later: all accusers agree."""
    for params, group in of(rows, "crash"):
        wait = (group.t_first - group.t_suspicion).dropna()
        least = theory.suspicion_min(params.nodes, ALPHA, PERIOD_S)
        if len(wait):
            yield Verdict(
                f"{_label(params)}: from suspicion to detection passes S_min",
                f"{least:.3f} s within 5 %, and not less",
                f"{wait.min():.3f} to {wait.max():.3f} s in {len(wait)} runs",
                bool(wait.min() >= least - 0.001 and wait.mean() <= 1.05 * least),
            )


def _judge_news(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Mean T50 within 10 % and T_all within 6 % of F9, as in E3; M transmissions a node."""
    for params, group in of(rows, "news"):
        for quantity, tolerance in (("t50", 0.10), ("t_all", 0.06)):
            sample = group[quantity].dropna()
            reference = expected(params, quantity)
            if not len(sample) or reference is None:
                continue
            mean = statistics.mean(sample)
            yield Verdict(
                f"{_label(params)}: {WORDS[quantity]} as F9 says",
                f"{reference:.3f} s within {tolerance:.0%}",
                f"{mean.value:.3f} s [{mean.low:.3f}, {mean.high:.3f}], {len(sample)} runs",
                statistics.judge(
                    mean, (1 - tolerance) * reference, (1 + tolerance) * reference, len(sample)
                ),
            )
        m = theory.transmissions(params.nodes, LAN.retransmit_mult)
        packets = float(group.packets_per_node.mean())
        yield Verdict(
            f"{_label(params)}: each node sends the news M times",
            f"M = {m} packets within 1 %",
            f"{packets:.3f}",
            abs(packets / m - 1) <= 0.01,
        )


def _judge_everybody(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Every survivor comes to know of every death, and no living member is declared dead."""
    for params, group in of(rows, "crash", "crashes"):
        crash = "a crash" if params.what == "crash" else "a crash of 1 %"
        residue, mistaken = float(group.residue.max()), int(group.mistaken.sum())
        yield Verdict(
            f"{_label(params)}: all survivors know of {crash}, and of no other",
            f"residue 0 within {LIMIT // SECOND} s, no false verdict",
            f"residue {residue:.2g}, {mistaken} false verdicts, {len(group)} runs",
            residue == 0 and mistaken == 0,
        )


def _judge_load(rows: pd.DataFrame) -> Iterator[Verdict]:
    """A ping and an ack a period, whatever the size."""
    for params, group in of(rows, "rest"):
        packets = float(group.packets_per_node_s.mean())
        yield Verdict(
            f"{_label(params)}: packets of a node in a second at rest",
            "2.00 within 1 %",
            f"{packets:.4f}",
            abs(packets / 2 - 1) <= 0.01,
        )


def _judge_same(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Shared tables and tables of their own, one process and another: one history."""
    for params, group in of(rows, "dense", "replay"):
        dense = params.what == "dense"
        yield Verdict(
            f"{_label(params)}: the same history "
            + ("with a table for each node" if dense else "in another process"),
            "equal digests" if dense else "equal digests, hash tables ordered otherwise",
            f"{group.shared.iloc[0]} and {group.other.iloc[0]}",
            bool((group.shared == group.other).all()),
        )


NODE_KIB = 2000 / 1024
EXCEPTIONS = (
    "A node that is like all others holds about twenty small objects of its own (prober, queue, "
    "timers and their times), and these are Python objects; its member list costs nothing. The "
    "whole stays far below the 4 GiB that are asked for."
)
WORK = (
    "More is done: a death is said 24 times by each of 100,000 members and 16 times by each of "
    "1,000. The rest is memory: what a step touches no longer lies in the processor's caches."
)


def _judge_memory(rows: pd.DataFrame) -> Iterator[Verdict]:
    """2 kB a node, and what differs."""
    for params, group in of(rows, "cost"):
        if params.nodes < 10_000:
            continue
        at_rest = float(group.rest_kib_per_node.median())
        peak = float(group.peak_kib_per_node.median())
        yield Verdict(
            f"{_label(params)}: memory of a node",
            f"{NODE_KIB:.2f} KiB, and what differs from node to node",
            f"{at_rest:.2f} KiB at rest, {peak:.2f} KiB at the peak of a crash"
            if peak
            else "unknown",
            at_rest <= NODE_KIB if peak else None,
            EXCEPTIONS if peak else "",
        )


def _judge_growth(rows: pd.DataFrame) -> Iterator[Verdict]:
    """A node-second costs at most 1.5 times as much in the largest group as in 1,000 members."""
    cost = rows[rows.what == "cost"]
    largest = cost.nodes.max() if len(cost) else 0
    if largest <= 1000 or not (cost.nodes == 1000).any():
        return
    for column, when in (("rest_us_per_node_s", "at rest"), ("span_us_per_node_s", "with a crash")):
        few = float(cost[cost.nodes == 1000][column].min())
        many = float(cost[cost.nodes == largest][column].min())
        yield Verdict(
            f"CPU of a node-second {when}, from 1,000 to {largest:,} members",
            "grows at most 1.5 times",
            f"{many / few:.2f} times, from {few:.1f} to {many:.1f} us",
            many / few <= 1.5,
            WORK,
        )
