"""SWIM's figure 4: a group that grows while a tenth of all packets is lost (part of E2).

17 processes join one by one, every 5 s, with the settings of SWIM's prototype: *Basic* spreads news
by multicast and knows no suspicion, *+Inf* lets news ride on pings and acks, *+Inf+Susp* suspects
before it declares. Deaths are final, as in SWIM. In the paper the group ends with 2, 4 and 12
members. The size is that which the median process sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from backends.sim import Cluster, Network
from backends.sim.checks import Observer
from backends.sim.host import Host
from experiments import statistics, style
from experiments.experiment import Row, Verdict
from swimsim import SECOND, Config
from swimsim.effects import Event, Failed, Joined
from swimsim.messages import Alive, Dead
from swimsim.terms import Micros

END = 175 * SECOND
JOIN_EVERY = 5 * SECOND
SAMPLE = 5 * SECOND

PUBLISHED = {"Basic": 2, "+Inf": 4, "+Inf+Susp": 12}
"""Final sizes (spec experiments.md, section 4.1)."""

BOUNDS = {"Basic": (0, 5), "+Inf": (0, 8), "+Inf+Susp": (9, 17)}
"""What the median final size may be."""

COLLAPSED = (
    "At 10 % loss F5 takes 0.065 of the members in each period, for good, and nobody joins after"
    " 80 s: without suspicion both variants are down to single processes by 175 s, where there is"
    " no order left. The sizes on the way there are in the order of the paper (next line)."
)


class Multicast(Observer):
    """The multicast of SWIM's basic protocol (section 3), which every process on the net hears.

    A mechanism of the network, not of the members, so it is here: who joins, or detects a failure
    first-hand, tells all others in one packet each, and each copy may be lost.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def on_event(self, now: Micros, host: Host, event: Event) -> None:
        """Tell everybody what is said first-hand."""
        news: Alive | Dead
        if isinstance(event, Failed) and event.source == host.name:
            news = Dead(event.incarnation, event.node, event.source)
        elif isinstance(event, Joined) and event.peer.name == host.name:
            news = Alive(event.incarnation, event.peer)
        else:
            return
        for other in self.cluster.running:
            if other is not host:
                self.cluster.post(host, other, (news,))


def run(config: Config, network: Network, nodes: int, until: Micros, seed: int) -> list[Row]:
    """The size of the group over time; without piggyback, news goes by multicast."""
    cluster = Cluster(
        nodes,
        config,
        network,
        seed=seed,
        warm=False,
        seeds=1,
        join_every=JOIN_EVERY,
        record=(),
    )
    if not config.piggyback:
        cluster.observers.append(Multicast(cluster))
    rows: list[Row] = []
    for instant in range(SAMPLE, until + 1, SAMPLE):
        cluster.run(instant)
        sizes = [host.node.members.present for host in cluster.hosts if host.node]
        rows.append({"t_s": instant / SECOND, "size": float(np.median(sizes))})
    return rows


def _sizes(variants: Mapping[str, pd.DataFrame], how: str) -> pd.DataFrame:
    """One line a seed: the last, mean or max size of each variant."""
    return pd.DataFrame(
        {name: group.groupby("seed")["size"].agg(how) for name, group in variants.items()}
    )


def table(variants: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Medians over the runs of each variant."""
    final, mean, peak = (_sizes(variants, how) for how in ("last", "mean", "max"))
    return pd.DataFrame(
        [
            {
                "variant": name,
                "runs": len(final),
                "final_size": final[name].median(),
                "published": PUBLISHED[name],
                "peak_size": peak[name].median(),
                "mean_size": mean[name].median(),
            }
            for name in variants
        ]
    )


def verdicts(variants: Mapping[str, pd.DataFrame]) -> Iterator[Verdict]:
    """The median final sizes in their bounds, and their order in paired seeds."""
    final, mean = _sizes(variants, "last"), _sizes(variants, "mean")
    for name, (low, high) in BOUNDS.items():
        size = statistics.median(final[name])
        yield Verdict(
            f"SWIM figure 4, {name}: median final size",
            f"{low} to {high} (published: {PUBLISHED[name]})",
            f"{size.value:g} [{size.low:g}, {size.high:g}], {len(final)} runs",
            statistics.judge(size, low, high, len(final)),
        )
    for sizes, what, binding in ((final, "final", True), (mean, "mean", False)):
        ordered = (sizes["Basic"] < sizes["+Inf"]) & (sizes["+Inf"] < sizes["+Inf+Susp"])
        share = statistics.proportion(int(ordered.sum()), len(ordered))
        yield Verdict(
            f"SWIM figure 4: {what} sizes Basic < +Inf < +Inf+Susp",
            "in at least 95 % of the paired seeds",
            f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}] of {len(ordered)}",
            statistics.judge(share, 0.95, 1.0, len(ordered)),
            explanation=COLLAPSED if binding else "",
            binding=binding,
        )


def draw(axes: Axes, variants: Mapping[str, pd.DataFrame]) -> None:
    """The size of the group over time: median and 5 to 95 % of the runs."""
    for series, (name, group) in zip(style.SERIES, variants.items(), strict=False):
        quantiles = group.groupby("t_s")["size"].quantile(np.array([0.05, 0.5, 0.95])).unstack()
        style.band(axes, quantiles.index, quantiles[0.05], quantiles[0.95], series)
        axes.plot(
            quantiles.index,
            quantiles[0.5],
            color=series.colour,
            linestyle=series.dash,
            marker=series.marker,
            markersize=4,
            markevery=4,
            label=name,
        )
        style.published(
            axes,
            [END / SECOND],
            [PUBLISHED[name]],
            "SWIM Fig. 4, end" if name == "Basic" else "",
            series,
        )
    axes.set_ylim(bottom=0)
    style.finish(
        axes,
        x="simulated time (s)",
        y="members of the group",
        title="17 processes join, 10 % loss; median, 5 to 95 % of runs",
        legend="upper left",
    )
