"""E3: how fast does one piece of news reach everybody, and does it reach everybody?

One node of a settled group changes its metadata, or fires a user event of Serf's. Gossip is an
epidemic: at every tick each node that has the news sends it to a few random others, a fixed number
of times in all. How long until half of the group knows, and until the last one does; who is never
reached; what does it cost?

The formulas (spec experiments.md, F8 to F11) disagree with each other on purpose. F9 describes
ticks that are not synchronised, as in every real cluster; F10 describes rounds; F11 says who is
missed because nodes fall silent after M transmissions. F8 is the curve of the simulator on Serf's
web site, whose factor one half has no derivation: it is drawn, and matching it would be a defect.

Probing is switched off where nothing rides on pings, so gossip is all there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from msgspec import Struct
from msgspec.structs import asdict, astuple, replace

from backends.sim import Cluster, Network
from backends.sim.inspectors import Infection
from backends.sim.network import Bernoulli
from experiments import statistics, style, theory
from experiments.experiment import Cell, Row, Scale, Verdict, by_cell
from experiments.statistics import Interval
from swimsim import HOUR, LAN, MS, SECOND, Config, rng
from swimsim.effects import Event, Updated, UserEventReceived
from swimsim.inputs import FireEvent, UpdateMeta
from swimsim.messages import Alive, Message, User
from swimsim.terms import Micros

NEWS = b"news"
SETTLE = 1 * SECOND
FOREVER = 1000  # a retransmit multiplier under which nobody falls silent

SHARES = {"t10": 0.1, "t25": 0.25, "t50": 0.5, "t75": 0.75, "t90": 0.9, "t99": 0.99, "t_all": 1.0}
"""Columns of the rows: the time at which that share of the living has the news."""

F10_MEANS = {
    (30, 1.0): 4.35,
    (128, 1.0): 6.02,
    (1000, 1.0): 8.18,
    (10_000, 1.0): 10.5,
    (30, 0.5): 6.94,
    (128, 0.5): 9.63,
    (1000, 0.5): 13.3,
    (10_000, 0.5): 17.2,
}
"""Mean synchronous rounds to all for f = 3, by (n, q): Monte Carlo (spec experiments.md, F10)."""


class Params(Struct, frozen=True):
    """One cell of the experiment."""

    nodes: int
    fanout: int = 3  # f, members gossiped to at each tick
    loss: float = 0.0  # of each packet, by itself
    failed: float = 0.0  # share of the members that are dead, which nobody has noticed
    retransmit_mult: int = 4  # times ceil(log10(n + 1)) makes M
    interval: Micros = 200 * MS  # of the gossip ticker
    synchronous: bool = False  # everybody ticks at the same instants
    piggyback: bool = False  # news also rides on pings and acks, and there are pings and acks
    push_pull: bool = False  # nodes also exchange full states
    news: Literal["update", "event"] = "update"  # a member's new metadata, or a Serf user event

    @property
    def living(self) -> int:
        """How many members can hear the news, its origin included."""
        return self.nodes - round(self.failed * self.nodes)

    @property
    def arrival(self) -> float:
        """The probability that a gossip packet finds a living member: q (1 - failed)."""
        return (1 - self.loss) * (1 - self.failed)


def cells(scale: Scale) -> list[Cell]:
    """The grid of the experiment, cheapest cells first."""
    if scale == "demo":
        return [Cell(Params(1000), 12)]
    return _quick() if scale == "quick" else _full()


def _quick() -> list[Cell]:
    sizes = {30: 300, 100: 200, 300: 60, 1000: 24, 4000: 4}
    grid = [Cell(Params(n), runs) for n, runs in sizes.items()]
    grid += [Cell(Params(n, loss=0.5), sizes[n]) for n in (30, 100, 300, 1000)]
    grid += [Cell(Params(n, loss=0.1), sizes[n]) for n in (30, 100)]
    grid += [Cell(Params(100, fanout=f), 100) for f in (1, 2, 4)]
    grid += [Cell(Params(300, failed=share), 60) for share in (0.25, 0.5)]
    grid += [Cell(Params(100, retransmit_mult=mult), 400) for mult in (1, 2)]
    grid += [Cell(Params(100, piggyback=True), 100), Cell(Params(100, news="event"), 60)]
    grid += [Cell(Params(100, retransmit_mult=1, push_pull=True), 30)]
    for n, runs in {30: 200, 128: 100, 1000: 12}.items():
        grid += [_rounds(n, loss, runs) for loss in (0.0, 0.5)]
    return grid


def _full() -> list[Cell]:
    """Reduced for time: above 300 members fewer runs, losses and fanouts than the section asks."""
    sizes = {30: 300, 100: 600, 300: 300, 1000: 60, 4000: 20, 10_000: 20}
    grid = []
    for n, runs in sizes.items():
        grid += [Cell(Params(n, loss=loss), runs) for loss in (0.0, 0.5)]
        if n <= 1000:
            grid += [Cell(Params(n, loss=loss), min(runs, 300)) for loss in (0.1, 0.3)]
    for n, runs in {30: 300, 100: 300, 1000: 20}.items():
        grid += [Cell(Params(n, f, loss), runs) for f in (1, 2, 4) for loss in (0.0, 0.5)]
    grid += [Cell(Params(300, failed=share), 200) for share in (0.25, 0.5)]
    grid += [Cell(Params(100, retransmit_mult=mult), 600) for mult in (1, 2)]
    grid.append(Cell(Params(1000, retransmit_mult=2), 300))
    for interval in (100 * MS, 500 * MS):
        grid.append(Cell(Params(100, interval=interval), 300))
    grid.append(Cell(Params(100, piggyback=True), 300))
    grid.append(Cell(Params(100, retransmit_mult=1, push_pull=True), 300))
    grid += [Cell(Params(n, news="event"), runs) for n, runs in {100: 300, 1000: 20}.items()]
    for n, runs in {30: 300, 128: 300, 1000: 60, 10_000: 20}.items():
        grid += [_rounds(n, loss, runs) for loss in (0.0, 0.5)]
    return grid


def _rounds(n: int, loss: float, runs: int) -> Cell:
    """A cell of F10: synchronous rounds, and nobody falls silent."""
    return Cell(Params(n, loss=loss, synchronous=True, retransmit_mult=FOREVER), runs)


def seed_key(params: Params) -> tuple[str | int, ...]:
    """Estimates of different cells are independent of each other."""
    return tuple(str(value) for value in astuple(params))


def config_of(params: Params) -> Config:
    """The protocol settings of a cell."""
    return replace(
        LAN,
        gossip_nodes=params.fanout,
        gossip_interval=params.interval,
        retransmit_mult=params.retransmit_mult,
        stagger=not params.synchronous,
        piggyback=params.piggyback,
        probe_interval=LAN.probe_interval if params.piggyback else 1 * HOUR,
        push_pull_interval=LAN.push_pull_interval if params.push_pull else 0,
        reconnect_interval=0,
        serf=params.news == "event",
    )


def run(params: Params, seed: int) -> list[Row]:
    """One piece of news: times after its creation in seconds, None where they never came."""
    config = config_of(params)
    network = Network(loss=Bernoulli(params.loss) if params.loss else None)
    cluster = Cluster(params.nodes, config, network, seed=seed, record=())
    chance = Random(rng.seed(seed, "fault schedule"))
    chosen = chance.sample(cluster.hosts, params.nodes - params.living + 1)
    origin, *victims = (host.name for host in chosen)
    cluster.run(SETTLE + chance.randrange(1, config.gossip_interval))
    for victim in victims:
        cluster.kill(victim)

    watch = Infection(_is_news, _tells, origin)
    cluster.observers.append(watch)
    cluster.inspectors.append(watch)
    made = cluster.now
    limit = 600 * SECOND if params.push_pull else 500 * params.interval
    update = params.news == "update"
    cluster.request(origin, UpdateMeta(NEWS) if update else FireEvent(1, "news", NEWS, False))
    cluster.run_until(lambda: _is_over(cluster, watch, params), made + limit, every=params.interval)
    return [_row(params, watch, made, limit)]


def _is_news(message: Message) -> bool:
    """Whether a message is the news; a user event is the only one of its kind here."""
    return isinstance(message, User) or (isinstance(message, Alive) and message.peer.meta == NEWS)


def _tells(event: Event) -> bool:
    """Whether an event says that the news has come."""
    if isinstance(event, UserEventReceived):
        return event.payload == NEWS
    return isinstance(event, Updated) and event.peer.meta == NEWS


def _is_over(cluster: Cluster, watch: Infection, params: Params) -> bool:
    """Whether nothing more can happen that is measured."""
    complete = len(watch.known_at) == params.living
    if params.retransmit_mult == FOREVER:
        return complete
    if params.push_pull and not complete:
        return False
    return not any(host.node.broadcasts.ticking for host in cluster.hosts if host.node)


def _row(params: Params, watch: Infection, made: Micros, limit: Micros) -> Row:
    known = sorted(watch.known_at.values())
    informed, living = len(known), params.living
    times: Row = {}
    for name, share in SHARES.items():
        wanted = math.ceil(share * living)
        times[name] = (known[wanted - 1] - made) / SECOND if wanted <= informed else None
    first_tick = -(-made // params.interval) * params.interval
    rounds = (known[-1] - first_tick) // params.interval + 1
    return {
        **times,
        "rounds": rounds if params.synchronous and informed == living else None,
        "informed": informed,
        "missed": living - informed,
        "packets_per_node": watch.packets / informed,
        "rides_per_node": watch.rides / informed,
        "copies_per_delivery": watch.copies / max(1, informed - 1),
        "limit_s": limit / SECOND,
    }


# --- what came of it -------------------------------------------------------------------------

SETTINGS = tuple(Params.__struct_fields__)


def _cells(rows: pd.DataFrame) -> Iterator[tuple[Params, pd.DataFrame]]:
    return by_cell(rows, Params)


def _is_gossip_alone(params: Params) -> bool:
    """Whether the cell is one that F9 and F11 speak of."""
    return not (params.synchronous or params.piggyback or params.push_pull)


def _load(params: Params) -> float:
    """M q, how many copies each node brings across."""
    m = theory.transmissions(params.nodes, params.retransmit_mult)
    return m * params.arrival


def _expected(params: Params, share: float) -> float:
    """F9 in seconds."""
    n, f, q, interval = params.living, params.fanout, params.arrival, params.interval / SECOND
    if share == 1:
        return theory.spread_time_to_all(n, f, q, interval)
    return theory.spread_time(n, f, q, interval, share)


def _complete(rows: pd.DataFrame) -> pd.DataFrame:
    """The runs in which everybody was reached; the table and a verdict say how many were not."""
    return rows[rows.missed == 0]


def label(params: Params) -> str:
    """What distinguishes a cell from the default, in words."""
    differs = {
        name: value
        for name, value in asdict(params).items()
        if name != "nodes" and value != Params.__struct_defaults__[SETTINGS.index(name) - 1]
    }
    words = [f"n={params.nodes}"]
    for name, value in differs.items():
        match name:
            case "fanout":
                words.append(f"f={value}")
            case "interval":
                words.append(f"interval {value / SECOND:g} s")
            case "loss" | "failed":
                words.append(f"{value:.0%} {'lost' if name == 'loss' else 'failed'}")
            case "retransmit_mult":
                words.append("endless" if value == FOREVER else f"mult {value}")
            case "news":
                words.append("user event")
            case _:
                words.append(name.replace("_", "/" if name == "push_pull" else " "))
    return ", ".join(words)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Each cell: mean times, those to all over complete runs, with the formulas beside them."""
    lines = []
    for params, group in _cells(rows):
        whole = _complete(group)
        alone = _is_gossip_alone(params)
        q, interval = params.arrival, params.interval / SECOND
        lines.append(
            {
                "cell": label(params),
                "runs": len(group),
                "complete": len(whole),
                "t50_s": group.t50.mean(),
                "F9_t50": _expected(params, 0.5) if alone else None,
                "F8_t50": theory.serf_time(params.living, params.fanout, q, interval, 0.5),
                "t90_s": group.t90.mean(),
                "t99_s": group.t99.mean(),
                "t_all_s": whole.t_all.mean(),
                "F9_t_all": _expected(params, 1) if alone else None,
                "rounds": whole.rounds.mean() if params.synchronous else None,
                "F10": F10_MEANS.get((params.nodes, q)) if params.synchronous else None,
            }
        )
    return pd.DataFrame(lines)


def tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Each cell that falls silent: who was missed, and what the news cost."""
    lines = []
    for params, group in _cells(rows):
        if params.retransmit_mult == FOREVER:
            continue
        alone, n, q = _is_gossip_alone(params), params.living, params.arrival
        m = theory.transmissions(params.nodes, params.retransmit_mult)
        lines.append(
            {
                "cell": label(params),
                "runs": len(group),
                "missed": int(group.missed.sum()),
                "residue_ppm": 1e6 * group.missed.sum() / (len(group) * n),
                "F11_ppm": 1e6 * theory.residue(m, q) if alone else None,
                "complete": len(_complete(group)) / len(group),
                "F11_complete": theory.complete_chance(n, m, q) if alone else None,
                "packets_per_node": group.packets_per_node.mean(),
                "M": m,
                "rides_per_node": group.rides_per_node.mean(),
                "copies_per_delivery": group.copies_per_delivery.mean(),
            }
        )
    return {"cost": pd.DataFrame(lines)}


def verdicts(rows: pd.DataFrame) -> list[Verdict]:
    """The acceptance lines of E3, each cell by itself."""
    judged: list[Verdict] = []
    for params, group in _cells(rows):
        if params.synchronous:
            judged += _judge_rounds(params, group)
        elif _is_gossip_alone(params):
            judged += _judge_times(params, group)
            judged += _judge_residue(params, group)
        if not (params.synchronous or params.piggyback):
            judged += _judge_cost(params, group)
        judged += _judge_serf_curve(params, group)
    return judged


def _judge_times(params: Params, group: pd.DataFrame) -> Iterator[Verdict]:
    """T50 within 10 % and T_all within 6 % of F9; 15 % for f = 1 or n = 30."""
    rough = params.fanout == 1 or params.nodes < 100
    if params.arrival < 0.5:
        return
    for name, share, tolerance in (("t50", 0.5, 0.10), ("t_all", 1.0, 0.06)):
        sample = (group if share < 1 else _complete(group))[name].dropna()
        if not len(sample):
            continue
        reference, allowed = _expected(params, share), 0.15 if rough else tolerance
        found = statistics.mean(sample)
        words = "half know" if share < 1 else "all know"
        yield Verdict(
            f"{label(params)}: mean time until {words}",
            f"F9 {reference:.3f} s within {allowed:.0%}",
            f"{_with_interval(found)} s, {found.value / reference - 1:+.1%}, {len(sample)} runs",
            statistics.judge(
                found, reference * (1 - allowed), reference * (1 + allowed), len(sample)
            ),
        )


def _judge_residue(params: Params, group: pd.DataFrame) -> Iterator[Verdict]:
    """Who is missed: the share within 25 % of F11, complete runs within 5 points of e^-ns."""
    n, load = params.living, _load(params)
    if load < 5 or params.arrival < 0.5:
        return
    m = theory.transmissions(params.nodes, params.retransmit_mult)
    expected = theory.residue(m, params.arrival)
    missed = int(group.missed.sum())
    if missed >= 100:
        found = statistics.mean(group.missed / n)
        yield Verdict(
            f"{label(params)}: share of the members that is never reached",
            f"F11 {expected:.2e} within 25 %",
            f"{found.value:.2e} [{found.low:.2e}, {found.high:.2e}], {missed} missed",
            statistics.judge(found, 0.75 * expected, 1.25 * expected, len(group)),
        )
    complete = statistics.proportion(len(_complete(group)), len(group))
    chance = math.exp(-n * expected)
    yield Verdict(
        f"{label(params)}: runs that reach everybody",
        f"F11 {chance:.1%} within 5 points",
        f"{complete.value:.1%} [{complete.low:.1%}, {complete.high:.1%}], {len(group)} runs",
        statistics.judge(complete, chance - 0.05, chance + 0.05, len(group)),
    )


def _judge_cost(params: Params, group: pd.DataFrame) -> Iterator[Verdict]:
    """Each node that has the news sends it M times."""
    m = theory.transmissions(params.nodes, params.retransmit_mult)
    found = statistics.mean(group.packets_per_node)
    yield Verdict(
        f"{label(params)}: packets that each node sends for it",
        f"M = {m} within 1 %",
        f"{_with_interval(found)}",
        statistics.judge(found, 0.99 * m, 1.01 * m, len(group)),
    )


def _judge_rounds(params: Params, group: pd.DataFrame) -> Iterator[Verdict]:
    """Synchronous rounds to all, against the Monte-Carlo table of F10."""
    reference = F10_MEANS.get((params.nodes, 1 - params.loss))
    sample = _complete(group).rounds.dropna()
    if reference is None or not len(sample):
        return
    found = statistics.mean(sample)
    yield Verdict(
        f"{label(params)}: mean rounds until all know",
        f"F10 {reference:g} within 0.3",
        f"{_with_interval(found)}, {len(sample)} runs",
        statistics.judge(found, reference - 0.3, reference + 0.3, len(sample)),
    )


def _judge_serf_curve(params: Params, group: pd.DataFrame) -> Iterator[Verdict]:
    """Serf's curve is too slow for ticks that are not synchronised: to match it is a defect."""
    if params != Params(params.nodes, loss=params.loss) or params.arrival < 0.5:
        return
    for name, share, low, high in (("t50", 0.5, 1.8, 2.0), ("t_all", 0.9999, 2.2, 3.4)):
        sample = (group if share == 0.5 else _complete(group))[name].dropna()
        if not len(sample):
            continue
        q, interval = params.arrival, params.interval / SECOND
        serf = theory.serf_time(params.living, params.fanout, q, interval, share)
        times = statistics.mean(sample)
        slower = Interval(serf / times.value, serf / times.high, serf / times.low)
        yield Verdict(
            f"{label(params)}: Serf's formula F8 is too slow {'at half' if low < 2 else 'to all'}",
            f"F8 is {low:g} to {high:g} times the measured time",
            f"{_with_interval(slower)} times ({serf:.3f} s)",
            statistics.judge(slower, low, high, len(sample)),
            explanation=SERF_RATIO,
        )


