"""Settings: memberlist's profiles, and what no cluster can run with is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swimsim.config import LAN, LOCAL, PROFILES, SWIM_2002, WAN, Config, ConfigError
from swimsim.terms import HOUR, MS, SECOND

FIELDS = (
    "probe_interval", "probe_timeout", "indirect_checks", "retransmit_mult", "suspicion_mult",
    "suspicion_max_timeout_mult", "push_pull_interval", "gossip_interval", "gossip_nodes",
    "gossip_to_the_dead_time", "stream_timeout",
)  # fmt: skip

MEMBERLIST = {  # spec memberlist.md 8.1, in the order of FIELDS; times in milliseconds
    "lan": (1000, 500, 3, 4, 4, 6, 30_000, 200, 3, 30_000, 10_000),
    "wan": (5000, 3000, 3, 4, 6, 6, 60_000, 500, 4, 60_000, 30_000),
    "local": (1000, 200, 1, 2, 3, 6, 15_000, 100, 3, 15_000, 1000),
}

COUNTS = {
    "indirect_checks", "retransmit_mult", "suspicion_mult", "suspicion_max_timeout_mult",
    "gossip_nodes",
}  # fmt: skip


@pytest.mark.parametrize("profile", MEMBERLIST)
def test_a_profile_is_memberlists(profile: str) -> None:
    config = PROFILES[profile]
    wanted = {
        field: value if field in COUNTS else value * MS
        for field, value in zip(FIELDS, MEMBERLIST[profile], strict=True)
    }
    assert {field: getattr(config, field) for field in FIELDS} == wanted


@pytest.mark.parametrize("profile", MEMBERLIST)
def test_what_memberlists_profiles_share(profile: str) -> None:
    config = PROFILES[profile]
    assert config.stream_ping  # DisableTcpPings false
    assert config.awareness_max == 8 - 1  # AwarenessMaxMultiplier counts the healthy score too
    assert config.packet_size == 1400  # UDPBufferSize
    assert config.dead_node_reclaim_time == 0
    assert config.allowed_networks == ()
    assert (config.label_size, config.encrypted) == (0, False)
    assert config.vsn == bytes((1, 5, 2, 2, 5, 5))  # what Debian's serf sends


@pytest.mark.parametrize("profile", MEMBERLIST)
def test_the_default_side_of_every_disagreement_is_memberlists(profile: str) -> None:
    config = PROFILES[profile]
    assert (config.suspicion_scale, config.retransmit_scale) == ("log10", "log10")
    assert config.max_confirmations is None
    assert not config.scale_probe_timeout
    assert not config.failed_probe_is_one
    assert config.nack_percent == 100
    assert config.probe_order == "round_robin"
    assert config.lha_probe
    assert config.lha_suspicion
    assert config.buddy_system
    assert config.suspicion
    assert config.piggyback


@pytest.mark.parametrize("profile", MEMBERLIST)
def test_the_lost_are_looked_for_as_serf_does(profile: str) -> None:
    """Serf 2.8: every 30 s, for a day, in every profile."""
    config = PROFILES[profile]
    assert (config.reconnect_interval, config.reconnect_timeout) == (30 * SECOND, 24 * HOUR)


def test_profiles_are_named() -> None:
    assert PROFILES == {"lan": LAN, "wan": WAN, "local": LOCAL, "swim2002": SWIM_2002}
    assert Config() == LAN


def test_the_prototype_of_2002() -> None:
    """SWIM 5: a period of 2 s, K = 1, 3 ceil(ln(n + 1)) for both; spec experiments.md 2."""
    assert (SWIM_2002.probe_interval, SWIM_2002.indirect_checks) == (2 * SECOND, 1)
    assert (SWIM_2002.suspicion_mult, SWIM_2002.suspicion_scale) == (3, "ln")
    assert (SWIM_2002.retransmit_mult, SWIM_2002.retransmit_scale) == (3, "ln")
    assert SWIM_2002.suspicion_max_timeout_mult == 1
    assert (SWIM_2002.gossip_nodes, SWIM_2002.push_pull_interval) == (0, 0)
    assert SWIM_2002.reconnect_interval == 0
    assert SWIM_2002.gossip_to_the_dead_time == 0
    assert SWIM_2002.packet_size == 400
    assert SWIM_2002.piggyback
    assert not SWIM_2002.refute_death
    assert not any(
        (
            SWIM_2002.stream_ping,
            SWIM_2002.lha_probe,
            SWIM_2002.lha_suspicion,
            SWIM_2002.buddy_system,
        )
    )


BAD: dict[str, dict[str, Any]] = {
    "no time between probes": {"probe_interval": 0},
    "a negative time between probes": {"probe_interval": -1},
    "no time for an ack": {"probe_timeout": 0},
    "no time between gossips": {"gossip_interval": 0},
    "no time for a stream": {"stream_timeout": 0},
    "fewer than no helpers": {"indirect_checks": -1},
    "a negative suspicion": {"suspicion_mult": -1},
    "a maximum below the minimum": {"suspicion_max_timeout_mult": 0},
    "fewer than nobody to gossip to": {"gossip_nodes": -1},
    "a negative time for the dead": {"gossip_to_the_dead_time": -1},
    "a negative number of transmissions": {"retransmit_mult": -1},
    "a negative time between exchanges": {"push_pull_interval": -1},
    "a negative time to reclaim": {"dead_node_reclaim_time": -1},
    "a negative time between reconnections": {"reconnect_interval": -1},
    "a negative time to reconnect": {"reconnect_timeout": -1},
    "a worst health below the best": {"awareness_max": -1},
    "a negative label": {"label_size": -1},
    "a label longer than its length byte can say": {"label_size": 256},
    "fewer than no confirmations": {"max_confirmations": -1},
    "a nack at no time": {"nack_percent": 0},
    "a nack after the timeout": {"nack_percent": 101},
    "a packet too small for news of a member": {"packet_size": 255},
    "a packet that no datagram holds": {"packet_size": 65_508},
    "five version bytes": {"vsn": bytes((1, 5, 2, 2, 5))},
    "seven version bytes": {"vsn": bytes((1, 5, 2, 2, 5, 5, 5))},
    "no version bytes": {"vsn": b""},
    "a network that is none": {"allowed_networks": ("10.0.0.0/8", "ten.0.0.0/8")},
    "a network with host bits": {"allowed_networks": ("10.0.0.1/8",)},
    "an unknown probe order": {"probe_order": "roundrobin"},
    "an unknown scale of suspicion": {"suspicion_scale": "log2"},
    "an unknown scale of transmissions": {"retransmit_scale": "log2"},
    # peers drop the alive of such a member (spec memberlist.md, 6.9 step 2)
    "a least protocol version of zero": {"vsn": bytes((0, 5, 2, 2, 5, 5))},
    "protocol versions upside down": {"vsn": bytes((5, 1, 2, 2, 5, 5))},
    # or refuse every exchange with it (6.13 step 1)
    "a protocol version that it does not support": {"vsn": bytes((1, 5, 6, 2, 5, 5))},
    "a delegate version that it does not support": {"vsn": bytes((1, 5, 2, 2, 5, 6))},
}


@pytest.mark.parametrize("settings", BAD.values(), ids=BAD)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ConfigError, match=name):
        Config(**settings)
    with pytest.raises(ConfigError, match=name):
        replace(LAN, **settings)


EXTREME: dict[str, dict[str, Any]] = {
    "the shortest times": {
        "probe_interval": 1, "probe_timeout": 1, "gossip_interval": 1, "stream_timeout": 1,
        "gossip_to_the_dead_time": 0,
    },
    "nothing of what may be nothing": {
        "indirect_checks": 0, "suspicion_mult": 0, "gossip_nodes": 0, "retransmit_mult": 0,
        "push_pull_interval": 0, "dead_node_reclaim_time": 0, "awareness_max": 0,
        "reconnect_interval": 0, "reconnect_timeout": 0,
        "label_size": 0, "max_confirmations": 0, "suspicion_max_timeout_mult": 1,
    },
    "the smallest packet": {"packet_size": 256},
    "the largest packet": {"packet_size": 65_507},
    "the longest label": {"label_size": 255},
    "an early nack": {"nack_percent": 1},
    "a nack at the timeout": {"nack_percent": 100},
    "a delegate without versions": {"vsn": bytes((1, 5, 2, 0, 0, 0))},
    "one version only": {"vsn": bytes((2, 2, 2, 5, 5, 5))},
    "two networks": {"allowed_networks": ("10.0.0.0/8", "fd00::/8")},
    "random probes": {"probe_order": "random"},
    "natural logarithms": {"suspicion_scale": "ln", "retransmit_scale": "ln"},
}  # fmt: skip


@pytest.mark.parametrize("settings", EXTREME.values(), ids=EXTREME)
def test_an_extreme_setting_is_accepted(settings: dict[str, Any]) -> None:
    config = Config(**settings)
    assert {name: getattr(config, name) for name in settings} == settings
