"""E6: how fast is a split noticed, and does the group grow together again?

A settled group is cut in two, packets and streams alike, and the cut heals after a while. Each
side declares the other dead, one member after the other: the first when a suspicion has run
its time, the last when somebody has come round to it. Afterwards nobody probes the dead, and
gossip reaches them for only 30 s more: unless somebody remembers them, a longer cut is for ever.
Serf remembers, and tries one of its lost members now and then (spec experiments.md, E6; spec
serf.md, 2.8).

To ask another question, change a cell: every parameter is in ``Params``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from msgspec import Struct
from msgspec.structs import replace

from backends.sim import Cluster
from backends.sim.checks import Inspector, Observer, Tap
from backends.sim.faults import Hosts, Partition
from backends.sim.host import Host
from backends.sim.strikes import select
from experiments import statistics, style, theory
from experiments.experiment import Cell, Row, Scale, Verdict, by_cell
from experiments.film import Film, cloud
from experiments.style import SERIES
from swimsim import LAN, MINUTE, SECOND, Config
from swimsim.effects import Effect, Event, Exchange, Failed, Joined, Refuted
from swimsim.inputs import Input
from swimsim.member import ALIVE
from swimsim.messages import Message
from swimsim.node import Node
from swimsim.serf.reconnect import FIRST_EXCHANGE
from swimsim.terms import HOUR, Micros, NodeId

PROTOCOL_PERIOD_S = LAN.probe_interval / SECOND
AGREE: Micros = 10 * MINUTE  # after the heal all views are one, incarnations too


class Params(Struct, frozen=True):
    """One cell of the experiment."""

    nodes: int
    share: float = 0.5  # of the members on the small side; 0: one member alone
    cut_s: int = 300
    watch_s: int = 300  # after the heal, unless all is well before
    reconnect: bool = True
    lifeguard: bool = True
    one_way: bool = False  # only what the small side sends is lost
    give_up_s: int = 24 * 3600  # Serf's reconnect timeout
    film: bool = False  # also record what every node believes, each second

    @property
    def small(self) -> int:
        """Members on the small side."""
        return max(1, round(self.share * self.nodes))

    @property
    def earliest_s(self) -> float:
        """I + S_min, the soonest that anybody can be declared dead."""
        least = theory.suspicion_min(self.nodes, LAN.suspicion_mult, PROTOCOL_PERIOD_S)
        return PROTOCOL_PERIOD_S + least


def cells(scale: Scale) -> list[Cell]:
    """The grid, cheapest first."""
    if scale == "demo":
        return [Cell(Params(64, film=True), 1)]
    quick = scale == "quick"
    runs, many = (4, 4) if quick else (10, 30)
    grid = [
        Cell(Params(64, cut_s=cut, reconnect=reconnect), runs)
        for cut in ((15,) if quick else (5, 10, 15, 60))
        for reconnect in (False, True)
    ]
    grid += [Cell(Params(32, lifeguard=lifeguard), many) for lifeguard in (True, False)]
    grid.append(Cell(Params(32, reconnect=False), runs))
    grid.append(Cell(Params(32, give_up_s=60), runs // 2))
    grid.append(Cell(Params(32, cut_s=60, one_way=True), runs // 2))
    for share in (0.5, 0.25) if quick else (0.5, 0.25, 0.1, 0.0):
        for lifeguard in (True, False):
            grid.append(Cell(Params(64, share, lifeguard=lifeguard), many if share else runs))
    if not quick:
        grid.append(Cell(Params(64, reconnect=False), runs))
        grid.append(Cell(Params(64, 0.25, reconnect=False), runs))
        grid.append(Cell(Params(128), many))
        grid += [Cell(Params(128, share), 6) for share in (0.25, 0.1, 0.0)]
        grid.append(Cell(Params(512, cut_s=120), 2))
    grid.append(Cell(Params(64, film=True), 1))
    return grid


def seed_key(params: Params) -> tuple[str | int, ...]:
    """SWIM and Lifeguard, with and without reconnect, share their random numbers."""
    return (params.nodes, params.small, params.cut_s, params.one_way, params.film)


def config_of(params: Params) -> Config:
    """The protocol settings of a cell: memberlist's LAN, and Serf's reconnect."""
    config = replace(LAN, reconnect_timeout=params.give_up_s * SECOND)
    if not params.reconnect:
        config = replace(config, reconnect_interval=0)
    if not params.lifeguard:
        config = replace(config, lha_probe=False, lha_suspicion=False, buddy_system=False)
    return config


class Watch(Observer, Tap, Inspector):
    """Verdicts of death across the cut and within a side, and what follows the heal."""

    def __init__(self, small: set[NodeId], nodes: int) -> None:
        self.small = small
        self.nodes = nodes
        self.first: Micros | None = None  # verdict across the cut
        self.small_full: Micros | None = None  # the small side holds all of the other dead
        self.large_full: Micros | None = None
        self.same_side = 0  # verdicts about a member of one's own side, during the cut
        self.collateral = 0  # the same afterwards: the other side's verdicts cross over
        self.condemned: set[tuple[NodeId, NodeId]] = set()  # observer, subject; across the cut
        self.by_side: Counter[bool] = Counter()  # of these, by whether the observer is small
        self.healed: Micros | None = None
        self.attempt: Micros | None = None  # to reach a lost member, since the heal
        self.met: Micros | None = None  # somebody is alive again to somebody across the cut
        self.refutations = 0  # since the heal
        self.packets = 0  # likewise

    @property
    def pairs(self) -> int:
        """On each side: who is to hold whom dead."""
        return len(self.small) * (self.nodes - len(self.small))

    def on_event(self, now: Micros, host: Host, event: Event) -> None:
        """Take note of verdicts, and after the heal of reunions."""
        if isinstance(event, Failed):
            self._condemn(now, host.name, event.node)
        elif self.healed is not None and isinstance(event, Joined):
            if self.met is None and self._is_across(host.name, event.peer.name):
                self.met = now
        elif self.healed is not None and isinstance(event, Refuted):
            self.refutations += 1

    def _condemn(self, now: Micros, observer: NodeId, subject: NodeId) -> None:
        if not self._is_across(observer, subject):
            if self.healed is None:
                self.same_side += 1
            else:
                self.collateral += 1
            return
        if self.first is None:
            self.first = now
        if self.healed is not None or (observer, subject) in self.condemned:
            return
        self.condemned.add((observer, subject))
        is_small = observer in self.small
        self.by_side[is_small] += 1
        if self.by_side[is_small] == self.pairs:
            if is_small:
                self.small_full = now
            else:
                self.large_full = now

    def _is_across(self, one: NodeId, other: NodeId) -> bool:
        return (one in self.small) != (other in self.small)

    def on_sent(
        self, now: Micros, source: Host, target: Host, messages: tuple[Message, ...]
    ) -> None:
        """Count what is sent to grow together."""
        self.packets += self.healed is not None

    def on_step(
        self, now: Micros, host: Host, before: Node, input: Input, effects: tuple[Effect, ...]
    ) -> None:
        """Take note of the first attempt to reach somebody lost."""
        for effect in effects:
            if isinstance(effect, Exchange) and effect.exchange >= FIRST_EXCHANGE:
                if self.attempt is None:
                    self.attempt = now


def run(params: Params, seed: int) -> list[Row]:
    """One cut and its heal; times are seconds after either, None where they never came."""
    cluster = Cluster(params.nodes, config_of(params), seed=seed, record=())
    cluster.run(2 * SECOND)
    side = select(cluster, Hosts(random=params.small))
    names = tuple(host.name for host in side)
    watch = Watch(set(names), params.nodes)
    cluster.observers.append(watch)
    cluster.taps.append(watch)
    before = _incarnations(cluster)
    began = cluster.now
    film = Film(began, lambda host: "A" if host.name in watch.small else "B")
    play = partial(film.play, cluster) if params.film else cluster.run
    cut = Partition(at=began, groups=(Hosts(names=names),), one_way=params.one_way)
    cluster.strike(cut)
    play(began + params.cut_s * SECOND)
    cluster.fabric.heal()
    watch.healed = healed = cluster.now
    cluster.inspectors.append(watch)
    limit = healed + params.watch_s * SECOND
    while not _is_well(cluster) and cluster.now < limit:
        play(min(limit, cluster.now + SECOND // 10))
    merged = cluster.now if _is_well(cluster) else None
    packets = watch.packets
    if params.film:
        play(cluster.now + 15 * SECOND)
    while merged is not None and _views(cluster) > 1 and cluster.now < healed + AGREE:
        play(cluster.now + SECOND)

    def after(start: Micros, instant: Micros | None) -> float | None:
        return None if instant is None else (instant - start) / SECOND

    fulls = [watch.small_full, watch.large_full]
    both = None if None in fulls else max(filter(None, fulls))
    rows: list[Row] = [
        {
            "kind": "run",
            "first_dead_s": after(began, watch.first),
            "small_full_s": after(began, watch.small_full),
            "large_full_s": after(began, watch.large_full),
            "full_s": after(began, both),
            "limit_s": float(params.cut_s),
            "condemned": len(watch.condemned) / (2 * watch.pairs),
            "same_side_dead": watch.same_side,
            "collateral_dead": watch.collateral,
            "attempt_s": after(healed, watch.attempt),
            "met_s": after(healed, watch.met),
            "merged_s": after(healed, merged),
            "watched_s": float(params.watch_s),
            "agreed_s": after(healed, cluster.now if _views(cluster) == 1 else None),
            "views": _views(cluster),
            "incarnations_kept": _are_kept(before, _incarnations(cluster)),
            "refutations": watch.refutations,
            "packets": packets,
        }
    ]
    return rows + film.rows


def _is_well(cluster: Cluster) -> bool:
    """Whether everybody holds everybody alive."""
    n = len(cluster.hosts)
    return all(host.node is not None and host.node.members.count(ALIVE) == n
               for host in cluster.hosts)  # fmt: skip


def _views(cluster: Cluster) -> int:
    """How many different views there are, incarnations included."""
    return len({host.node.members.digest for host in cluster.hosts if host.node})


def _incarnations(cluster: Cluster) -> list[dict[NodeId, int]]:
    """By observer and member."""
    return [
        {known.peer.name: known.incarnation for known in host.node.members}
        for host in cluster.hosts
        if host.node is not None
    ]


def _are_kept(before: list[dict[NodeId, int]], now: list[dict[NodeId, int]]) -> bool:
    """Whether nobody believes in an older incarnation than it did before."""
    return all(
        table.get(name, number) >= number
        for table, old in zip(now, before, strict=True)
        for name, number in old.items()
    )


# --- what came of it -------------------------------------------------------------------------

FULL_S = {(32, 0.5, True): 17.9, (64, 0.5, True): 23.0, (64, 0.5, False): 21.6,
          (64, 0.25, True): 101.0, (64, 0.25, False): 45.0}  # fmt: skip
"""Median time until each side holds all of the other dead: the reference model, by members, share
and Lifeguard (spec experiments.md, E6)."""

SHORT_MERGED_S = 29.0
"""The same for the median time to grow together after a cut of 15 s (n = 64, no reconnect)."""


def _runs(rows: pd.DataFrame) -> Iterator[tuple[Params, pd.DataFrame]]:
    return by_cell(rows[rows.kind == "run"], Params)


def label(params: Params) -> str:
    """A cell in words."""
    side = "half" if params.share == 0.5 else f"{params.small} members"
    words = [f"n={params.nodes}, {side} cut off for {params.cut_s} s"]
    if params.one_way:
        words.append("one way")
    if not params.reconnect:
        words.append("no reconnect")
    elif params.give_up_s < HOUR // SECOND:
        words.append(f"reconnect gives up after {params.give_up_s} s")
    if not params.lifeguard:
        words.append("SWIM")
    return ", ".join(words)


def _waits(group: pd.DataFrame, name: str, limit: str) -> statistics.Survival:
    return statistics.survival(group[name], group[limit])


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Each cell: when the split is noticed. Medians count runs that never came to it."""
    lines = []
    for params, group in _runs(rows):
        lines.append(
            {
                "cell": label(params),
                "runs": len(group),
                "first_dead_s": group.first_dead_s.median(),
                "I+S_min_s": params.earliest_s if params.cut_s > params.earliest_s else None,
                "small_full_s": _waits(group, "small_full_s", "limit_s").quantile(0.5).value,
                "large_full_s": _waits(group, "large_full_s", "limit_s").quantile(0.5).value,
                "full_s": _waits(group, "full_s", "limit_s").quantile(0.5).value,
                "R_full_s": _reference(params),
                "complete": f"{group.full_s.notna().sum()} of {len(group)}",
                "condemned": group.condemned.mean(),
                "same_side_dead": int(group.same_side_dead.sum()),
            }
        )
    return pd.DataFrame(lines)


def tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Each cell: how the group grows together again, in seconds after the heal."""
    lines = []
    for params, group in _runs(rows):
        merged = _waits(group, "merged_s", "watched_s")
        lines.append(
            {
                "cell": label(params),
                "merged": f"{group.merged_s.notna().sum()} of {len(group)}",
                "attempt_s": _waits(group, "attempt_s", "watched_s").quantile(0.5).value,
                "met_s": _waits(group, "met_s", "watched_s").quantile(0.5).value,
                "merged_p50_s": merged.quantile(0.5).value,
                "merged_p95_s": merged.quantile(0.95).value,
                "agreed_p50_s": statistics.survival(group.agreed_s, 600.0).quantile(0.5).value,
                "views": int(group["views"].max()),
                "refutations": group.refutations.mean(),
                "collateral_dead": group.collateral_dead.mean(),
                "packets": group.packets.mean(),
            }
        )
    return {"heal": pd.DataFrame(lines)}


def _reference(params: Params) -> float | None:
    return FULL_S.get((params.nodes, params.share, params.lifeguard))


def verdicts(rows: pd.DataFrame) -> list[Verdict]:
    """The acceptance lines of E6."""
    rows = rows[~rows.film.astype(bool)]
    judged: list[Verdict] = []
    for params, group in _runs(rows):
        judged += _judge_first(params, group)
    judged.append(_judge_same_side(rows))
    for params, group in _runs(rows):
        judged += _judge_heal(params, group)
    judged += _judge_after(rows)
    judged += _judge_minorities(rows)
    for params, group in _runs(rows):
        judged += _judge_full(params, group)
    return judged


def _judge_first(params: Params, group: pd.DataFrame) -> Iterator[Verdict]:
    """The first verdict across the cut comes when a first suspicion has run its time."""
    expected = params.earliest_s
    if params.cut_s < 2 * expected:
        return
    found = statistics.median(group.first_dead_s.dropna())
    alone = params.small == 1
    yield Verdict(
        f"{label(params)}: first verdict across the cut",
        f"I + S_min = {expected:.2f} s within 5 %",
        f"median {found.value:.2f} s [{found.low:.2f}, {found.high:.2f}], {len(group)} runs",
        statistics.judge(found, 0.95 * expected, 1.05 * expected, len(group)),
        "I + S_min leaves out the wait for the first ping across the cut. With many members on "
        "both sides it is a few hundredths of a second; a member that is alone is pinged after "
        "Exp(1 period) (F1), and itself suspects everybody but has nobody to confirm that, so "
        "its own first verdict takes S_max."
        if alone
        else "",
    )


def _judge_same_side(rows: pd.DataFrame) -> Verdict:
    """While the group is cut, nobody is called dead by its own side."""
    runs = rows[(rows.kind == "run") & ~rows.one_way.astype(bool)]
    wrong = int(runs.same_side_dead.sum())
    return Verdict(
        "during a cut in both directions, no verdict about a member of the own side",
        "0",
        f"{wrong} in {len(runs)} runs",
        wrong == 0,
    )


TAIL_EXPLAINED = (
    "The first reunion comes within a second and gossip carries it on, but each side knows n / 2 "
    "members and so sends news 8 times: it misses e^-8 of the n^2 / 2 pairs of node and news "
    "(F11), 0.7 at n = 64, 2.7 at n = 128. Who missed one has it from its next push/pull, whose "
    "period is 90 s at n = 128. The reference model was run for 32 and 64 members only."
)


def _judge_heal(params: Params, group: pd.DataFrame) -> Iterator[Verdict]:
    """Without reconnect a long split is for ever; with it, it heals within 120 s."""
    if params.one_way or params.give_up_s < params.cut_s:
        return
    merged = group.merged_s.notna().sum()
    if not params.reconnect:
        if params.cut_s > 60:
            yield Verdict(
                f"{label(params)}: does not grow together",
                "0 % within 300 s",
                f"{merged} of {len(group)} runs",
                bool(merged == 0),
            )
        return
    late = len(group) - int((group.merged_s <= 120).sum())
    yield Verdict(
        f"{label(params)}: grows together",
        "100 % within 120 s",
        f"{len(group) - late} of {len(group)} runs, the last after {group.merged_s.max():.1f} s",
        late == 0,
    )
    if params.share == 0.5:
        median = _waits(group, "merged_s", "watched_s").quantile(0.5)
        yield Verdict(
            f"{label(params)}: how soon it grows together",
            "median at most 30 s",
            f"{median.value:.1f} s [{median.low:.1f}, {median.high:.1f}]",
            statistics.judge(median, 0, 30, len(group)),
            TAIL_EXPLAINED if params.nodes > 64 else "",
        )


def _judge_after(rows: pd.DataFrame) -> Iterator[Verdict]:
    """What is one group again is of one mind, and nobody has become younger."""
    runs = rows[(rows.kind == "run") & rows.merged_s.notna()]
    if len(runs):
        yield Verdict(
            "10 min after the heal all views are identical",
            "one view, incarnations included, in every run that grew together",
            f"at most {int(runs['views'].max())} in {len(runs)} runs",
            bool((runs["views"] == 1).all()),
        )
    runs = rows[rows.kind == "run"]
    kept = runs.incarnations_kept.astype(bool)
    yield Verdict(
        "after the heal no incarnation is lower than before the cut",
        "every observer, every member",
        f"{int(kept.sum())} of {len(runs)} runs",
        bool(kept.all()),
    )


def _judge_minorities(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Lifeguard takes a small side longer: most of its probes fail, so it distrusts itself."""
    cells_ = dict(_runs(rows))
    for params, careful in cells_.items():
        swim = cells_.get(replace(params, lifeguard=False))
        if params.share == 0.5 or not params.lifeguard or swim is None:
            continue
        pairs = careful.merge(swim, on="replicate", suffixes=("", "_swim"))
        # A side that never came to it took longer than the cut.
        ours = pairs.small_full_s.fillna(float("inf")).to_numpy()
        theirs = pairs.small_full_s_swim.fillna(float("inf")).to_numpy()
        slower, faster = int((ours > theirs).sum()), int((ours < theirs).sum())
        chance = _sign(slower, faster)
        yield Verdict(
            f"{label(params)}: Lifeguard notices later than SWIM on the small side",
            "sign test on paired runs, p <= 0.05",
            f"slower in {slower}, faster in {faster} of {len(ours)} pairs, p = {chance:.3g}",
            chance <= 0.05 or (None if slower + faster < 5 else False),
        )


