"""Speed and memory of the simulator: ``swimsim bench``.

Each size runs in a process of its own, so that its peak memory is its own. A warm cluster on
the LAN profile runs at rest for a while, then loses one member and runs until everybody knows
and the end of ``SPAN``. Machines are noisy, so the time at rest is the least of several
slices; figures to compare are ratios within one call.
"""

from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import click
import pandas as pd
from msgspec import Struct, to_builtins

from backends.sim import Cluster
from backends.sim.checks import Detection
from experiments import bench_agents, bench_wire, report
from swimsim.terms import SECOND

SIZES = (100, 1_000, 10_000)
LARGEST = 100_000
SPAN = 30 * SECOND  # simulated, from start to end
REST = 2 * SECOND  # of it before the kill
SLICES = 4  # of the time at rest
STATUS = Path("/proc/self/status")


class Warm(Struct, frozen=True):
    """One size, warm, with one kill. CPU is user and system time of one core."""

    nodes: int
    build_s: float  # CPU to build and start
    steps_per_s: float  # inputs handled for each second of CPU, over the whole span
    rest_us_per_node_s: float  # CPU for each node and simulated second, at rest
    span_us_per_node_s: float  # the same over the whole span, with the kill
    sim_s_per_s: float  # simulated seconds for each second of CPU, with the kill
    known_after_s: float  # simulated, from the kill until everybody knew
    rest_kib_per_node: float  # of memory, beyond what the libraries take, at rest
    peak_kib_per_node: float  # the same over the whole span
    peak_mib: float  # all of it


class Cold(Struct, frozen=True):
    """Nodes that all start at once and join through three seeds."""

    nodes: int
    converged_s: float  # simulated, until everybody held everybody alive
    cpu_s: float
    steps: int
    peak_mib: float


def warm(nodes: int) -> Warm:
    """Measure one size in this process."""
    before_it = _peak_mib()
    began = time.process_time()
    cluster = Cluster(nodes, seed=1, record=())
    built = time.process_time()
    rests = []
    for number in range(1, SLICES + 1):
        before = time.process_time()
        cluster.run(number * REST // SLICES)
        rests.append(time.process_time() - before)
    at_rest = _peak_mib()
    victim = cluster.hosts[nodes // 2].name
    watch = Detection(victim, (host.name for host in cluster.hosts), cluster.now)
    cluster.observers.append(watch)
    cluster.kill(victim)
    cluster.run(SPAN)
    cpu = time.process_time() - built
    if watch.full is None:
        raise RuntimeError(f"{nodes} nodes: not everybody knew of the kill after {SPAN} us")
    span_s = SPAN / SECOND
    return Warm(
        nodes,
        built - began,
        cluster.steps / cpu,
        min(rests) * SLICES / (REST / SECOND) / nodes * 1e6,
        cpu / span_s / nodes * 1e6,
        span_s / cpu,
        (watch.full - watch.ended) / SECOND,
        (at_rest - before_it) * 1024 / nodes,
        (_peak_mib() - before_it) * 1024 / nodes,
        _peak_mib(),
    )


def cold(nodes: int) -> Cold:
    """Measure a join storm in this process."""
    began = time.process_time()
    cluster = Cluster(nodes, seed=1, warm=False, seeds=3, record=())
    cluster.run(SECOND)
    if not cluster.run_until(cluster.converged, 600 * SECOND):
        raise RuntimeError(f"{nodes} joining nodes did not converge in 600 simulated seconds")
    cpu = time.process_time() - began
    return Cold(nodes, cluster.now / SECOND, cpu, cluster.steps, _peak_mib())


def _peak_mib() -> float:
    """The most memory that this program has held.

    ``ru_maxrss`` would be that of the process: what it held before it became this program, as
    the copy of a large parent, counts there too.
    """
    with suppress(OSError):  # not Linux
        for line in STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def apart(kind: str, nodes: int) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, "-m", "experiments.bench", "--one", kind, str(nodes)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


@click.command()
@click.option("--full", is_flag=True, help=f"Also {LARGEST:,} nodes (some minutes).")
@click.option("--agents", is_flag=True, help="Instead, the wire, and our agent beside Serf's.")
@click.option("--quick", is_flag=True, help="With --agents: fewer of them, for less time.")
@click.option("--one", type=(click.Choice(["warm", "cold"]), int), hidden=True)
def bench(full: bool, agents: bool, quick: bool, one: tuple[str, int] | None) -> None:
    """Measure the simulator's speed and memory."""
    if one is not None:
        kind, nodes = one
        click.echo(json.dumps(to_builtins(warm(nodes) if kind == "warm" else cold(nodes))))
        return
    console = report.console()
    if agents:
        with console.status("measuring the wire") as status:
            report.print_table(console, bench_wire.measure(), "The wire, CPU of one message")
            plan = bench_agents.QUICK if quick else bench_agents.Plan()
            frame = bench_agents.measure(status.update, plan)
        report.print_table(console, frame, f"Agents on loopback, {plan.cluster} in a cluster")
        return
    sizes = (*SIZES, LARGEST) if full else SIZES
    with console.status("measuring") as status:
        rows = []
        for nodes in sizes:
            status.update(f"{nodes:,} nodes, warm")
            rows.append(apart("warm", nodes))
        status.update("1,000 nodes joining")
        joined = apart("cold", 1_000)
    frame = pd.DataFrame(rows).astype({"nodes": int})
    python = f"{platform.python_implementation()} {platform.python_version()}"
    title = f"Warm, LAN, one kill, {SPAN // SECOND} simulated seconds, {python}"
    report.print_table(console, frame, title)
    base = frame[frame.nodes == 1_000].iloc[0]
    for line in frame[frame.nodes > 1_000].itertuples():
        rest = line.rest_us_per_node_s / base.rest_us_per_node_s
        span = line.span_us_per_node_s / base.span_us_per_node_s
        console.print(
            f"{line.nodes:,} nodes cost {rest:.2f} times as much for each node-second as 1,000 "
            f"at rest, {span:.2f} times with the kill"
        )
    report.print_table(
        console, pd.DataFrame([joined]), "Cold: all join at once through three seeds"
    )


if __name__ == "__main__":
    bench()
