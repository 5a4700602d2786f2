"""What Prometheus is told of an agent, read from its node at each scrape."""

from __future__ import annotations

from collections import Counter

from backends.agent.agent import Agent
from backends.agent.surface import STATUS_NAMES
from backends.agent.telemetry import Reading
from swimsim import serf_view

_STATS = {  # of Serf's statistics: what they are called, and what they are
    "intent_queue": ("queue_depth", "intent"),
    "event_queue": ("queue_depth", "event"),
    "query_queue": ("queue_depth", "query"),
    "member_time": ("lamport_time", "member"),
    "event_time": ("lamport_time", "event"),
    "query_time": ("lamport_time", "query"),
}


def read(agent: Agent) -> list[Reading]:
    """All of it; each name says in braces by what its values are told apart."""
    node = agent.runtime.node
    if node is None:
        return []
    members = agent.members()
    statuses = Counter(STATUS_NAMES[each.status] for each in members)
    stats = serf_view.stats(node)
    found: dict[str, dict[tuple[str, ...], float]] = {"queue_depth": {}, "lamport_time": {}}
    for key, (name, label) in _STATS.items():
        found[name][label,] = float(stats.get(key, 0))
    found["queue_depth"]["memberlist",] = float(len(node.broadcasts.queue))
    peers = {each.name for each in members} - {agent.name}
    rtts = {(peer,): agent.runtime.rtt(peer) for peer in sorted(peers)}
    counters = agent.runtime.counters
    return [
        ("swimsim_members{status}", "Members by Serf's status.", "gauge",
         {(name,): float(statuses[name]) for name in STATUS_NAMES[1:]}),
        ("swimsim_queue_depth{queue}", "News that wait to be gossiped.", "gauge",
         found["queue_depth"]),
        ("swimsim_lamport_time{clock}", "The Lamport clocks.", "gauge", found["lamport_time"]),
        ("swimsim_health_score", "Local health; 0 is healthy.", "gauge", {(): float(node.health)}),
        ("swimsim_incarnation", "Of this node.", "gauge",
         {(): float(node.membership.incarnation)}),
        ("swimsim_peer_rtt_seconds{peer}", "Estimated round-trip time, from coordinates.", "gauge",
         {key: rtt for key, rtt in rtts.items() if rtt is not None}),
        ("swimsim_peer_suspected_total{peer}", "How often a member was suspected.", "counter",
         {(peer,): float(count) for peer, count in sorted(agent.accused.items())}),
        ("swimsim_peer_accusations_total{peer}", "How often a member was the accuser.", "counter",
         {(peer,): float(count) for peer, count in sorted(agent.accusers.items())}),
        ("swimsim_traffic_total{what}", "Messages and exchanges, by kind.", "counter",
         {(what,): float(count) for what, count in sorted(counters.items())}),
        ("swimsim_serf_total{what}", "Serf's own counters.", "counter",
         {(what,): float(count) for what, count in sorted(agent.metrics.totals.items())}),
    ]  # fmt: skip
