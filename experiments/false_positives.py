"""E2: how often does a lossy network make the living look dead, and what helps against it?

Nobody fails in these groups; packets do. A probe of a live member fails when the ping or its ack
is lost and so is every detour through k helpers: SWIM's analysis says how often (spec
experiments.md, F5). What follows from a failed probe depends on the detector: declare the member
dead at once (*none*), suspect it for a fixed time in which it may refute (*suspicion*, SWIM 4.2),
or do so as Lifeguard does. With suspicion a member is lost only where somebody misses the
refutation, which F6 estimates from the residue of gossip.

An *episode* is one member in one incarnation declared dead by anybody, the right unit under loss,
since one false verdict spreads to all. Events are counted besides, one for each observer, as
Lifeguard does; nobody is hindered on purpose, so FP and FP- are the same number. Streams lose
nothing: stream pings are off but where a cell says otherwise, and then show what they are worth.

The last part repeats SWIM's figure 4: 17 processes join a group one by one at 10 % loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from msgspec import Struct
from msgspec.structs import replace

from backends.sim import Cluster, Network
from backends.sim.inspectors import Mistakes
from backends.sim.network import Bernoulli, GilbertElliott, Loss
from experiments import statistics, style, swim_figure_4, theory
from experiments.experiment import Cell, Row, Scale, Verdict, by_cell
from experiments.statistics import Interval
from swimsim import LAN, SECOND, SWIM_2002, Config
from swimsim.member import SUSPECT
from swimsim.terms import Micros

SETTLE = 20 * SECOND
PERIOD = LAN.probe_interval
ENOUGH = 100
"""Episodes from which on a cell is compared with others."""


class Params(Struct, frozen=True):
    """One cell of the experiment."""

    nodes: int
    loss: float  # of packets, on average
    helpers: int = 3  # k
    detector: Literal["none", "suspicion", "lifeguard"] = "suspicion"
    burst: Micros = 0  # mean length of a burst on a member's access link; 0: every packet by itself
    stream_ping: bool = False  # a stream, which loses nothing, backs up the probe
    push_pull: bool = False
    watch: Micros = 600 * SECOND
    scene: Literal["steady", "joins"] = "steady"
    multicast: bool = False  # SWIM's basic protocol: news by multicast instead of piggyback


DETECTORS: tuple[Literal["none", "suspicion", "lifeguard"], ...] = (
    "none",
    "suspicion",
    "lifeguard",
)


def cells(scale: Scale) -> list[Cell]:
    """The grid of the experiment, cheapest cells first."""
    if scale == "demo":
        return [Cell(Params(40, 0.2, detector=d, watch=120 * SECOND), 2) for d in DETECTORS]
    return [*_joins(10), *_quick()] if scale == "quick" else [*_joins(100), *_full()]


def _joins(runs: int) -> list[Cell]:
    """SWIM's figure 4: Basic, with infection-style dissemination, and with suspicion too."""
    basic = Params(17, 0.1, 1, "none", watch=swim_figure_4.END, scene="joins", multicast=True)
    infection = replace(basic, multicast=False)
    suspicion = replace(infection, detector="suspicion")
    return [Cell(params, runs) for params in (basic, infection, suspicion)]


def _quick() -> list[Cell]:
    short = 200 * SECOND
    grid = [Cell(Params(40, 0.02, watch=short), 1), Cell(Params(40, 0.05, watch=short), 1)]
    for detector, runs in zip(DETECTORS, (2, 10, 4), strict=True):
        grid.append(Cell(Params(40, 0.1, detector=detector, watch=short), runs))
        grid.append(Cell(Params(40, 0.2, detector=detector, watch=short), 2))
        grid.append(Cell(Params(40, 0.3, detector=detector, watch=short), 1))
    grid += [Cell(Params(40, p, k, watch=short), 1) for k in (0, 1) for p in (0.1, 0.2)]
    for burst in (2, 5, 10):
        grid.append(Cell(Params(40, 0.1, burst=burst * SECOND, watch=short), 1))
    grid.append(Cell(Params(17, 0.1, burst=5 * SECOND, watch=short), 2))
    grid.append(Cell(Params(17, 0.1, watch=short), 2))
    grid.append(Cell(Params(40, 0.2, stream_ping=True, watch=short), 1))
    grid.append(Cell(Params(40, 0.2, push_pull=True, watch=short), 1))
    return grid


