"""E4: what does membership cost a member, and does that grow with the group?

A settled group does nothing for five minutes, then a member crashes, then a member changes its
metadata every second. Every packet is counted by kind, with the size that memberlist's encoding
gives it (before compression), and what goes over streams apart from packets.

Probing costs a member two packets a period whatever the size of the group, one ping and one ack,
and as many are received; SWIM's figure 2 measured the same (spec experiments.md, F13). What grows
is anti-entropy: a push/pull carries the whole table, though it comes more rarely in larger groups
(F14). Streams lose nothing here, so that lost packets make no false suspicions, which would add
gossip to what F13 counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from msgspec import Struct
from msgspec.structs import astuple, replace
from scipy import stats

from backends.sim import Cluster, Network
from backends.sim.inspectors import Traffic
from backends.sim.network import Bernoulli
from experiments import statistics, style, theory
from experiments.experiment import Cell, Row, Scale, Verdict, by_cell
from experiments.statistics import Interval
from swimsim import LAN, SECOND, Config, rng
from swimsim.inputs import UpdateMeta
from swimsim.messages import PushPull, size
from swimsim.terms import Micros

SETTLE = 2 * SECOND
PERIOD = LAN.probe_interval
BUSY = 60 * SECOND  # after the crash, and under updates
UDP_IP = 28  # bytes of headers that a packet has on the wire

KINDS = ("ping", "ack", "indirectping", "nack")
"""Packets of probing, by their first message; all other packets are gossip."""

SWIM_FIG_2 = {
    5: (2.08, 2.08),
    13: (2.11, 2.15),
    21: (2.10, 2.12),
    28: (2.00, 2.00),
    36: (2.02, 2.02),
    44: (1.98, 2.00),
    51: (2.13, 2.14),
    55: (1.98, 1.98),
}
"""Messages a member sends and receives in a period, by n, digitised (section 4.1)."""

RAPID = {"sent": 0.64, "received": 0.54}
"""KB/s of a memberlist process at n = 1000, as Rapid's authors measured (section 4.3)."""


class Params(Struct, frozen=True):
    """One cell of the experiment."""

    nodes: int
    loss: float = 0.0  # of packets; streams lose nothing
    push_pull: bool = True
    coordinates: bool = False  # Serf's, in every ack
    idle: Micros = 300 * SECOND
    busy: bool = True  # a crash and updates come after the idle time


def cells(scale: Scale) -> list[Cell]:
    """The grid of the experiment, cheapest cells first."""
    if scale == "demo":
        return [Cell(Params(128, idle=60 * SECOND), 2)]
    quick = scale == "quick"
    idle = (60 if quick else 300) * SECOND
    sizes = dict.fromkeys(SWIM_FIG_2, 3) | {128: 3, 512: 1, 1000: 1}
    if not quick:
        sizes |= {5000: 1}
    grid = [Cell(Params(n, idle=idle, busy=n in (28, 128, 1000)), r) for n, r in sizes.items()]
    for n, runs in {44: 8}.items() if quick else {44: 6, 128: 3}.items():
        grid += [Cell(Params(n, loss=loss, idle=idle, busy=False), runs) for loss in (0.1, 0.3)]
    for n in (28, 128):
        grid.append(Cell(Params(n, coordinates=True, idle=idle, busy=False), 1))
    grid.append(Cell(Params(128, push_pull=False, idle=idle, busy=False), 1))
    return grid


def seed_key(params: Params) -> tuple[str | int, ...]:
    """Estimates of different cells are independent of each other."""
    return tuple(str(value) for value in astuple(params))


def config_of(params: Params) -> Config:
    """The protocol settings of a cell."""
    return replace(
        LAN,
        push_pull_interval=LAN.push_pull_interval if params.push_pull else 0,
        serf=params.coordinates,
    )


def run(params: Params, seed: int) -> list[Row]:
    """One run: a row for each phase; rates are for each member and second."""
    network = Network(loss=Bernoulli(params.loss, ("packets",)) if params.loss else None)
    # Names of one length at every size, which memberlist repeats in every ping.
    names = [f"member-{index:05d}" for index in range(params.nodes)]
    cluster = Cluster(names, config_of(params), network, seed=seed, record=("messages",))
    chance = Random(rng.seed(seed, "fault schedule"))
    cluster.run(SETTLE)
    rows = [_watch(cluster, "idle", params.idle)]
    if params.busy:
        cluster.kill(chance.choice(names))
        rows.append(_watch(cluster, "crash", BUSY))
        rows.append(_watch(cluster, "updates", BUSY, chance))
    return rows


