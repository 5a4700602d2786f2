"""E10: which share of the living answers a query in time, when packets are lost?

A query spreads by gossip, as an event does. Every member that it reaches sends the asker an ack
and an answer, one UDP packet each, and nobody repeats them. With a relay factor r each of the two
also goes over r other members, in two hops. So an answer arrives with probability
1 - (1 - q)(1 - q^2)^r (spec experiments.md, F16), if the query reached the member at all (F11).

Responders answer at once. Probing, push/pull and reconnects are off: gossip and answers are all
there is, and everybody stays alive.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Iterator
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import simpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from msgspec import Struct
from msgspec.structs import astuple, replace

from backends.sim import Cluster, Network
from backends.sim.checks import Inspector, Observer
from backends.sim.host import Host
from backends.sim.network import Bernoulli, GilbertElliott
from experiments import statistics, style, theory
from experiments.experiment import Cell, Row, Scale, Verdict, by_cell
from swimsim import HOUR, LAN, SECOND, Config, rng
from swimsim.effects import (
    Effect,
    Event,
    Noted,
    QueryAcked,
    QueryAnswered,
    QueryFinished,
    QueryReceived,
    QueryStarted,
    Send,
)
from swimsim.inputs import AskQuery, Input, RespondQuery
from swimsim.node import Node
from swimsim.terms import Micros, NodeId

SETTLE = 1 * SECOND
LATE = 5 * SECOND  # watched after the deadline, for what comes too late
PAYLOAD = b"42"
SAYS_IT = "reply for non-running query"  # what an asker notes of a reply that comes too late
SHARES = {"t50": 0.5, "t90": 0.9, "t99": 0.99}


class Params(Struct, frozen=True):
    """One cell of the experiment."""

    nodes: int
    loss: float = 0.0  # of each packet, gossip and answers alike
    relay: int = 0  # r, members over whom each ack and each answer goes as well
    asked: float = 1.0  # share of the members that the query's filter lets pass
    timeout: float = 1.0  # of the default timeout
    burst_s: float = 0.0  # mean length of a burst in which a host loses everything; 0: no bursts


def cells(scale: Scale) -> list[Cell]:
    """The grid of the experiment."""
    if scale == "demo":
        return [Cell(Params(100, 0.1, relay), 20) for relay in (0, 1, 3)]
    losses = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5) if scale == "full" else (0.0, 0.1, 0.3, 0.5)
    relays = (0, 1, 2, 3, 5) if scale == "full" else (0, 1, 3)
    sizes = {30: 200, 100: 150, 1000: 8} if scale == "full" else {100: 60}
    grid = [
        Cell(Params(n, loss, relay), runs if loss else max(5, runs // 10))
        for n, runs in sizes.items()
        for loss in losses
        for relay in relays
    ]
    runs = 300 if scale == "full" else 40
    grid += [Cell(Params(100, loss, 1, asked=0.1), 2 * runs) for loss in (0.0, 0.3)]
    grid += [Cell(Params(100, 0.1, relay, timeout=0.25), runs) for relay in (0, 3)]
    grid += [Cell(Params(100, 0.1, relay, burst_s=2.0), runs) for relay in (0, 3)]
    return grid


def seed_key(params: Params) -> tuple[str | int, ...]:
    """Cells that differ in the relay factor alone share their random numbers."""
    return tuple(str(value) for value in astuple(replace(params, relay=0)))


def config_of(params: Params) -> Config:
    """The protocol settings: LAN, without what is not measured."""
    return replace(
        LAN, serf=True, probe_interval=HOUR, piggyback=False, push_pull_interval=0,
        reconnect_interval=0,
    )  # fmt: skip


class Poll(Observer, Inspector):
    """One query: who heard it, who was asked, what came back and when, in how many packets."""

    def __init__(self, cluster: Cluster, asker: NodeId) -> None:
        self.cluster = cluster
        self.asker = asker
        self.asked: dict[NodeId, Micros] = {}
        self.heard: set[NodeId] = set()
        self.acks: Counter[NodeId] = Counter()
        self.answers: Counter[NodeId] = Counter()
        self.answered_at: list[Micros] = []
        self.deadline: Micros = 0
        self.is_over = False
        self.late = 0  # acks and answers of a query that was over
        self.packets = 0

    def on_event(self, now: Micros, host: Host, event: Event) -> None:
        """Answer for whoever is asked, and count what the asker is told."""
        match event:
            case QueryReceived(ltime, query_id):
                self.asked[host.name] = now
                self.cluster.env.process(self._answer(host.name, ltime, query_id))
            case QueryStarted(deadline=deadline):
                self.deadline = deadline
            case QueryAcked(node=node):
                self.acks[node] += 1
            case QueryAnswered(node=node):
                self.answers[node] += 1
                self.answered_at.append(now)
            case QueryFinished():
                self.is_over = True
            case Noted(_, text):
                self.late += SAYS_IT in text

    def on_step(
        self, now: Micros, host: Host, before: Node, input: Input, effects: tuple[Effect, ...]
    ) -> None:
        """Who has heard of the query, whether it is asked or not."""
        serf = None if host.node is None else host.node.serf
        if serf is not None and serf.queries.ring:
            self.heard.add(host.name)
        self.packets += sum(type(effect) is Send for effect in effects)

    def _answer(self, name: NodeId, ltime: int, query_id: int) -> Generator[simpy.Event, Any, None]:
        yield self.cluster.env.timeout(0)
        self.cluster.request(name, RespondQuery(1, ltime, query_id, PAYLOAD))


def run(params: Params, seed: int) -> list[Row]:
    """One query; times in seconds after it was asked."""
    config = config_of(params)
    loss: Bernoulli | GilbertElliott | None = None
    if params.burst_s:
        loss = GilbertElliott(params.loss, round(params.burst_s * SECOND), scope="node")
    elif params.loss:
        loss = Bernoulli(params.loss)
    cluster = Cluster(params.nodes, config, Network(loss=loss), seed=seed, record=())
    chance = Random(rng.seed(seed, "query"))
    names = [host.name for host in cluster.hosts]
    asker = chance.choice(names)
    chosen = tuple(sorted(chance.sample(names, round(params.asked * params.nodes))))
    cluster.run(SETTLE + chance.randrange(config.gossip_interval))
    poll = Poll(cluster, asker)
    cluster.observers.append(poll)
    cluster.inspectors.append(poll)
    scale = math.ceil(math.log10(params.nodes + 1))
    default = config.gossip_interval * config.query_timeout_mult * scale
    timeout = 0 if params.timeout == 1 else round(params.timeout * default)
    question = AskQuery(
        1, "load", nodes=chosen if params.asked < 1 else (), ack=True,
        relay_factor=params.relay, timeout=timeout,
    )  # fmt: skip
    began = cluster.now
    cluster.request(asker, question)
    cluster.run_until(lambda: poll.is_over, began + 60 * SECOND, every=config.gossip_interval)
    cluster.run_for(LATE)
    return [_row(params, poll, began, len(chosen))]


def _row(params: Params, poll: Poll, began: Micros, eligible: int) -> Row:
    times = sorted(poll.answered_at)
    wanted = {name: int(np.ceil(share * eligible)) for name, share in SHARES.items()}
    return {
        "eligible": eligible,
        "asked_count": len(poll.asked),
        "heard": len(poll.heard),
        "acks": len(poll.acks),
        "answers": len(poll.answers),
        "duplicates": sum(poll.acks.values())
        - len(poll.acks)
        + sum(poll.answers.values())
        - len(poll.answers),
        "late": poll.late,
        "packets": poll.packets,
        "t_first": (times[0] - began) / SECOND if times else None,
        **{
            name: (times[count - 1] - began) / SECOND if count <= len(times) else None
            for name, count in wanted.items()
        },
        "open_s": (poll.deadline - began) / SECOND,
        "limit_s": (poll.deadline - began) / SECOND,
    }


# --- what came of it -------------------------------------------------------------------------


def _is_plain(params: Params) -> bool:
    """Whether F16 speaks of the cell as it stands."""
    return params.timeout == 1 and not params.burst_s


def _missed(params: Params) -> float:
    """F11: the share of the members that the query never reaches."""
    return theory.residue(theory.transmissions(params.nodes, LAN.retransmit_mult), 1 - params.loss)


def _expected(params: Params) -> float:
    """The share of the eligible of whom an answer arrives."""
    return theory.relay_coverage(1 - params.loss, params.relay) * (1 - _missed(params))


def label(params: Params) -> str:
    """A cell in words."""
    words = [f"n={params.nodes}", f"{params.loss:.0%} loss", f"r={params.relay}"]
    if params.asked < 1:
        words.append(f"{params.asked:.0%} asked")
    if params.timeout != 1:
        words.append(f"{params.timeout:g} of the timeout")
    if params.burst_s:
        words.append(f"bursts of {params.burst_s:g} s")
    return ", ".join(words)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Each cell: what came back, in what time, at what cost."""
    lines = []
    for params, group in by_cell(rows, Params):
        eligible = group.eligible.sum()
        lines.append(
            {
                "cell": label(params),
                "queries": len(group),
                "reached": group.asked_count.sum() / eligible,
                "acks": group.acks.sum() / eligible,
                "answers": group.answers.sum() / eligible,
                "F16_F11": _expected(params) if _is_plain(params) else None,
                "first_s": group.t_first.astype(float).median(),
                "t50_s": group.t50.astype(float).median(),
                "t90_s": group.t90.astype(float).median(),
                "t99_s": group.t99.astype(float).median(),
                "open_s": group.open_s.mean(),
                "packets": group.packets.mean(),
                "late": int(group.late.sum()),
            }
        )
    return pd.DataFrame(lines)