SERF_RATIO = (
    "The range was read off sizes of 30 to 1000. If F9 holds exactly, F8 is"
    " 2 (ln(n+1)) / (ln n + 0.58) times as slow at half and (ln(n+1) + 9.21) / (ln n + 0.58) times"
    " to all, which leaves the range at both ends of the sizes: 1.73 and 3.17 at n = 30, 1.88 and"
    " 1.88 at 10,000. The measured time is judged against F9 in lines of its own."
)


def _with_interval(found: Interval) -> str:
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


# --- the picture -----------------------------------------------------------------------------


def figure(rows: pd.DataFrame) -> Figure:
    """One epidemic over time; time to all against n; who is missed against M q."""
    picture, (left, middle, right) = style.figure(3, title="How one piece of news spreads")
    _draw_curves(left, rows)
    _draw_growth(middle, rows)
    _draw_residue(right, rows)
    return picture


def _draw_curves(axes: Axes, rows: pd.DataFrame) -> None:
    """The share that knows, for the size with most runs that is at least 100."""
    usual = [(p, g) for p, g in _cells(rows) if p == Params(p.nodes, loss=p.loss)]
    sizes = sorted({p.nodes for p, _ in usual if p.loss == 0})
    n = 1000 if 1000 in sizes else sizes[-1]
    chosen = sorted((p.loss, g) for p, g in usual if p.nodes == n and p.loss in (0.0, 0.5))
    for series, (loss, group) in zip(style.SERIES, chosen, strict=False):
        params = Params(n, loss=loss)
        shares = 100 * np.array([*SHARES.values()])
        times = group[list(SHARES)].astype(float)
        low, middle, high = (times.quantile(share) for share in (0.05, 0.5, 0.95))
        axes.fill_betweenx(shares, low, high, color=series.colour, alpha=0.25, linewidth=0)
        axes.plot(
            middle,
            shares,
            color=series.colour,
            marker=series.marker,
            markersize=4,
            linestyle="none",
            label=f"measured, {loss:.0%} loss ({len(group)} runs)",
        )
        interval, q = params.interval / SECOND, params.arrival
        grid = np.linspace(0, 2.6 * theory.serf_time(n, params.fanout, q, interval, 0.5), 300)
        f9 = 100 * theory.spread_share(grid, n, params.fanout, q, interval)
        f8 = 100 * theory.serf_share(grid, n, params.fanout, loss, 0.0, interval)
        axes.plot(grid, f9, color=series.colour, linewidth=1.2, label=f"F9, {loss:.0%} loss")
        axes.plot(
            grid,
            f8,
            color=series.colour,
            linewidth=1.2,
            linestyle="--",
            label=f"F8 (Serf's web site), {loss:.0%} loss",
        )
    style.finish(
        axes,
        x="time after its creation (s)",
        y="members that know (%)",
        title=f"n = {n}, f = 3; points: median of runs, band: 5 to 95 %",
        legend="lower right",
    )


