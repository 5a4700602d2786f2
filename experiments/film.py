"""A film of a cluster: how many members each node believes alive, second by second.

The dot clouds of Rapid's figures (Suresh et al., ATC 2018): one dot for each size that somebody
reports, as large as the number of nodes that do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes

from backends.sim import Cluster
from backends.sim.host import Host
from experiments.experiment import Row
from experiments.style import Series
from swimsim import SECOND
from swimsim.terms import Micros


class Film:
    """Pictures of a cluster, a second apart; ``group`` says to which cloud a node belongs."""

    def __init__(self, began: Micros, group: Callable[[Host], str] = lambda host: "all") -> None:
        self.began = began
        self.group = group
        self.rows: list[Row] = []

    def play(self, cluster: Cluster, until: Micros) -> None:
        """Run on, taking a picture at every full second."""
        due = cluster.now - (cluster.now - self.began) % SECOND + SECOND
        while due <= until:
            cluster.run(due)
            self._take(cluster)
            due += SECOND
        cluster.run(until)

    def _take(self, cluster: Cluster) -> None:
        seen = Counter(
            (self.group(host), host.node.members.present)
            for host in cluster.hosts
            if host.node is not None
        )
        self.rows += [
            {
                "kind": "view",
                "time_s": (cluster.now - self.began) / SECOND,
                "group": group,
                "size": size,
                "seen_by": count,
            }
            for (group, size), count in sorted(seen.items())
        ]


def cloud(axes: Axes, film: pd.DataFrame, series: Series, label: str) -> None:
    """Draw the rows of one group of a film."""
    axes.scatter(
        film.time_s,
        film["size"],
        s=3 + 40 * film.seen_by / film.seen_by.max(),
        marker=series.marker,
        facecolors="none",
        edgecolors=series.colour,
        linewidths=0.6,
        label=label,
    )
