"""A Serf agent's configuration file as the source of settings (spec serf.md, 1.6, 3.1)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backends.serf_config import SERF_KEYS, SerfConfigError, encode_tags
from backends.sim.serf_config import parse
from swimsim.config import LAN, LOCAL, WAN
from swimsim.inputs import META_LIMIT
from swimsim.terms import HOUR, MS, SECOND, Micros

KEY_16 = base64.b64encode(bytes(16)).decode()

# spec serf.md, section 3.1: every key of the configuration file, and a value of its type
ACCEPTED: dict[str, Any] = {
    "node_name": "web-1",
    "role": "web",
    "disable_coordinates": True,
    "tags": {"dc": "east"},
    "tags_file": "/etc/tags.json",
    "bind": "0.0.0.0:7946",
    "advertise": "10.0.0.1",
    "encrypt_key": KEY_16,
    "keyring_file": "/etc/keyring.json",
    "log_level": "DEBUG",
    "rpc_addr": "127.0.0.1:7373",
    "rpc_auth": "secret",
    "protocol": 5,
    "replay_on_join": True,
    "query_response_size_limit": 1024,
    "query_size_limit": 1024,
    "user_event_size_limit": 512,
    "start_join": ["10.0.0.2", "10.0.0.3:7946"],
    "event_handlers": ["user:deploy=/bin/deploy"],
    "profile": "wan",
    "snapshot_path": "/var/serf",
    "leave_on_terminate": True,
    "skip_leave_on_interrupt": True,
    "discover": "cluster",
    "mdns": {"interface": "eth0", "disable_ipv4": False, "disable_ipv6": True},
    "interface": "eth0",
    "reconnect_interval": "45s",
    "reconnect_timeout": "1h30m",
    "tombstone_timeout": "12h",
    "disable_name_resolution": True,
    "enable_syslog": True,
    "syslog_facility": "LOCAL0",
    "retry_join": ["10.0.0.4"],
    "retry_max_attempts": 3,
    "retry_interval": "500ms",
    "rejoin_after_leave": True,
    "enable_compression": False,
    "statsite_addr": "10.0.0.5:8125",
    "statsd_addr": "10.0.0.5:8125",
    "broadcast_timeout": "7s",
    "validate_node_names": True,
}


def of(**settings: Any) -> str:
    return json.dumps(settings)


def test_every_key_of_serf_is_known() -> None:
    assert set(SERF_KEYS) == set(ACCEPTED)


@pytest.mark.parametrize("spelled", [str.lower, str.upper, str.title])
@pytest.mark.parametrize(("key", "value"), ACCEPTED.items(), ids=ACCEPTED)
def test_every_key_is_accepted_in_any_case(key: str, value: Any, spelled: Any) -> None:
    assert parse(of(**{spelled(key): value})) == parse(of(**{key: value}))


def test_keys_that_do_not_bear_on_membership_have_no_effect() -> None:
    bears = {
        "role",
        "tags",
        "encrypt_key",
        "keyring_file",
        "profile",
        "reconnect_interval",
        "reconnect_timeout",
        "broadcast_timeout",
        "tombstone_timeout",
        "disable_name_resolution",
        "disable_coordinates",
    }
    nothing = parse("{}")
    for key, value in ACCEPTED.items():
        assert (parse(of(**{key: value})) != nothing) == (key in bears), key


def test_nothing_said_is_serfs_default() -> None:
    found = parse("{}")
    assert found.config == LAN
    assert found.meta == b"\xff\x80"
    assert found.leave_timeout == 5 * SECOND


# --- what the settings mean ----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "profile"), [("lan", LAN), ("wan", WAN), ("local", LOCAL)])
def test_a_profile_is_memberlists(name: str, profile: Any) -> None:
    assert parse(of(profile=name)).config == profile


@pytest.mark.parametrize("size", [16, 24, 32])
def test_a_key_switches_encryption_on(size: int) -> None:
    key = base64.b64encode(bytes(range(size))).decode()
    assert parse(of(encrypt_key=key)).config == replace(LAN, encrypted=True)


def test_so_does_a_keyring_file() -> None:
    assert parse(of(keyring_file="/etc/keyring.json")).config.encrypted
    assert not parse(of(keyring_file="", encrypt_key="")).config.encrypted


@pytest.mark.parametrize(
    ("text", "micros"), [("5s", 5 * SECOND), ("1m", 60 * SECOND), ("1s", SECOND), ("100ms", SECOND)]
)
def test_the_broadcast_timeout_is_how_long_a_farewell_may_take_at_least_a_second(
    text: str, micros: Micros
) -> None:
    assert parse(of(broadcast_timeout=text)).leave_timeout == micros


def test_reconnecting_is_as_it_says() -> None:
    config = parse(of(reconnect_interval="45s", reconnect_timeout="72h")).config
    assert config == replace(LAN, reconnect_interval=45 * SECOND, reconnect_timeout=72 * HOUR)
    assert parse(of(reconnect_interval="250ms")).config.reconnect_interval == 250 * MS


@pytest.mark.parametrize("profile", ["lan", "wan", "local"])
def test_serf_reconnects_every_30_seconds_for_a_day_whatever_the_profile(profile: str) -> None:
    config = parse(of(profile=profile)).config
    assert (config.reconnect_interval, config.reconnect_timeout) == (30 * SECOND, 24 * HOUR)


# --- tags ----------------------------------------------------------------------------------------

TAGS: dict[str, tuple[dict[str, str], str]] = {  # tags; the bytes, in hex
    # spec serf.md, section 1.6
    "none": ({}, "ff 80"),
    "a role": ({"role": "web"}, "ff 81 a4 726f6c65 a3 776562"),
    # tests/vectors/tags-and-coordinates.json, made by Serf, entries in byte order
    "not ASCII": (
        {"üñí": "✓ ok", "empty": ""},
        "ff 82 a5 656d707479 a0 a6 c3bcc3b1c3ad a6 e29c93206f6b",
    ),
    "a long value": (
        {"description": "if2l46eiw5ym6xkepixgr67srg-xox.51"},
        "ff 81 ab 6465736372697074696f6e da 0021"
        " 6966326c343665697735796d36786b65706978677236377372672d786f782e3531",
    ),
}


@pytest.mark.parametrize(("tags", "meta"), TAGS.values(), ids=TAGS)
def test_tags_are_encoded_as_serf_does(tags: dict[str, str], meta: str) -> None:
    assert encode_tags(tags).hex() == meta.replace(" ", "")
    assert parse(of(tags=tags)).meta == encode_tags(tags)


def test_more_than_15_tags_have_a_longer_head() -> None:
    tags = {f"{number:02}": "" for number in range(16)}
    assert encode_tags(dict(list(tags.items())[:15]))[:2] == b"\xff\x8f"
    assert encode_tags(tags)[:4] == b"\xff\xde\x00\x10"


def test_the_order_in_the_file_does_not_matter() -> None:
    assert encode_tags({"b": "1", "a": "2"}) == encode_tags({"a": "2", "b": "1"})


@given(st.dictionaries(st.text(max_size=40), st.text(max_size=40), max_size=20))
def test_the_size_of_the_metadata_is_that_of_its_texts_and_heads(tags: dict[str, str]) -> None:
    texts = [text.encode() for pair in tags.items() for text in pair]
    size = 1 + (1 if len(tags) <= 15 else 3)
    size += sum(len(text) + (1 if len(text) <= 31 else 3) for text in texts)
    if size > META_LIMIT:
        with pytest.raises(SerfConfigError):
            encode_tags(tags)
    else:
        assert len(encode_tags(tags)) == size


def test_a_role_is_a_tag() -> None:
    assert parse(of(role="web")).meta == parse(of(tags={"role": "web"})).meta
    both = parse(of(role="web", tags={"dc": "east"}))
    assert both.meta == encode_tags({"dc": "east", "role": "web"})
    assert parse(of(role="")).meta == encode_tags({})


def test_tags_fit_to_the_last_byte() -> None:
    fits = META_LIMIT - 2 - 2 - 3
    assert len(parse(of(tags={"a": "x" * fits})).meta) == META_LIMIT
    with pytest.raises(SerfConfigError) as caught:
        parse(of(tags={"a": "x" * (fits + 1)}))
    assert str(caught.value) == "tags: Encoded length of tags exceeds limit of 512 bytes"


# --- what Serf would not take --------------------------------------------------------------------

REFUSED: dict[str, tuple[str, str]] = {
    "not JSON": ("{bad", "not JSON: Expecting property name enclosed in double quotes: line 1"),
    "empty": ("", "not JSON: Expecting value: line 1 column 1 (char 0)"),
    "no object": ("[]", "expected a JSON object"),
    "a text": ('"x"', "expected a JSON object"),
    "unknown": (of(bogus=1), "bogus: Serf has no such key"),
    "nearly": (of(tag={}), "tag: Serf has no such key"),
    "profile": (of(profile="man"), 'profile: expected "lan", "wan" or "local", got \'man\''),
    "profile, case": (of(profile="LAN"), 'profile: expected "lan", "wan" or "local", got \'LAN\''),
    "key too short": (of(encrypt_key="abcd"), "encrypt_key: expected 16, 24 or 32 bytes in base64"),
    "key, 17 bytes": (
        of(encrypt_key=base64.b64encode(bytes(17)).decode()),
        "encrypt_key: expected 16, 24 or 32 bytes in base64",
    ),
    "key, no base64": (of(encrypt_key="!" * 24), "encrypt_key: expected 16, 24 or 32 bytes"),
    "key, no padding": (of(encrypt_key=KEY_16[:-2]), "encrypt_key: expected 16, 24 or 32 bytes"),
    "key, not ASCII": (of(encrypt_key="é" * 24), "encrypt_key: expected 16, 24 or 32 bytes"),
    "duration": (
        of(retry_interval="soon"),
        'retry_interval: expected a duration such as "500ms" or "1h30m", got \'soon\'',
    ),
    "duration without unit": (
        of(reconnect_timeout=30),
        'reconnect_timeout: expected a duration such as "500ms" or "1h30m", got 30',
    ),
    "duration in days": (of(reconnect_timeout="1d"), "reconnect_timeout: expected a duration"),
    "tag that is no text": (of(tags={"a": 1}), "tags: expected texts, got {'a': 1}"),
    "a very long tag": (
        of(tags={"a": "x" * 70_000}),
        "tags: Encoded length of tags exceeds limit of 512 bytes",
    ),
    "address that is no text": (of(start_join=[7946]), "start_join: expected texts, got [7946]"),
    "a lone surrogate": ('{"tags": {"a": "\\ud800"}}', "tags: "),
    "the key as written": (of(Retry_Interval=5), "Retry_Interval: expected a duration"),
}


@pytest.mark.parametrize(("text", "error"), REFUSED.values(), ids=REFUSED)
def test_what_serf_would_not_take_is_refused_in_one_line(text: str, error: str) -> None:
    with pytest.raises(SerfConfigError) as caught:
        parse(text)
    assert str(caught.value).startswith(error)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("key", "value"), ACCEPTED.items(), ids=ACCEPTED)
def test_every_key_has_a_type(key: str, value: Any) -> None:
    for wrong in (3, 1.5, True, "7s", ["x"], {"a": "b"}, None):
        if type(wrong) is type(value):
            continue
        with pytest.raises(SerfConfigError) as caught:
            parse(of(**{key: wrong}))
        assert str(caught.value).startswith(f"{key}: expected ")


def test_a_key_and_a_keyring_exclude_each_other() -> None:
    # spec serf.md, section 3.3: `Encryption key not allowed while using a keyring`
    with pytest.raises(SerfConfigError, match="encrypt_key"):
        parse(of(encrypt_key=KEY_16, keyring_file="/etc/keyring.json"))


def test_tags_and_a_tags_file_exclude_each_other() -> None:
    # spec serf.md, section 3.3: `Tags config not allowed while using tag files`
    for given_ in ({"tags": {"a": "b"}}, {"role": "web"}):
        with pytest.raises(SerfConfigError, match="tags"):
            parse(of(tags_file="/etc/tags.json", **given_))


@pytest.mark.parametrize("key", ["profile", "encrypt_key", "role"])
def test_an_empty_text_is_as_if_it_was_not_there(key: str) -> None:
    # spec serf.md, section 3.1: strings override when non-empty
    assert parse(of(**{key: ""})) == parse("{}")


VECTORS = Path(__file__).parents[1] / "vectors" / "tags-and-coordinates.json"


@pytest.mark.skipif(not VECTORS.exists(), reason="the vectors of tags are not in the checkout")
def test_golden_vectors() -> None:
    for vector in json.loads(VECTORS.read_text())["vectors"]:
        fields = vector["fields"]
        if vector["kind"] == "tags" and not fields["legacy"]:
            # Serf writes the entries of a map in any order; so do the vectors.
            found = encode_tags(fields["$tags"])
            assert len(found) == len(bytes.fromhex(vector["hex"]))