def verdicts(rows: pd.DataFrame) -> list[Verdict]:
    """The acceptance lines of E10."""
    judged: list[Verdict] = []
    for params, group in by_cell(rows, Params):
        if _is_plain(params):
            judged += _judge_coverage(params, group)
    judged.append(_judge_duplicates(rows))
    judged += _judge_lateness(rows)
    judged += _judge_relays_without_loss(rows)
    judged += _judge_forwarding(rows)
    return judged


def _judge_coverage(params: Params, group: pd.DataFrame) -> Iterator[Verdict]:
    """Acks and answers within 1 point of the formula; each of the two is a sample of its own."""
    came = int(group.acks.sum() + group.answers.sum())
    found = statistics.proportion(came, 2 * int(group.eligible.sum()))
    expected = _expected(params)
    yield Verdict(
        f"{label(params)}: share of the acks and answers that arrive",
        f"(1 - s)(1 - (1-q)(1-q^2)^r) = {expected:.4f} within 1 point",
        f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}], {2 * group.eligible.sum()} due",
        statistics.judge(found, expected - 0.01, expected + 0.01, 2 * int(group.eligible.sum())),
    )


def _judge_duplicates(rows: pd.DataFrame) -> Verdict:
    """Whatever comes twice is told once."""
    twice, told = int(rows.duplicates.sum()), int(rows.acks.sum() + rows.answers.sum())
    return Verdict(
        "no ack and no answer is delivered to the asker twice",
        "0 duplicates",
        f"{twice} among {told}",
        twice == 0,
    )