def _sign(wins: int, losses: int) -> float:
    """How likely chance alone wins that often."""
    return statistics.sign_test([1.0] * wins + [0.0] * losses, [0.0] * wins + [1.0] * losses)


def _judge_full(params: Params, group: pd.DataFrame) -> Iterator[Verdict]:
    """How long until each side holds all of the other dead."""
    expected = _reference(params)
    if expected is None or params.cut_s < 120 or not params.reconnect or params.one_way:
        return
    median = _waits(group, "full_s", "limit_s").quantile(0.5)
    yield Verdict(
        f"{label(params)}: both sides hold all of the other dead",
        f"median {expected:g} s of the reference model within 30 %",
        f"{median.value:.1f} s [{median.low:.1f}, {median.high:.1f}], {len(group)} runs",
        statistics.judge(median, 0.7 * expected, 1.3 * expected, len(group)),
    )


# --- the pictures ----------------------------------------------------------------------------


def figure(rows: pd.DataFrame) -> Figure:
    """How many members each node sees over time, and how soon a split is mended."""
    picture, (left, right) = style.figure(2, title="A group cut in two, and healed")
    _draw_film(left, rows)
    _draw_merges(right, rows)
    return picture


def _draw_film(axes: Axes, rows: pd.DataFrame) -> None:
    film = rows[rows.kind == "view"]
    if not len(film):
        axes.set_visible(False)
        return
    nodes, cut = int(film.nodes.iloc[0]), float(film.cut_s.iloc[0])
    for group, series in (("A", SERIES[3]), ("B", SERIES[0])):
        label_ = f"seen by side {group} (size of a dot: by how many)"
        cloud(axes, film[film["group"] == group], series, label_)
    for instant, what in ((0.0, "cut"), (cut, "heal")):
        axes.axvline(instant, color="black", linestyle=":", linewidth=1)
        axes.annotate(what, (instant, nodes * 1.04), ha="center", fontsize=8)
    style.finish(
        axes,
        x="time after the cut (s)",
        y="members believed alive",
        title=f"one run, n = {nodes}, halves, reconnect on",
        legend="center right",
    )


def _draw_merges(axes: Axes, rows: pd.DataFrame) -> None:
    """Who has grown together by when."""
    series = iter(SERIES)
    for params, group in _runs(rows):
        if params.share != 0.5 or params.one_way or params.film or not params.lifeguard:
            continue
        if params.give_up_s < params.cut_s or params.nodes > 128 or params.cut_s not in (15, 300):
            continue
        found = _waits(group, "merged_s", "watched_s")
        how = "reconnect" if params.reconnect else "no reconnect"
        name = f"n = {params.nodes}, {params.cut_s} s, {how}"
        line = next(series, None)
        if line is None:
            break
        style.waiting(axes, found, line, name, done=True)
    axes.set_xlim(0, 120)
    axes.set_ylim(-0.02, 1.02)
    style.finish(
        axes,
        x="time after the heal (s)",
        y="share of runs that are one group again",
        title="cuts of 15 s and 300 s into halves (Kaplan-Meier, 95 %)",
        legend="center right",
    )
