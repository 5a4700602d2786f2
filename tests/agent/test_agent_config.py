"""What an agent is told, and what Serf says of it when it is wrong (spec serf.md, 3.1, 3.2)."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from backends.agent.config import FLAGS, gather, plan
from backends.agent.surface import AgentError
from backends.serf_config import KEYS
from swimsim.terms import MS, SECOND

KEY = base64.b64encode(bytes(32)).decode()
Flags = list[tuple[str, str]]

MEANS: dict[str, tuple[Flags, str, object]] = {  # flags: a setting, its value
    "node": ([("node", "a")], "node_name", "a"),
    "the last one": ([("node", "a"), ("node", "b")], "node_name", "b"),
    "tags": ([("tag", "a=1"), ("tag", "b=x=y")], "tags", {"a": "1", "b": "x=y"}),
    "an empty tag": ([("tag", "a=")], "tags", {"a": ""}),
    "joins": ([("join", "x"), ("join", "y")], "start_join", ("x", "y")),
    "duration": ([("retry-interval", "1m30s")], "retry_interval", 90 * SECOND),
    "number": ([("retry-max", "3")], "retry_max_attempts", 3),
    "unset protocol": ([("protocol", "0")], "protocol", 5),
    "switch": ([("rejoin", "true")], "rejoin_after_leave", True),
    "compression off": ([("disable-compression", "true")], "enable_compression", False),
    "a knob": ([("gossip-nodes", "0")], "knobs", {"gossip_nodes": 0}),
    "a knob that lasts": ([("probe-interval", "250ms")], "knobs", {"probe_interval": 250 * MS}),
    "leave on terminate": ([("leave-on-terminate", "true")], "leave_on_terminate", True),
    "handler timeout": ([("handler-timeout", "5s")], "handler_timeout", 5 * SECOND),
}


@pytest.mark.parametrize(("flags", "key", "value"), MEANS.values(), ids=MEANS)
def test_flags(flags: Flags, key: str, value: object) -> None:
    assert getattr(gather(flags), key) == value


def test_every_key_but_a_secret_has_a_flag() -> None:
    assert set(KEYS) - set(FLAGS.values()) == {"rpc_auth"}


def test_files_come_in_their_order_and_flags_over_them(tmp_path: Path) -> None:
    folder = tmp_path / "conf.d"
    (folder / "deeper.json").mkdir(parents=True)
    for name, content in {
        "conf.d/b.json": {"node_name": "b", "tags": {"x": "b"}, "start_join": ["b"]},
        "conf.d/a.json": {"node_name": "a", "tags": {"x": "a", "y": "a"}, "start_join": ["a"]},
        "conf.d/ignored.txt": {"bogus": 1},
        "last.json": {"profile": "wan", "log_level": "debug"},
    }.items():
        (tmp_path / name).write_text(json.dumps(content))
    settings = gather(
        [
            ("log-level", "warn"),
            ("config-dir", str(folder)),
            ("tag", "z=flag"),
            ("config-file", str(tmp_path / "last.json")),
            ("join", "c"),
        ]
    )
    assert settings.node_name == "b"
    assert settings.tags == {"x": "b", "y": "a", "z": "flag"}
    assert settings.start_join == ("a", "b", "c")
    assert (settings.profile, settings.log_level) == ("wan", "warn")


REFUSED: dict[str, tuple[Flags, str]] = {
    "tag": ([("tag", "foo")], "Invalid tag: 'foo'"),
    "log level": (
        [("log-level", "foo")],
        "Invalid log level: FOO. Valid log levels are: [TRACE DEBUG INFO WARN ERR]",
    ),
    "profile": ([("profile", "foo")], "Unknown profile: foo"),
    "handler": (
        [("event-handler", "foo=bar")],
        "Invalid event script: Event 'foo' invoking 'bar'",
    ),
    "no such file": (
        [("config-file", "/nowhere.json")],
        "Error reading '/nowhere.json': open /nowhere.json: no such file or directory",
    ),
    "bind": ([("bind", "[::1")], "Invalid bind address: '[::1': expected [host]:port"),
    "advertise": (
        [("advertise", "a:b")],
        "Invalid advertise address: 'a:b': the port is 'b', expected 0 to 65535",
    ),
    "interface": (
        [("iface", "nope0")],
        "Invalid network interface: nope0: no such network interface",
    ),
    "key": (
        [("encrypt", "abcd")],
        "Invalid encryption key: key size must be 16, 24 or 32 bytes",
    ),
    "key and keyring": (
        [("encrypt", KEY), ("keyring-file", "x")],
        "Failed to setup the Serf agent: Encryption key not allowed while using a keyring",
    ),
    "tags and file": (
        [("tag", "a=b"), ("tags-file", "x")],
        "Failed to setup the Serf agent: Tags config not allowed while using tag files",
    ),
    "low protocol": (
        [("protocol", "1")],
        "Failed to start the Serf agent: Error creating Serf: Protocol version '1' too low. "
        "Must be in range: [2, 5]",
    ),
    "long tags": (
        [("tag", f"a={'x' * 600}")],
        "Failed to start the Serf agent: Error creating Serf: "
        "Encoded length of tags exceeds limit of 512 bytes",
    ),
    "event limit": (
        [("user-event-size-limit", "9217")],
        "Failed to start the Serf agent: Error creating Serf: "
        "user event size limit exceeds limit of 9216 bytes",
    ),
    "mdns without discover": (
        [("mdns-iface", "eth0")],
        "mDNS interface specified without enabling mDNS discovery",
    ),
    "mdns without anything": (
        [("mdns-disable-ipv4", "true"), ("mdns-disable-ipv6", "true")],
        "Invalid mDNS configuration: both IPv4 and IPv6 are disabled",
    ),
    "a knob": (
        [("suspicion-mult", "-1")],
        "Invalid configuration: suspicion_mult is -1, expected at least 0",
    ),
    "a number": (
        [("retry-max", "x")],
        'invalid value "x" for flag -retry-max: parse error',
    ),
    "a duration": (
        [("retry-interval", "5")],
        'invalid value "5" for flag -retry-interval: parse error',
    ),
}


@pytest.mark.parametrize(("flags", "error"), REFUSED.values(), ids=REFUSED)
def test_refused(flags: Flags, error: str) -> None:
    with pytest.raises(AgentError) as caught:
        plan(gather(flags))
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ('{"bogus": 1}', "bogus: Serf has no such key"),
        ("{", "not JSON"),
        ('{"protocol": "5"}', "protocol: expected int, got '5'"),
    ],
)
def test_a_bad_file_is_named_with_its_key(content: str, error: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(AgentError) as caught:
        gather([("config-file", str(path))])
    assert str(caught.value).startswith(f"Error decoding '{path}': {error}")


WARNED: dict[str, tuple[Flags, str]] = {
    "retry": (
        [("retry-interval", "1ms")],
        "==> Warning: 'RetryInterval' is too low. Setting to 1s",
    ),
    "broadcast": (
        [("broadcast-timeout", "1ms")],
        "==> Warning: 'BroadcastTimeout' is too low. Setting to 1s",
    ),
    "rejoin": (
        [("rejoin", "true")],
        "==> Warning: 'RejoinAfterLeave' enabled without snapshot file",
    ),
    "role": ([("role", "web")], "Deprecation warning: 'Role' has been replaced with 'Tags'"),
}


@pytest.mark.parametrize(("flags", "warning"), WARNED.values(), ids=WARNED)
def test_warned(flags: Flags, warning: str) -> None:
    assert plan(gather(flags)).warnings == (warning,)


def test_names_are_checked_where_that_is_asked_for() -> None:
    strict = [("validate-node-names", "true")]
    plan(gather([*strict, ("node", "web-1.example")]))
    plan(gather([("node", "web 1")]))
    for name in ("web 1", "x" * 129, "wéb"):
        with pytest.raises(AgentError, match="is not valid"):
            plan(gather([*strict, ("node", name)]))


def test_addresses() -> None:
    assert plan(gather([])).where == ("0.0.0.0:7946", None)
    where = plan(gather([("bind", "127.0.0.1:1"), ("advertise", "[::1]")])).where
    assert where == ("127.0.0.1:1", "[::1]:7946"), "without a port it is 7946, as in Serf"
    where = plan(gather([("iface", "lo"), ("bind", "0.0.0.0:5")])).where
    assert where.bind == "127.0.0.1:5"


def test_the_plan_keeps_secrets_to_itself() -> None:
    made = plan(gather([("encrypt", KEY)]))
    assert made.config.encrypted
    assert KEY not in repr(made)
