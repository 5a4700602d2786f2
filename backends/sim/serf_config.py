"""A Serf agent's JSON configuration as the source of a simulation's settings.

The file that runs in production says which profile the agents use, what their tags are (and
so how large their metadata), whether packets are encrypted, how they reconnect, and how long a
farewell may take.
All keys of Serf's agent are known (spec serf.md, section 3.1), in any case, as Serf takes them;
one it does not know is an error, as it is there. Keys that do not bear on membership have no
effect on a simulation.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from backends.sim.units import duration
from swimsim.config import PROFILES, Config
from swimsim.terms import HOUR, SECOND, Micros
from swimsim.wire import serf


class SerfConfigError(ValueError):
    """A configuration that Serf would not take; the text says which key and what it needs."""


class SerfSettings(Struct, frozen=True):
    """What a Serf agent's configuration means for membership."""

    config: Config
    meta: bytes  # the encoded tags
    leave_timeout: Micros


_TEXT, _FLAG, _NUMBER, _TEXTS, _TABLE, _DURATION = str, bool, int, list, dict, "duration"

KEYS: Mapping[str, Any] = {
    "node_name": _TEXT,
    "role": _TEXT,
    "disable_coordinates": _FLAG,
    "tags": _TABLE,
    "tags_file": _TEXT,
    "bind": _TEXT,
    "advertise": _TEXT,
    "encrypt_key": _TEXT,
    "keyring_file": _TEXT,
    "log_level": _TEXT,
    "rpc_addr": _TEXT,
    "rpc_auth": _TEXT,
    "protocol": _NUMBER,
    "replay_on_join": _FLAG,
    "query_response_size_limit": _NUMBER,
    "query_size_limit": _NUMBER,
    "user_event_size_limit": _NUMBER,
    "start_join": _TEXTS,
    "event_handlers": _TEXTS,
    "profile": _TEXT,
    "snapshot_path": _TEXT,
    "leave_on_terminate": _FLAG,
    "skip_leave_on_interrupt": _FLAG,
    "discover": _TEXT,
    "mdns": _TABLE,
    "interface": _TEXT,
    "reconnect_interval": _DURATION,
    "reconnect_timeout": _DURATION,
    "tombstone_timeout": _DURATION,
    "disable_name_resolution": _FLAG,
    "enable_syslog": _FLAG,
    "syslog_facility": _TEXT,
    "retry_join": _TEXTS,
    "retry_max_attempts": _NUMBER,
    "retry_interval": _DURATION,
    "rejoin_after_leave": _FLAG,
    "enable_compression": _FLAG,
    "statsite_addr": _TEXT,
    "statsd_addr": _TEXT,
    "broadcast_timeout": _DURATION,
    "validate_node_names": _FLAG,
}


def parse(text: str) -> SerfSettings:
    """The settings in a configuration file's text; raises ``SerfConfigError``."""
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise SerfConfigError(f"not JSON: {error}") from error
    if not isinstance(given, dict):
        raise SerfConfigError("expected a JSON object")
    checked = {key.lower(): _checked(key, value) for key, value in given.items()}
    known = {key: value for key, value in checked.items() if value not in ("", {}, [])}
    if "encrypt_key" in known and "keyring_file" in known:
        raise SerfConfigError("encrypt_key: not allowed beside a keyring_file")
    if "tags_file" in known and ("tags" in known or "role" in known):
        raise SerfConfigError("tags_file: not allowed beside tags or a role")
    profile = known.get("profile", "lan")
    if profile not in ("lan", "wan", "local"):
        raise SerfConfigError(f'profile: expected "lan", "wan" or "local", got {profile!r}')
    key = known.get("encrypt_key", "")
    if key and _key_length(key) not in (16, 24, 32):
        raise SerfConfigError("encrypt_key: expected 16, 24 or 32 bytes in base64")
    encrypted = bool(key or known.get("keyring_file"))
    tags = dict(known.get("tags", {}))
    if known.get("role"):
        tags["role"] = known["role"]
    config = replace(
        PROFILES[profile],
        encrypted=encrypted,
        reconnect_interval=known.get("reconnect_interval", 30 * SECOND),
        reconnect_timeout=known.get("reconnect_timeout", 24 * HOUR),
    )
    return SerfSettings(
        config,
        encode_tags(tags),
        max(1 * SECOND, known.get("broadcast_timeout", 5 * SECOND)),
    )


def encode_tags(tags: Mapping[str, str]) -> bytes:
    """Tags as metadata (spec serf.md, 1.6); raises ``SerfConfigError`` when they do not fit."""
    try:
        return serf.encode_tags(dict(sorted(tags.items())))
    except ValueError as error:
        raise SerfConfigError(f"tags: {error}") from error


def _checked(key: str, value: Any) -> Any:
    wanted = KEYS.get(key.lower())
    if wanted is None:
        raise SerfConfigError(f"{key}: Serf has no such key")
    if wanted == _DURATION:
        try:
            return duration(value)
        except ValueError as error:
            raise SerfConfigError(f"{key}: {error}") from error
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise SerfConfigError(f"{key}: expected {wanted.__name__}, got {value!r}")
    texts = value.values() if key.lower() == "tags" else value if wanted is list else ()
    if not all(isinstance(text, str) for text in texts):
        raise SerfConfigError(f"{key}: expected texts, got {value!r}")
    return value


def _key_length(key: str) -> int:
    try:
        return len(base64.b64decode(key, validate=True))
    except ValueError:  # which binascii.Error is too
        return -1
