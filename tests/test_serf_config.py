"""How layers of settings become one, and what they mean (spec serf.md, 3.1)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backends.serf_config import (
    KEYS,
    KNOBS,
    SERF_KEYS,
    Mdns,
    SerfConfigError,
    Settings,
    check,
    merge,
    protocol,
    read,
    tags_of,
)
from swimsim.config import LAN, Config
from swimsim.terms import MS, SECOND

MERGES: dict[str, tuple[list[dict[str, Any]], str, Any]] = {  # layers: a key, its value after
    "nothing said": ([], "bind", "0.0.0.0"),
    "a later text wins": ([{"bind": "a"}, {"bind": "b"}], "bind", "b"),
    "an empty text says nothing": ([{"bind": "a"}, {"bind": ""}], "bind", "a"),
    "zero says nothing": ([{"protocol": 4}, {"protocol": 0}], "protocol", 4),
    "a flag stays on": (
        [{"replay_on_join": True}, {"replay_on_join": False}],
        "replay_on_join",
        True,
    ),
    "lists are appended": (
        [{"start_join": ["a"]}, {"start_join": ["b"]}],
        "start_join",
        ("a", "b"),
    ),
    "handlers too": (
        [{"event_handlers": ["a"]}, {"event_handlers": ["a"]}],
        "event_handlers",
        ("a", "a"),
    ),
    "tags are overlaid": (
        [{"tags": {"a": "1", "b": "1"}}, {"tags": {"b": "2"}}],
        "tags",
        {"a": "1", "b": "2"},
    ),
    "mdns field by field": (
        [{"mdns": {"interface": "eth0"}}, {"mdns": {"disable_ipv6": True}}],
        "mdns",
        Mdns("eth0", False, True),
    ),
    "compression can be switched off, unlike in Serf": (
        [{"enable_compression": False}],
        "enable_compression",
        False,
    ),
    "our own zero counts": (
        [{"handler_timeout": "5s"}, {"handler_timeout": "0"}],
        "handler_timeout",
        0,
    ),
    "a knob's zero counts": ([{"gossip_nodes": 0}], "knobs", {"gossip_nodes": 0}),
}


@pytest.mark.parametrize(("layers", "key", "value"), MERGES.values(), ids=MERGES)
def test_merge(layers: list[dict[str, Any]], key: str, value: Any) -> None:
    assert getattr(merge(read(json.dumps(layer)) for layer in layers), key) == value


def test_every_knob_of_the_protocol_is_a_key() -> None:
    fields = set(Config.__struct_fields__)
    assert fields - set(KEYS) == {
        "serf",
        "encrypted",
        "label_size",
        "vsn",
        "coordinates",
        "name_conflict_resolution",
    }
    assert not set(KNOBS) & set(SERF_KEYS)


def test_knobs_reach_the_protocol() -> None:
    settings = merge(
        [read('{"Probe_Interval": "250ms", "suspicion_mult": 9, "stream_ping": false}')]
    )
    config = protocol(settings)
    assert (config.probe_interval, config.suspicion_mult, config.stream_ping) == (
        250 * MS,
        9,
        False,
    )
    assert config.gossip_interval == LAN.gossip_interval


def test_a_key_of_ours_can_be_given_as_its_profile_sets_it() -> None:
    assert (
        protocol(merge([{"dead_node_reclaim_time": 30 * SECOND}])).dead_node_reclaim_time
        == 30 * SECOND
    )
    assert protocol(merge([{"label": "blue"}])).label_size == 4


REFUSED = {
    "a knob out of range": ('{"suspicion_mult": -1}', "suspicion_mult is -1, expected at least 0"),
    "a knob of another type": ('{"gossip_nodes": "3"}', "gossip_nodes: expected int, got '3'"),
    "no such choice": (
        '{"probe_order": "odd"}',
        "probe_order is 'odd', expected 'round_robin' or 'random'",
    ),
    "mdns key": ('{"mdns": {"bogus": 1}}', "mdns.bogus: Serf has no such key"),
    "mdns value": ('{"mdns": {"interface": 1}}', "mdns.interface: expected str, got 1"),
    "a long label": (json.dumps({"label": "x" * 256}), "label_size is 256, expected at most 255"),
}


@pytest.mark.parametrize(("text", "error"), REFUSED.values(), ids=REFUSED)
def test_refused(text: str, error: str) -> None:
    with pytest.raises(SerfConfigError) as caught:
        check(merge([read(text)]))
    assert str(caught.value) == error


def test_tags_are_sorted_and_the_role_is_one() -> None:
    settings = Settings(tags={"b": "1", "a": "2"}, role="web")
    assert list(tags_of(settings).items()) == [("a", "2"), ("b", "1"), ("role", "web")]


def test_secrets_are_not_shown() -> None:
    assert "s3cret" not in repr(Settings(encrypt_key="s3cret", rpc_auth="s3cret"))