def _draw_growth(axes: Axes, rows: pd.DataFrame) -> None:
    """Time to all against n, a line for each f q."""
    found: dict[float, list[tuple[int, Interval]]] = {}
    for params, group in _cells(rows):
        whole = _complete(group)
        usual = params == Params(params.nodes, params.fanout, params.loss)
        if usual and _is_gossip_alone(params) and params.loss in (0.0, 0.5) and len(whole):
            load = params.fanout * params.arrival
            found.setdefault(load, []).append((params.nodes, statistics.mean(whole.t_all)))
    wanted = [load for load in (1.0, 1.5, 3.0, 4.0) if load in found]
    for series, load in zip(style.SERIES, wanted, strict=False):
        points = dict(sorted(found[load]))
        sizes = sorted(points)
        style.curve(axes, sizes, [points[n] for n in sizes], series, f"f q = {load:g}")
        grid = np.geomspace(30, max(sizes) * 1.2, 40)
        expected = [theory.spread_time_to_all(int(n), load, 1.0, 0.2) for n in grid]
        style.formula(axes, grid, expected, "F9" if load == wanted[0] else "")
    axes.set_ylim(bottom=0)
    style.finish(
        axes,
        x="members n",
        y="mean time until all know (s)",
        log="x",
        title="ticks every 0.2 s; complete runs, 95 % CI",
    )


def _draw_residue(axes: Axes, rows: pd.DataFrame) -> None:
    """Who is never reached, against the copies that each node brings across."""
    grid = np.linspace(1.2, 13, 200)
    style.formula(axes, grid, [theory.residue(x, 1.0) for x in grid], "F11: s = exp(-Mq(1-s))")
    drawn: set[int] = set()
    sizes = sorted({p.nodes for p, _ in _cells(rows) if _is_gossip_alone(p)})
    look = dict(zip(sizes, style.SERIES, strict=False))
    for params, group in _cells(rows):
        missed = int(group.missed.sum())
        if not _is_gossip_alone(params) or missed < 5:
            continue
        found = statistics.mean(group.missed / params.living)
        series = look[params.nodes]
        axes.errorbar(
            [_load(params)],
            [found.value],
            [[found.value - found.low], [found.high - found.value]],
            color=series.colour,
            marker=series.marker,
            markersize=5,
            capsize=2,
            linestyle="none",
            label=None if params.nodes in drawn else f"n = {params.nodes}",
        )
        drawn.add(params.nodes)
    style.finish(
        axes,
        x="M q, transmissions that arrive",
        y="share never reached",
        log="y",
        title="who gossip misses (push/pull off), 95 % CI",
    )
