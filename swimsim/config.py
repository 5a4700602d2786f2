"""Every knob of the protocol, its unit and its default.

The defaults are memberlist's (spec memberlist.md, section 8.1); ``LAN``, ``WAN`` and ``LOCAL``
are its three profiles, ``SWIM_2002`` is the prototype that the SWIM paper measured. Where the
papers and memberlist disagree (spec experiments.md, section 2) both behaviours are here
behind a knob, and memberlist's is the default. What only a backend needs (sockets, keys, queue
depths of a process) is not here.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from swimsim.terms import HOUR, MINUTE, MS, SECOND, Micros


class ConfigError(ValueError):
    """A setting that no cluster can run with; the text names the setting and what it needs."""


USER_EVENT_CAP = 9216  # bytes that no limit on user events may exceed (spec serf.md, 1.9)

_CHOICES = {
    "probe_order": ("round_robin", "random"),
    "suspicion_scale": ("log10", "ln"),
    "retransmit_scale": ("log10", "ln"),
}


class Config(Struct, frozen=True, gc=False):
    """The settings of one member. Times are microseconds.

    Raises ``ConfigError`` when a value is out of its range.
    """

    # Probing (SWIM 3.1; memberlist 6.3, 6.4)
    probe_interval: Micros = 1 * SECOND  # the protocol period
    probe_timeout: Micros = 500 * MS  # silence of a direct ping before helpers are asked
    indirect_checks: int = 3  # k, helpers asked when the direct ping is not answered
    stream_ping: bool = True  # also ping over a stream when the direct ping is not answered
    probe_order: Literal["round_robin", "random"] = "round_robin"  # SWIM 4.3 against 3.1
    stagger: bool = True  # timers start at random phases; False: all members tick together

    # Suspicion (SWIM 4.2; Lifeguard IV-B; memberlist 6.8)
    suspicion: bool = True  # False: a failed probe declares the member dead at once (SWIM 3)
    suspicion_mult: int = 4  # alpha: minimum timeout in probe intervals, times log(members)
    suspicion_max_timeout_mult: int = 6  # beta: maximum timeout over minimum timeout

    # Dissemination (SWIM 4.1; memberlist 6.15, 6.17)
    gossip_interval: Micros = 200 * MS
    gossip_nodes: int = 3  # members gossiped to at each tick; 0: piggyback only
    gossip_to_the_dead_time: Micros = 30 * SECOND  # the dead still hear gossip, and can refute
    retransmit_mult: int = 4  # transmissions of a broadcast, times ceil(log(members + 1))
    piggyback: bool = True  # broadcasts ride on pings and acks

    # Anti-entropy (memberlist 5.2, 6.2)
    push_pull_interval: Micros = 30 * SECOND  # scaled up past 32 members; 0: never
    stream_timeout: Micros = 10 * SECOND  # memberlist's TCPTimeout

    # Serf's layer (spec serf.md, 2.1); nothing of this section matters without ``serf``
    serf: bool = False  # intents, events, queries, tags, keys, coordinates
    broadcast_timeout: Micros = 5 * SECOND  # how long a request waits until its news is said
    leave_propagate_delay: Micros = 1 * SECOND  # a leaver stays so long after its farewell
    coalesce_period: Micros = 3 * SECOND  # member events of so long are told as one; 0: never
    quiescent_period: Micros = 1 * SECOND  # or told as soon as there were none for so long
    user_coalesce_period: Micros = 3 * SECOND  # the same of user events
    user_quiescent_period: Micros = 1 * SECOND
    reap_interval: Micros = 15 * SECOND  # how often it is looked for whom to forget
    tombstone_timeout: Micros = 24 * HOUR  # after that who has left is forgotten
    flap_timeout: Micros = 60 * SECOND  # who is back sooner after a failure is flapping
    recent_intent_timeout: Micros = 5 * MINUTE  # intents about strangers are kept so long
    recent_intent_limit: int = 4096  # and so many of them
    queue_check_interval: Micros = 30 * SECOND  # how often the queues are looked at
    queue_depth_warning: int = 128  # longer ones are warned of
    max_queue_depth: int = 4096  # longer ones are cut
    min_queue_depth: int = 0  # if not 0, they are cut at this or at twice the members
    event_buffer: int = 512  # Lamport times of user events that are remembered
    query_buffer: int = 512  # the same of queries
    query_timeout_mult: int = 16  # default timeout in gossip intervals, times log(members)
    user_event_size_limit: int = 512  # bytes, of name and payload and of the whole message
    query_size_limit: int = 1024  # bytes of a whole query
    query_response_size_limit: int = 1024  # bytes of a whole response
    name_conflict_resolution: bool = True  # ask the others who of two claimants has the name
    coordinates: bool = True  # tell one's network coordinate in acks, and learn from others'

    # Members that are gone
    dead_node_reclaim_time: Micros = 0  # after that a dead name may move to a new address; 0: never

    # Reaching the failed again (Serf 2.8); memberlist alone does not, which is an interval of 0
    reconnect_interval: Micros = 30 * SECOND
    reconnect_timeout: Micros = 24 * HOUR  # after that a failed member is given up

    # Packets (memberlist 2.8)
    packet_size: int = 1400  # bytes of a packet before it is sent, memberlist's UDPBufferSize
    label_size: int = 0  # bytes of the cluster's label; each packet carries it
    encrypted: bool = False  # reserve room for AES-GCM in each packet

    # Who may be a member, and which versions this member speaks (memberlist 4, 6.9, 6.13)
    allowed_networks: tuple[str, ...] = ()  # CIDRs; empty: everybody
    vsn: bytes = bytes((1, 5, 2, 2, 5, 5))  # protocol min, max, current; delegate min, max, current

    # Lifeguard's three parts, for ablation (Lifeguard IV)
    lha_probe: bool = True  # local health stretches the probe interval; helpers send nacks
    lha_suspicion: bool = True  # the suspicion timeout starts long and shrinks with confirmations
    buddy_system: bool = True  # a suspect is told of its suspicion in the ping itself

    # Where the papers and memberlist disagree; the default is memberlist's
    suspicion_scale: Literal["log10", "ln"] = "log10"  # max(1, log10 n) or SWIM's ceil(ln(n + 1))
    retransmit_scale: Literal["log10", "ln"] = "log10"  # of ceil(log(n + 1))
    refute_death: bool = True  # who is dead may say otherwise; False: a death is final (SWIM 4.2)
    max_confirmations: int | None = None  # K; None: suspicion_mult - 2 (Lifeguard: 3)
    awareness_max: int = 7  # worst local health score (Lifeguard's S: 8)
    scale_probe_timeout: bool = False  # health stretches the probe timeout as well (Lifeguard)
    failed_probe_is_one: bool = False  # a failed probe costs 1 beside its missed nacks (Lifeguard)
    nack_percent: int = 100  # a helper's nack, in percent of the probe timeout (Lifeguard: 80)

    def __post_init__(self) -> None:
        for name in (
            "probe_interval",
            "probe_timeout",
            "gossip_interval",
            "stream_timeout",
            "reap_interval",
            "queue_check_interval",
            "max_queue_depth",
            "event_buffer",
            "query_buffer",
            "query_timeout_mult",
        ):
            _at_least(self, name, 1)
        for name in (
            "indirect_checks",
            "suspicion_mult",
            "gossip_nodes",
            "gossip_to_the_dead_time",
            "retransmit_mult",
            "push_pull_interval",
            "dead_node_reclaim_time",
            "reconnect_interval",
            "reconnect_timeout",
            "awareness_max",
            "label_size",
            "broadcast_timeout",
            "leave_propagate_delay",
            "coalesce_period",
            "quiescent_period",
            "user_coalesce_period",
            "user_quiescent_period",
            "tombstone_timeout",
            "flap_timeout",
            "recent_intent_timeout",
            "recent_intent_limit",
            "queue_depth_warning",
            "min_queue_depth",
            "query_size_limit",
            "query_response_size_limit",
        ):
            _at_least(self, name, 0)
        _at_least(self, "suspicion_max_timeout_mult", 1)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                expected = " or ".join(map(repr, choices))
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected {expected}")
        if not 1 <= self.nack_percent <= 100:
            raise ConfigError(f"nack_percent is {self.nack_percent}, expected 1 to 100")
        if self.max_confirmations is not None:
            _at_least(self, "max_confirmations", 0)
        if self.label_size > 255:
            raise ConfigError(f"label_size is {self.label_size}, expected at most 255")
        if not 256 <= self.packet_size <= 65_507:
            raise ConfigError(f"packet_size is {self.packet_size}, expected 256 to 65507 bytes")
        if not 0 <= self.user_event_size_limit <= USER_EVENT_CAP:
            raise ConfigError(
                f"user_event_size_limit is {self.user_event_size_limit}, "
                f"expected 0 to {USER_EVENT_CAP} bytes"
            )
        if len(self.vsn) != 6:
            raise ConfigError(f"vsn has {len(self.vsn)} bytes, expected 6")
        for least, most, current in (self.vsn[:3], self.vsn[3:]):
            if not least <= current <= most:
                raise ConfigError(f"vsn: version {current} is outside of {least} to {most}")
        if self.vsn[0] == 0:
            raise ConfigError("vsn: the least protocol version is 0, expected at least 1")
        for network in self.allowed_networks:
            try:
                ip_network(network)
            except ValueError as error:
                raise ConfigError(f"allowed_networks: {error}") from error


def _at_least(config: Config, name: str, least: int) -> None:
    value = getattr(config, name)
    if value < least:
        raise ConfigError(f"{name} is {value}, expected at least {least}")


LAN = Config()

WAN = replace(
    LAN,
    probe_interval=5 * SECOND,
    probe_timeout=3 * SECOND,
    suspicion_mult=6,
    gossip_interval=500 * MS,
    gossip_nodes=4,
    gossip_to_the_dead_time=60 * SECOND,
    push_pull_interval=60 * SECOND,
    stream_timeout=30 * SECOND,
)

LOCAL = replace(
    LAN,
    probe_timeout=200 * MS,
    indirect_checks=1,
    suspicion_mult=3,
    gossip_interval=100 * MS,
    gossip_to_the_dead_time=15 * SECOND,
    retransmit_mult=2,
    push_pull_interval=15 * SECOND,
    stream_timeout=1 * SECOND,
)

SWIM_2002 = replace(
    LAN,
    probe_interval=2 * SECOND,
    indirect_checks=1,
    stream_ping=False,
    suspicion_mult=3,
    suspicion_max_timeout_mult=1,
    suspicion_scale="ln",
    retransmit_mult=3,
    retransmit_scale="ln",
    gossip_nodes=0,
    gossip_to_the_dead_time=0,
    push_pull_interval=0,
    reconnect_interval=0,
    packet_size=400,
    refute_death=False,
    lha_probe=False,
    lha_suspicion=False,
    buddy_system=False,
)
"""SWIM as the paper's prototype ran it: a period of 2 s, one helper, piggyback only.

Its packets held at most six updates in 135 bytes; memberlist's encoding is wordier, so here it
is 400 bytes for about as many. The dead are forgotten at the end of the round of the list, not
at once.
"""

PROFILES: dict[str, Config] = {"lan": LAN, "wan": WAN, "local": LOCAL, "swim2002": SWIM_2002}
"""The ready-made settings by name."""