def _watch(cluster: Cluster, phase: str, duration: Micros, updates: Random | None = None) -> Row:
    """Let time pass, with an update a second if wanted, and say what was sent in it."""
    running = len(cluster.running)
    before = _totals(cluster)
    traffic = Traffic(cluster.now, PERIOD, len(cluster.hosts))
    cluster.inspectors.append(traffic)
    longest, queued = 0, 0
    for second in range(duration // SECOND):
        if updates is not None:
            who = updates.choice(cluster.running)
            cluster.request(who.name, UpdateMeta(f"update {second}".encode()))
        cluster.run_for(SECOND)
        lengths = [len(host.node.broadcasts.queue) for host in cluster.hosts if host.node]
        longest, queued = max(longest, *lengths), queued + sum(lengths)
    cluster.inspectors.remove(traffic)
    traffic.close(cluster.now)
    done = _totals(cluster)
    done.subtract(before)
    each = running * duration / SECOND
    node = cluster.running[0].node
    assert node is not None
    return {
        "phase": phase,
        "members": running,
        **{f"sent_{kind}": done["messages", kind, "sent"] / each for kind in KINDS},
        "sent_packets": done["messages", "packet", "sent"] / each,
        "received_packets": done["messages", "packet", "received"] / each,
        "sent_bytes": done["bytes", "packet", "sent"] / each,
        "received_bytes": done["bytes", "packet", "received"] / each,
        "sent_stream_bytes": done["bytes", "stream push/pull", "sent"] / each,
        "received_stream_bytes": _arrived(done) / each,
        "news": sum(done["messages", kind, "sent"] for kind in ("alive", "suspect", "dead")),
        **_spread(traffic.sent, "sent"),
        **_spread(traffic.received, "received"),
        "queue_mean": queued / (running * (duration // SECOND)),
        "queue_max": longest,
        "entry_bytes": size(PushPull(False, node.members)) / len(node.members),
    }


def _arrived(done: Counter[tuple[str, str, str]]) -> int:
    """Bytes of states that came in: those that one member sent and the network did not lose."""
    return done["bytes", "stream push/pull", "sent"] - done["bytes", "stream push/pull", "lost"]


def _totals(cluster: Cluster) -> Counter[tuple[str, str, str]]:
    """What all members together have sent and received so far."""
    frame = cluster.trace.messages()
    totals: Counter[tuple[str, str, str]] = Counter()
    for (kind, fate), group in frame.groupby(["kind", "fate"]):
        totals["messages", str(kind), str(fate)] = int(group.messages.sum())
        totals["bytes", str(kind), str(fate)] = int(group.bytes.sum())
    return totals


def _spread(histogram: Counter[int], what: str) -> Row:
    """Packets of one member in one period: standard deviation, p99, most, and share below 5."""
    counts = np.array(sorted(histogram))
    weights = np.array([histogram[count] for count in sorted(histogram)])
    mean = np.average(counts, weights=weights)
    return {
        f"{what}_sd": float(np.sqrt(np.average((counts - mean) ** 2, weights=weights))),
        f"{what}_p99": int(counts[np.searchsorted(np.cumsum(weights), 0.99 * weights.sum())]),
        f"{what}_max": int(counts[-1]),
        f"{what}_below_5": float(weights[counts < 5].sum() / weights.sum()),
    }


# --- what came of it -------------------------------------------------------------------------


def label(params: Params) -> str:
    """A cell in words."""
    words = [f"n={params.nodes}"]
    if params.loss:
        words.append(f"{params.loss:.0%} lost")
    if params.coordinates:
        words.append("coordinates")
    if not params.push_pull:
        words.append("no push/pull")
    return ", ".join(words)


def _phase(rows: pd.DataFrame, phase: str) -> Iterator[tuple[Params, pd.DataFrame]]:
    return by_cell(rows[rows.phase == phase], Params)


def _idle(rows: pd.DataFrame) -> list[tuple[Params, pd.DataFrame]]:
    """The idle groups without loss, in their usual settings."""
    return [
        (params, group)
        for params, group in _phase(rows, "idle")
        if params == Params(params.nodes, idle=params.idle, busy=params.busy)
    ]


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """An idle group: for each member and second, packets by kind and bytes."""
    lines = []
    for params, group in _phase(rows, "idle"):
        mean = group.select_dtypes("number").mean()
        expected = theory.probe_load(1 - params.loss, LAN.indirect_checks)
        lines.append(
            {
                "cell": label(params),
                "runs": len(group),
                **{kind: mean[f"sent_{kind}"] for kind in KINDS},
                "sent": mean.sent_packets,
                "F13": expected.total,
                "received": mean.received_packets,
                "sd": mean.sent_sd,
                "p99": mean.sent_p99,
                "max": group.sent_max.max(),
                "UDP_B": mean.sent_bytes,
                "wire_B": mean.sent_bytes + UDP_IP * mean.sent_packets,
                "TCP_B": mean.sent_stream_bytes,
                "F14_B": _expected_stream(params, mean.entry_bytes),
            }
        )
    return pd.DataFrame(lines)


def _expected_stream(params: Params, entry: float) -> float:
    """F14 in bytes a second, each way."""
    if not params.push_pull:
        return 0.0
    interval = LAN.push_pull_interval / SECOND
    return theory.push_pull_load(params.nodes, entry, interval)


def tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What a crash and updates cost; and what a detector must cost at least (F17)."""
    found = {"busy": _busy_table(rows), "bound": _bound_table(rows)}
    return {name: table for name, table in found.items() if len(table)}


def _busy_table(rows: pd.DataFrame) -> pd.DataFrame:
    """What a crash costs, and what an update a second does."""
    lines = []
    for phase in ("crash", "updates"):
        for params, group in _phase(rows, phase):
            mean = group.select_dtypes("number").mean()
            m = theory.transmissions(params.nodes, LAN.retransmit_mult)
            wanted = LAN.suspicion_mult - 2  # K: each confirmation is worth repeating as well
            number = 1 if phase == "crash" else BUSY // SECOND
            least, most = (2, wanted + 2) if phase == "crash" else (1, 1)
            lines.append(
                {
                    "phase": phase,
                    "cell": label(params),
                    "runs": len(group),
                    "news_per_member": mean.news / mean.members / number,
                    "expected": f"{least * m}" if least == most else f"{least * m}-{most * m}",
                    "sent": mean.sent_packets,
                    "sent_p99": mean.sent_p99,
                    "sent_max": group.sent_max.max(),
                    "UDP_B": mean.sent_bytes,
                    "queue_mean": mean.queue_mean,
                    "queue_max": group.queue_max.max(),
                }
            )
    return pd.DataFrame(lines)


def _bound_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Packets of a member in a second, beside Gupta's lower bound and all-to-all heartbeats.

    Both for the detector that SWIM is: a mean first ping of e / (e - 1) periods, and as many
    false suspicions as F5 gives it.
    """
    detection = PERIOD / SECOND / (1 - np.exp(-1))
    lines = []
    for params, group in _phase(rows, "idle"):
        if params.loss:
            mistakes = theory.false_suspicions(1 - params.loss, LAN.indirect_checks)
            n = params.nodes
            lines.append(
                {
                    "cell": label(params),
                    "sent": group.sent_packets.mean(),
                    "F17_at_least": theory.least_load(n, detection, mistakes, params.loss) / n,
                    "heartbeats": n / detection,
                }
            )
    return pd.DataFrame(lines)


def verdicts(rows: pd.DataFrame) -> list[Verdict]:
    """The acceptance lines of E4."""
    return [
        *_judge_count(rows),
        *_judge_spread(rows),
        *_judge_swim(rows),
        *_judge_loss(rows),
        *_judge_flatness(rows),
        *_judge_streams(rows),
        *_judge_rapid(rows),
    ]


def _judge_count(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Two packets out and two in, at every size."""
    for params, group in _idle(rows):
        for what in ("sent", "received"):
            found = statistics.mean(group[f"{what}_packets"])
            yield Verdict(
                f"{label(params)}: packets {what} by a member in a period, idle",
                "2.00 within 0.5 %",
                f"{found.value:.4f}, {len(group)} runs",
                abs(found.value - 2) <= 0.01,
            )


SMALL = (
    "Who is pinged is a binomial draw among n - 1 members, of deviation sqrt(1 - 1/(n-1)): 0.87 at"
    " n = 5 and 0.96 at n = 13. The Poisson law with deviation 1 is its limit for large groups."
)


def _judge_spread(rows: pd.DataFrame) -> Iterator[Verdict]:
    """From one period to the next the number of packets varies by about one."""
    for params, group in _idle(rows):
        found = statistics.mean(group.sent_sd)
        below = group.sent_below_5.mean()
        yield Verdict(
            f"{label(params)}: deviation of the packets that a member sends in a period",
            "0.9 to 1.1",
            f"{found.value:.3f} (fewer than 5 with probability {below:.3f})",
            statistics.judge(found, 0.9, 1.1, statistics.ENOUGH),
            explanation=SMALL,
        )


def _judge_swim(rows: pd.DataFrame) -> Iterator[Verdict]:
    """SWIM's figure 2, point by point."""
    for params, group in _idle(rows):
        published = SWIM_FIG_2.get(params.nodes)
        if published is not None:
            found = (group.sent_packets.mean(), group.received_packets.mean())
            far = max(abs(a - b) for a, b in zip(found, published, strict=True))
            yield Verdict(
                f"{label(params)}: packets sent and received, SWIM figure 2",
                f"{published[0]:.2f} and {published[1]:.2f} within 0.15",
                f"{found[0]:.2f} and {found[1]:.2f}",
                bool(far <= 0.15 + 1e-9),
            )


def _judge_loss(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Packets of probing under loss, each kind and all together, against F13."""
    for params, group in _phase(rows, "idle"):
        if not params.loss:
            continue
        expected = theory.probe_load(1 - params.loss, LAN.indirect_checks)
        parts = zip(KINDS, astuple(expected), strict=True)
        for kind, reference in (*parts, ("all", expected.total)):
            sample = group[[f"sent_{k}" for k in (KINDS if kind == "all" else (kind,))]].sum(axis=1)
            found = _student(sample)
            yield Verdict(
                f"{label(params)}: {'all packets' if kind == 'all' else kind} of probing",
                f"F13 {reference:.3f} within 3 %",
                f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}],"
                f" {found.value / reference - 1:+.1%}",
                statistics.judge(found, 0.97 * reference, 1.03 * reference, statistics.ENOUGH),
            )


def _student(sample: pd.Series) -> Interval:
    """The mean of a few runs, each of many packets and so normal, with Student's interval."""
    value, runs = float(sample.mean()), len(sample)
    if runs < 2:
        return Interval(value, -np.inf, np.inf)
    reach = float(stats.t.ppf(0.975, runs - 1) * sample.std() / np.sqrt(runs))
    return Interval(value, value - reach, value + reach)


def _judge_flatness(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Bytes in packets do not grow with the group."""
    found = pd.concat([group for _, group in _idle(rows)])
    if found.nodes.nunique() > 2:
        mean = found.sent_bytes.mean()
        slope = Interval(0, 0, 0)  # no fit where all are equal: it has no deviation to divide by
        if found.sent_bytes.nunique() > 1:
            slope = statistics.slope(np.log10(found.nodes.astype(float)), found.sent_bytes)
        yield Verdict(
            "bytes in packets, of a member in a second, do not grow with the group",
            "the interval of the slope on log10 n contains 0",
            f"{slope.value:+.4f} B/s a decade [{slope.low:+.4f}, {slope.high:+.4f}]"
            f" at {mean:.1f} B/s",
            slope.holds(0.0),
        )


def _judge_streams(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Bytes of push/pull against F14."""
    for params, group in _idle(rows):
        expected = _expected_stream(params, group.entry_bytes.mean())
        found = statistics.mean(group.sent_stream_bytes)
        # So many exchanges begin in the window; who begins one has a uniform phase.
        period = theory.push_pull_period(params.nodes, LAN.push_pull_interval)
        share = params.idle % period / period
        begun = params.idle / period
        noise = np.sqrt(share * (1 - share) / (params.nodes * len(group))) / begun
        reach = 1.96 * noise * expected
        around = Interval(found.value, found.value - reach, found.value + reach)
        yield Verdict(
            f"{label(params)}: bytes of push/pull, of a member in a second, each way",
            f"F14 {expected:.1f} B/s within 5 %",
            f"{around.value:.1f} [{around.low:.1f}, {around.high:.1f}] B/s",
            statistics.judge(around, 0.95 * expected, 1.05 * expected, statistics.ENOUGH),
        )


def _judge_rapid(rows: pd.DataFrame) -> Iterator[Verdict]:
    """All bytes at n = 1000 beside those that Rapid's authors saw of memberlist."""
    for params, group in _idle(rows):
        if params.nodes != 1000:
            continue
        for what, published in RAPID.items():
            total = (group[f"{what}_bytes"] + group[f"{what}_stream_bytes"]).mean() / 1000
            yield Verdict(
                f"{label(params)}: KB/s {what} by a process, push/pull included",
                f"{published} (Rapid, measured) within a factor of 2",
                f"{total:.2f}",
                bool(published / 2 <= total <= published * 2),
            )


# --- the picture -----------------------------------------------------------------------------

PARTS = {
    "ping": ("sent_ping",),
    "ack": ("sent_ack",),
    "indirect ping": ("sent_indirectping",),
    "nack": ("sent_nack",),
}
HATCHES = ("", "///", "...", "xxx")


def figure(rows: pd.DataFrame) -> Figure:
    """Packets by kind against n, with SWIM's figure 2; bytes in packets and over streams."""
    picture, (left, right) = style.figure(2, title="What membership costs a member")
    _draw_packets(left, rows)
    _draw_bytes(right, rows)
    return picture


def _draw_packets(axes: Axes, rows: pd.DataFrame) -> None:
    """Stacked bars: idle groups by size, then those with loss."""
    quiet = sorted(_idle(rows), key=lambda cell: cell[0].nodes)
    lossy = sorted(
        ((p, g) for p, g in _phase(rows, "idle") if p.loss),
        key=lambda cell: (cell[0].nodes, cell[0].loss),
    )
    shown = [*quiet, *lossy]
    bottom = np.zeros(len(shown))
    for series, hatch, (name, columns) in zip(style.SERIES, HATCHES, PARTS.items(), strict=False):
        heights = np.array([group[list(columns)].sum(axis=1).mean() for _, group in shown])
        axes.bar(
            range(len(shown)),
            heights,
            bottom=bottom,
            color=series.colour,
            edgecolor="black",
            linewidth=0.4,
            hatch=hatch,
            label=name,
        )
        bottom += heights
    points = {x: SWIM_FIG_2[p.nodes][0] for x, (p, _) in enumerate(quiet) if p.nodes in SWIM_FIG_2}
    if points:
        style.published(axes, [*points], [*points.values()], "SWIM (2002) Fig. 2, sent")
    expected = [theory.probe_load(1 - p.loss, LAN.indirect_checks).total for p, _ in shown]
    for x, total in enumerate(expected):
        axes.hlines(total, x - 0.45, x + 0.45, color="black", linestyle="--", linewidth=1, zorder=4)
    axes.plot([], [], "k--", linewidth=1, label="F13")
    axes.set_ylim(0, 1.35 * max(bottom))
    style.finish(
        axes,
        x="members n (and packets lost)",
        y="packets sent, per member and period",
        title="idle groups",
        legend="upper left",
    )
    names = [f"{p.nodes}" + (f"\n{p.loss:.0%}" if p.loss else "") for p, _ in shown]
    axes.set_xticks(range(len(shown)), names, fontsize=7)


def _draw_bytes(axes: Axes, rows: pd.DataFrame) -> None:
    """Bytes a second against n."""
    quiet = sorted(_idle(rows), key=lambda cell: cell[0].nodes)
    sizes = [params.nodes for params, _ in quiet]
    udp = [statistics.mean(group.sent_bytes) for _, group in quiet]
    tcp = [statistics.mean(group.sent_stream_bytes) for _, group in quiet]
    style.curve(axes, sizes, udp, style.SERIES[0], "packets (UDP payload)")
    axes.errorbar(  # not joined: between two sizes the period may double
        sizes,
        [found.value for found in tcp],
        [[found.value - found.low for found in tcp], [found.high - found.value for found in tcp]],
        color=style.ORANGE,
        marker="s",
        markersize=5,
        capsize=2,
        linestyle="none",
        label="push/pull (TCP payload)",
    )
    entry = float(np.mean([group.entry_bytes.iloc[-1] for _, group in quiet]))
    grid = np.unique(np.geomspace(min(sizes), max(sizes), 400).astype(int))
    interval = LAN.push_pull_interval / SECOND
    f14 = [theory.push_pull_load(int(n), entry, interval) for n in grid]
    style.formula(axes, grid, f14, f"F14, {entry:.0f} B an entry")
    totals = {"sent": "^", "received": "v"}
    for what, marker in totals.items():
        axes.plot(
            [1000],
            [1000 * RAPID[what]],
            marker,
            color="black",
            markerfacecolor="none",
            markersize=7,
            linestyle="none",
            label=f"Rapid's memberlist, all bytes {what}",
        )
    style.finish(
        axes,
        x="members n",
        y="bytes sent, per member and second",
        log="xy",
        title="idle groups; 95 % CI",
        legend="upper left",
    )