def _judge_lateness(rows: pd.DataFrame) -> Iterator[Verdict]:
    """The default timeout is long enough."""
    usual = [
        group for params, group in by_cell(rows, Params) if _is_plain(params) and params.loss <= 0.3
    ]
    if not usual:
        return
    late = sum(int(group.late.sum()) for group in usual)
    came = sum(int(group.acks.sum() + group.answers.sum()) for group in usual)
    found = statistics.proportion(late, late + came)
    yield Verdict(
        "up to 30 % loss: acks and answers that come after the default timeout",
        "less than 0.1 %",
        f"{found.value:.4%} [{found.low:.4%}, {found.high:.4%}] of {late + came}",
        statistics.judge(found, 0.0, 0.001, late + came),
    )


def _judge_relays_without_loss(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Where nothing is lost, relays change nothing but the number of packets."""
    for (n,), group in rows[_plain_rows(rows) & (rows.loss == 0) & (rows.asked == 1)].groupby(
        ["nodes"]
    ):
        by_relay = group.groupby("relay")
        shares = by_relay.answers.sum() / by_relay.asked_count.sum()
        if len(shares) > 1:
            yield Verdict(
                f"n={n}, no loss: relays make no difference to who answers",
                "everybody whom the query reached answers, at every r",
                ", ".join(f"r={r}: {share:.4f}" for r, share in shares.items()),
                bool((shares == 1).all()),
            )


def _judge_forwarding(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Who is not asked still passes a query on: it reaches as many as if all were asked."""
    for params, group in by_cell(rows, Params):
        if params.asked < 1:
            found = statistics.proportion(int(group.heard.sum()), len(group) * params.nodes)
            expected = 1 - _missed(params)
            yield Verdict(
                f"{label(params)}: members that are not asked pass the query on",
                f"it reaches 1 - s = {expected:.4f} of all members within 1 point",
                f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]",
                statistics.judge(
                    found, expected - 0.01, expected + 0.01, len(group) * params.nodes
                ),
            )