def _full() -> list[Cell]:
    """Reduced for time: the whole grid of n, k, detectors and bursts would take a day.

    Every line of the section has its cells, and n = 40, k = 3 is complete.
    """
    grid = [Cell(Params(40, 0.0, watch=120 * SECOND), 1), Cell(Params(40, 0.02), 1)]
    for p, runs in {0.05: (1, 3, 1), 0.1: (2, 30, 38), 0.2: (1, 2, 4), 0.3: (1, 1, 2)}.items():
        for detector, times in zip(DETECTORS, runs, strict=True):
            grid.append(Cell(Params(40, p, detector=detector), times))
    grid += [Cell(Params(40, 0.5, detector=d, watch=120 * SECOND), 1) for d in DETECTORS]
    for k in (0, 1):
        grid += [Cell(Params(40, p, k), 1) for p in (0.02, 0.05, 0.1, 0.2)]
        grid.append(Cell(Params(40, 0.3, k, watch=300 * SECOND), 1))
    for p in (0.05, 0.1):
        for burst in (SECOND // 2, 2 * SECOND, 5 * SECOND, 10 * SECOND):
            grid.append(Cell(Params(40, p, burst=burst), 1))
        grid.append(Cell(Params(17, p, burst=5 * SECOND), 2))
        grid.append(Cell(Params(17, p), 8))
    for burst in (2 * SECOND, 5 * SECOND, 10 * SECOND):
        grid.append(Cell(Params(40, 0.1, detector="lifeguard", burst=burst), 1))
    grid += [Cell(Params(40, p, stream_ping=True, watch=300 * SECOND), 1) for p in (0.1, 0.3)]
    grid += [Cell(Params(40, 0.2, push_pull=True), 3)]
    grid += [Cell(Params(128, 0.2, watch=300 * SECOND), 1)]
    return grid


def seed_key(params: Params) -> tuple[str | int, ...]:
    """Detectors, and the variants of SWIM's figure 4, are compared on the same random numbers."""
    if params.scene == "joins":
        return ("joins", params.nodes, str(params.loss))
    how = "stream" * params.stream_ping + "push/pull" * params.push_pull
    return (params.nodes, str(params.loss), params.helpers, params.burst, how)


def config_of(params: Params) -> Config:
    """The protocol settings of a cell."""
    if params.scene == "joins":
        return replace(
            SWIM_2002,
            suspicion=params.detector != "none",
            piggyback=not params.multicast,
            indirect_checks=params.helpers,
        )
    lifeguard = params.detector == "lifeguard"
    return replace(
        LAN,
        indirect_checks=params.helpers,
        suspicion=params.detector != "none",
        lha_probe=lifeguard,
        lha_suspicion=lifeguard,
        buddy_system=lifeguard,
        stream_ping=params.stream_ping,
        push_pull_interval=LAN.push_pull_interval if params.push_pull else 0,
        reconnect_interval=0,
    )


def network_of(params: Params) -> Network:
    """What the cell loses; streams lose nothing."""
    loss: Loss | None = Bernoulli(params.loss, hits=("packets",)) if params.loss else None
    if params.burst:
        loss = GilbertElliott(params.loss, params.burst, scope="node", hits=("packets",))
    return Network(loss=loss)


def run(params: Params, seed: int) -> list[Row]:
    """One run: counts over all members, times in seconds; or the sizes that a growing group saw."""
    if params.scene == "joins":
        config, network = config_of(params), network_of(params)
        return swim_figure_4.run(config, network, params.nodes, params.watch, seed)
    cluster = Cluster(params.nodes, config_of(params), network_of(params), seed=seed, record=())
    cluster.run(SETTLE)
    watch = Mistakes(cluster.now)
    cluster.observers.append(watch)
    cluster.inspectors.append(watch)
    cluster.run_for(params.watch)
    return [
        {
            "member_periods": params.nodes * params.watch / PERIOD,
            "rounds": watch.rounds,
            "failed_probes": watch.failed_probes,
            "suspicions": watch.suspicions,
            "episodes": len(watch.episodes),
            "fp": watch.false_positives,
            "flaps": watch.flaps,
            "refutations": len(watch.refutations),
            "refutation_s": sum(watch.refutations) / SECOND,
            "corrected": len(watch.mistakes),
            "corrected_s": sum(watch.mistakes) / SECOND,
            "standing": watch.standing,
            "mistaken_s": watch.mistaken_time(cluster.now) / SECOND,
            "evicted": _evicted(cluster),
        }
    ]


def _evicted(cluster: Cluster) -> int:
    """Members whom no other holds present, though they may hold all others so."""
    known = {
        member.peer.name
        for host in cluster.hosts
        if host.node
        for member in host.node.members
        if member.status <= SUSPECT and member.peer.name != host.name
    }
    return len(cluster.hosts) - len(known)


# --- what came of it -------------------------------------------------------------------------


def by_variant(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of the group that grows, by the names of SWIM's figure 4."""
    return {
        _variant(params): group for params, group in by_cell(rows[rows.scene == "joins"], Params)
    }


def _variant(params: Params) -> str:
    if params.detector != "none":
        return "+Inf+Susp"
    return "Basic" if params.multicast else "+Inf"


class Rates(Struct, frozen=True):
    """What one cell came to, for each member and period; intervals are exact Poisson ones."""

    params: Params
    runs: int
    periods: float  # member-periods in all
    failed: Interval
    suspicions: Interval
    episodes: Interval
    seen: int  # episodes in all


def rates(rows: pd.DataFrame, confidence: float = 0.95) -> list[Rates]:
    """Every steady cell."""
    found = []
    steady = rows[rows.scene == "steady"]
    for params, group in by_cell(steady, Params):
        periods = float(group.member_periods.sum())
        counts = [int(group[name].sum()) for name in ("failed_probes", "suspicions", "episodes")]
        failed, suspicions, episodes = (
            statistics.rate(count, periods, confidence) for count in counts
        )
        found.append(Rates(params, len(group), periods, failed, suspicions, episodes, counts[2]))
    return found


def is_plain(params: Params) -> bool:
    """Whether F5 and F6 speak of the cell: independent losses, nothing but pings and gossip."""
    return not (params.burst or params.stream_ping or params.push_pull)


def expected_episodes(params: Params) -> float:
    """F6."""
    return theory.false_deaths(params.nodes, 1 - params.loss, params.helpers, LAN.suspicion_mult)


def label(params: Params) -> str:
    """A cell in words."""
    words = [f"n={params.nodes}, k={params.helpers}, {params.loss:.0%} lost, {params.detector}"]
    if params.burst:
        words.append(f"bursts of {params.burst / SECOND:g} s")
    if params.stream_ping:
        words.append("stream ping")
    if params.push_pull:
        words.append("push/pull")
    return ", ".join(words)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Rates for each member and period, times 1000, with F5 and F6 beside them."""
    lines = []
    for cell in rates(rows):
        params, plain = cell.params, is_plain(cell.params)
        lines.append(
            {
                "cell": label(params),
                "runs": cell.runs,
                "failed_probes": 1e3 * cell.failed.value,
                "F5": 1e3 * theory.false_suspicions(1 - params.loss, params.helpers)
                if plain
                else None,
                "suspicions": 1e3 * cell.suspicions.value,
                "episodes_seen": cell.seen,
                "episodes": 1e3 * cell.episodes.value,
                "low": 1e3 * cell.episodes.low,
                "high": 1e3 * cell.episodes.high,
                "F6": 1e3 * expected_episodes(params)
                if plain and params.detector == "suspicion"
                else None,
            }
        )
    return pd.DataFrame(lines)


def tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The quality of the verdicts (Chen, Toueg and Aguilera), and the group that grew."""
    found = {"quality": _quality(rows)}
    if (rows.scene == "joins").any():
        found["joins"] = swim_figure_4.table(by_variant(rows))
    return found


def _quality(rows: pd.DataFrame) -> pd.DataFrame:
    """One pair of observer and subject: mistake duration T_M, recurrence T_MR, accuracy P_A."""
    lines = []
    for params, group in by_cell(rows[rows.scene == "steady"], Params):
        total = group.select_dtypes("number").sum()
        pair_s = total.member_periods * PERIOD / SECOND * (params.nodes - 1)
        lines.append(
            {
                "cell": label(params),
                "FP": int(total.fp),
                "FP_per_member_h": 3600 * total.fp / (total.member_periods * PERIOD / SECOND),
                "flaps": int(total.flaps),
                "refutation_s": _share(total.refutation_s, total.refutations),
                "T_M_s": _share(total.corrected_s, total.corrected),
                "T_MR_s": _share(pair_s, total.fp),
                "P_A": 1 - total.mistaken_s / pair_s,
                "standing": int(total.standing),
                "evicted": int(total.evicted),
            }
        )
    return pd.DataFrame(lines)


def _share(total: float, count: float) -> float | None:
    return float(total / count) if count else None


def verdicts(rows: pd.DataFrame) -> list[Verdict]:
    """The acceptance lines of E2."""
    cells = rates(rows)
    judged = [
        *_judge_probes(rows),
        *_judge_episodes(cells),
        *_judge_growth(cells),
        *_judge_detectors(cells),
        *_judge_streams(cells),
        *_judge_bursts(cells),
    ]
    variants = by_variant(rows)
    return [*judged, *swim_figure_4.verdicts(variants)] if variants else judged


def _judge_probes(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Failed probes within 3 % of F5, and the intervals cover it: at 95 % over all cells."""

    def is_judged(params: Params) -> bool:
        return is_plain(params) and params.detector == "suspicion" and 0 < params.loss <= 0.3

    count = sum(is_judged(cell.params) for cell in rates(rows))
    for cell in rates(rows, 1 - 0.05 / max(1, count)):
        if is_judged(cell.params):
            params, found = cell.params, cell.failed
            expected = theory.false_suspicions(1 - params.loss, params.helpers)
            seen = round(found.value * cell.periods)
            passed = statistics.judge(found, 0.97 * expected, 1.03 * expected, seen)
            if not found.holds(expected):
                passed = False if seen >= statistics.ENOUGH else None
            yield Verdict(
                f"{label(params)}: failed probes of a member in a period",
                f"F5 {expected:.3g} within 3 %, and in the interval",
                f"{_words(found)}, {found.value / expected - 1:+.1%}, {seen} seen",
                passed,
            )


def _judge_episodes(cells: list[Rates]) -> Iterator[Verdict]:
    """Deaths of the living against F6: a range where it is to be trusted, else a ceiling."""
    for cell in cells:
        params, found = cell.params, cell.episodes
        if not is_plain(params) or params.detector != "suspicion" or not params.loss:
            continue
        expected = expected_episodes(params)
        trusted = theory.false_suspicions(1 - params.loss, params.helpers) <= 0.1
        close = trusted and cell.seen >= ENOUGH
        # With no count there is no lower end to be sure of.
        passed = statistics.judge(
            found, 0.6 * expected if close else 0.0, 1.1 * expected, max(cell.seen, 1)
        )
        yield Verdict(
            f"{label(params)}: episodes of a member in a period",
            f"F6 {expected:.2e}, " + ("-40 to +10 %" if close else "at most 1.1 times that"),
            f"{_words(found)}, {cell.seen} seen",
            passed,
            explanation=EVICTED if not trusted else "",
        )


EVICTED = (
    "A member that nobody heard refuting is forgotten by all 30 s later, and with push/pull and"
    " reconnect off it never comes back. It goes on pinging and accusing the others, hears little"
    " of their refutations, and so makes episodes that F6, which speaks of a whole group, leaves"
    " out; the column evicted of the table of quality counts such members."
)


def _judge_growth(cells: list[Rates]) -> Iterator[Verdict]:
    """More loss, or fewer helpers, never make fewer episodes."""
    plain = [c for c in cells if is_plain(c.params) and c.params.detector == "suspicion"]
    lines: dict[tuple[str, int, float], list[tuple[float, Rates]]] = {}
    for cell in plain:
        params = cell.params
        lines.setdefault(("loss", params.nodes, params.helpers), []).append((params.loss, cell))
        lines.setdefault(("helpers", params.nodes, params.loss), []).append((-params.helpers, cell))
    for (what, n, fixed), found in lines.items():
        if len(found) < 2 or n != 40:
            continue
        steps = [cell for _, cell in sorted(found, key=lambda pair: pair[0])]
        pairs = list(pairwise(steps))
        falls = [a.episodes.value > b.episodes.value for a, b in pairs]
        surely = [a.episodes.low > b.episodes.high for a, b in pairs]
        held = f"k={fixed:g}" if what == "loss" else f"{fixed:.0%} lost"
        yield Verdict(
            f"n={n}, {held}: episodes grow with {'loss' if what == 'loss' else 'fewer helpers'}",
            "no step down",
            " < ".join(f"{1e3 * cell.episodes.value:.3g}" for cell in steps)
            + " in 1000 member-periods",
            False if any(surely) else None if any(falls) else True,
        )


def _judge_detectors(cells: list[Rates]) -> Iterator[Verdict]:
    """None > suspicion > Lifeguard wherever at least a tenth is lost; tenfold at 10 %."""
    usual = {
        (c.params.loss, c.params.detector): c
        for c in cells
        if is_plain(c.params) and (c.params.nodes, c.params.helpers) == (40, 3)
    }
    for p in sorted({loss for loss, _ in usual if loss >= 0.1}):
        if any((p, detector) not in usual for detector in DETECTORS):
            continue
        none, suspicion, lifeguard = (usual[p, detector] for detector in DETECTORS)
        ordered = none.episodes.value > suspicion.episodes.value > lifeguard.episodes.value
        least = min(none.seen, suspicion.seen, lifeguard.seen)
        yield Verdict(
            f"n=40, k=3, {p:.0%} lost: none > suspicion > Lifeguard",
            f"in this order, each with at least {ENOUGH} episodes",
            " > ".join(
                f"{1e3 * c.episodes.value:.3g} ({c.seen})" for c in (none, suspicion, lifeguard)
            )
            + " in 1000 member-periods",
            ordered if least >= ENOUGH else None,
        )
        if p == 0.1:
            factor = _quotient(none, suspicion)
            yield Verdict(
                "n=40, k=3, 10% lost: what suspicion is worth",
                "at least 10 times fewer episodes",
                f"{factor.value:.1f} times [{factor.low:.1f}, {factor.high:.1f}]",
                statistics.judge(factor, 10, np.inf, min(none.seen, suspicion.seen)),
            )


def _quotient(more: Rates, less: Rates) -> Interval:
    """The ratio of two rates; independent Poisson counts, by the normal law of its logarithm."""
    a, b = more.episodes.value, less.episodes.value
    if not more.seen or not less.seen:
        return Interval(np.inf if more.seen else np.nan, 0.0, np.inf)
    reach = np.exp(1.96 * np.sqrt(1 / more.seen + 1 / less.seen))
    return Interval(a / b, a / b / reach, a / b * reach)


def _judge_streams(cells: list[Rates]) -> Iterator[Verdict]:
    """A stream ping, where only packets are lost, leaves nothing to be wrong about."""
    for cell in cells:
        if cell.params.stream_ping:
            yield Verdict(
                f"{label(cell.params)}: nobody is suspected",
                "0 failed probes, 0 episodes",
                f"{cell.failed.value * cell.periods:.0f} failed probes, {cell.seen} episodes"
                f" in {cell.periods:.0f} member-periods",
                cell.seen == 0 and cell.failed.value == 0,
            )


def _judge_bursts(cells: list[Rates]) -> Iterator[Verdict]:
    """Bursts that outlast the suspicion do harm that independent losses do not."""
    plain = {c.params: c for c in cells if is_plain(c.params)}
    for cell in cells:
        params = cell.params
        wait = theory.suspicion_min(params.nodes, LAN.suspicion_mult, PERIOD)
        if params.burst <= wait or params.detector != "suspicion":
            continue
        even = next((c for p, c in plain.items() if replace(params, burst=0) == p), None)
        if even is None:
            continue
        more, less = cell.episodes, even.episodes
        yield Verdict(
            f"{label(params)}: more episodes than by independent losses",
            f"{1e3 * less.value:.3g} in 1000 member-periods, the suspicion lasts"
            f" {wait / SECOND:.1f} s",
            f"{1e3 * more.value:.3g} [{1e3 * more.low:.3g}, {1e3 * more.high:.3g}]",
            more.value > less.value if more.low > less.high or more.high < less.low else None,
        )


def _words(found: Interval) -> str:
    return f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"


# --- the picture -----------------------------------------------------------------------------


def figure(rows: pd.DataFrame) -> Figure:
    """Episodes against loss, against the length of bursts, and SWIM's figure 4."""
    variants = by_variant(rows)
    picture, panels = style.figure(
        3 if variants else 2, title="The living declared dead, and what helps against it"
    )
    cells = rates(rows)
    _draw_loss(panels[0], cells)
    _draw_bursts(panels[1], cells)
    if variants:
        swim_figure_4.draw(panels[2], variants)
    return picture


def _draw_loss(axes: Axes, cells: list[Rates]) -> None:
    """Failed probes and episodes for n = 40, k = 3, on the lines of F5 and F6."""
    usual = [
        c
        for c in cells
        if is_plain(c.params) and (c.params.nodes, c.params.helpers) == (40, 3) and c.params.loss
    ]
    failed = [c for c in usual if c.params.detector == "suspicion" and c.failed.value]
    failed.sort(key=lambda c: c.params.loss)
    if failed:
        losses = [c.params.loss for c in failed]
        style.curve(axes, losses, [c.failed for c in failed], style.SERIES[3], "failed probes")
    for series, detector in zip(style.SERIES, DETECTORS, strict=False):
        found = sorted(
            (c for c in usual if c.params.detector == detector and c.seen),
            key=lambda c: c.params.loss,
        )
        if found:
            losses = [c.params.loss for c in found]
            style.curve(axes, losses, [c.episodes for c in found], series, f"episodes, {detector}")
    grid = np.geomspace(0.02, 0.5, 80)
    f5 = [theory.false_suspicions(1 - p, 3) for p in grid]
    printed = [theory.false_suspicions_as_printed(1 - p, 3) for p in grid]
    f6 = [theory.false_deaths(40, 1 - p, 3, LAN.suspicion_mult) for p in grid]
    style.formula(axes, grid, f5, "F5")
    style.formula(axes, grid, printed, "F5 as SWIM prints it", dash=":")
    style.formula(axes, grid, f6, "F6", dash="-.")
    axes.set_ylim(bottom=2e-6)
    style.finish(
        axes,
        x="packets lost",
        y="events per member and period",
        log="xy",
        ticks=(0.02, 0.05, 0.1, 0.2, 0.5),
        title="n = 40, k = 3; 95 % CI",
        legend="lower right",
    )


def _draw_bursts(axes: Axes, cells: list[Rates]) -> None:
    """The same mean loss in longer and longer bursts."""
    usual = [
        c
        for c in cells
        if not (c.params.stream_ping or c.params.push_pull)
        and (c.params.nodes, c.params.helpers) == (40, 3)
    ]
    shown = [(0.1, "suspicion"), (0.05, "suspicion"), (0.1, "lifeguard")]
    for series, (loss, detector) in zip(style.SERIES, shown, strict=False):
        found = [c for c in usual if (c.params.loss, c.params.detector) == (loss, detector)]
        bursts = sorted((c for c in found if c.params.burst), key=lambda c: c.params.burst)
        if not bursts:
            continue
        lengths = [c.params.burst / SECOND for c in bursts]
        style.curve(
            axes, lengths, [c.episodes for c in bursts], series, f"{loss:.0%} lost, {detector}"
        )
        for even in (c for c in found if not c.params.burst and c.seen):
            axes.axhline(even.episodes.value, color=series.colour, linestyle=":", linewidth=1)
    axes.plot([], [], "k:", linewidth=1, label="the same loss, packet by packet")
    wait = theory.suspicion_min(40, LAN.suspicion_mult, PERIOD) / SECOND
    axes.axvline(wait, color="0.4", linestyle="--", linewidth=1, label="suspicion timeout")
    style.finish(
        axes,
        x="mean length of a burst (s)",
        y="episodes per member and period",
        log="y",
        title="loss in bursts on members' access links, n = 40, k = 3; 95 % CI",
    )