def _plain_rows(rows: pd.DataFrame) -> pd.Series[bool]:
    return (rows.timeout == 1) & (rows.burst_s == 0)


# --- the picture -----------------------------------------------------------------------------


def figure(rows: pd.DataFrame) -> Figure:
    """Coverage against loss, a line for each relay factor; and when the answers came."""
    picture, (left, right) = style.figure(2, title="Answers to a Serf query")
    _draw_coverage(left, rows)
    _draw_times(right, rows)
    return picture


def _main(rows: pd.DataFrame) -> pd.DataFrame:
    """The cells of the grid, of the size with most runs."""
    found = rows[_plain_rows(rows) & (rows.asked == 1)]
    return found[found.nodes == found.groupby("nodes").size().idxmax()]


def _draw_coverage(axes: Axes, rows: pd.DataFrame) -> None:
    found = _main(rows)
    n = int(found.nodes.iloc[0])
    grid = np.linspace(0, max(0.3, float(found.loss.max())), 100)
    for series, (relay, group) in zip(style.SERIES, found.groupby("relay"), strict=False):
        losses = sorted(group.loss.unique())
        shares = [
            statistics.proportion(int((at.acks + at.answers).sum()), 2 * int(at.eligible.sum()))
            for loss in losses
            for at in (group[group.loss == loss],)
        ]
        style.curve(axes, losses, shares, series, f"r = {relay}")
        expected = [_expected(Params(n, loss, int(str(relay)))) for loss in grid]
        style.formula(axes, grid, expected, "F16 and F11" if relay == 0 else "")
    style.finish(
        axes, x="packet loss p", y="share of the members heard of", title=f"n = {n}; 95 % CI"
    )


def _draw_times(axes: Axes, rows: pd.DataFrame) -> None:
    found = _main(rows)
    relays = sorted(found.relay.unique())
    n, loss = int(found.nodes.iloc[0]), 0.1 if (found.loss == 0.1).any() else found.loss.max()
    at = found[(found.loss == loss) & (found.relay == relays[-1])]
    quantiles = ("t_first", *SHARES)
    for series, name in zip(style.SERIES, quantiles, strict=False):
        sample = at[name].dropna().astype(float)
        if len(sample):
            share = "first" if name == "t_first" else f"{SHARES[name]:.0%}"
            style.ecdf(axes, sample, series, f"{share} of the answers ({len(sample)} queries)")
    style.finish(
        axes,
        x="time after the query (s)",
        y="share of the queries",
        title=f"n = {n}, {loss:.0%} loss, r = {relays[-1]}",
    )
