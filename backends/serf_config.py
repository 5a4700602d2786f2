"""A Serf agent's settings, from its JSON files to the protocol's ``Config``.

The agent and the simulator read the same files, and this is how: ``read`` makes a *layer* of one
file, ``merge`` lays layers over one another as Serf does (spec serf.md, 3.1), ``protocol``
says what the result means for the protocol. All keys of Serf are known, in any case, as Serf
takes them; one that nobody knows is an error, as it is there.

Beside Serf's there are keys of our own: what this agent's process can do and Serf's cannot
(``Settings``, last part), and every knob of ``swimsim.Config`` under its own name.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from backends.durations import duration
from swimsim.config import PROFILES, Config, ConfigError
from swimsim.terms import HOUR, SECOND, Micros
from swimsim.wire import serf

PROFILE_NAMES = ("lan", "wan", "local")
KEY_SIZES = (16, 24, 32)
LEAST_WAIT: Micros = 1 * SECOND  # of the broadcast timeout and between tries to join

Layer: TypeAlias = Mapping[str, Any]
"""What one source says: values of the right types by key."""


class SerfConfigError(ValueError):
    """A setting that Serf would not take; the text says which key and what it needs."""


class Mdns(Struct, frozen=True, gc=False):
    """How mDNS is spoken (spec serf.md, 3.6)."""

    interface: str = ""
    disable_ipv4: bool = False
    disable_ipv6: bool = False


class Settings(Struct, frozen=True, kw_only=True):
    """What an agent is told, all layers together. Each field is a key of the files."""

    # Who it is and where
    node_name: str = ""  # empty: the host's
    bind: str = "0.0.0.0"
    advertise: str = ""
    interface: str = ""
    role: str = ""  # old: the tag "role"
    tags: Mapping[str, str] = {}
    tags_file: str = ""
    protocol: int = 5  # Serf's, 2 to 5
    validate_node_names: bool = False

    # Secrets
    encrypt_key: str = ""
    keyring_file: str = ""
    rpc_auth: str = ""

    # Whom it joins
    start_join: tuple[str, ...] = ()
    retry_join: tuple[str, ...] = ()
    retry_interval: Micros = 30 * SECOND
    retry_max_attempts: int = 0  # 0: for ever
    replay_on_join: bool = False
    discover: str = ""
    mdns: Mdns = Mdns()
    snapshot_path: str = ""
    rejoin_after_leave: bool = False

    # How it ends
    leave_on_terminate: bool = False
    skip_leave_on_interrupt: bool = False
    broadcast_timeout: Micros = 5 * SECOND  # at least 1 s

    # The protocol; every knob of ``Config`` on top
    profile: str = "lan"
    reconnect_interval: Micros = 30 * SECOND
    reconnect_timeout: Micros = 24 * HOUR
    tombstone_timeout: Micros = 24 * HOUR
    disable_name_resolution: bool = False
    disable_coordinates: bool = False
    enable_compression: bool = True
    query_size_limit: int = 1024  # bytes
    query_response_size_limit: int = 1024  # bytes
    user_event_size_limit: int = 512  # bytes

    # What it tells, and to whom
    log_level: str = "INFO"
    enable_syslog: bool = False
    syslog_facility: str = "LOCAL0"
    rpc_addr: str = "127.0.0.1:7373"
    event_handlers: tuple[str, ...] = ()
    statsite_addr: str = ""
    statsd_addr: str = ""

    # Ours, which Serf has not
    label: str = ""  # of the cluster; packets of another are dropped
    rpc_mode: str = "0600"  # permissions of the RPC socket, where rpc_addr is unix:///path
    handler_timeout: Micros = 30 * SECOND  # then an event handler is killed; 0: never
    prometheus_addr: str = ""  # host:port that answers with metrics
    journal: str = ""  # file of a flight recorder

    knobs: Mapping[str, Any] = {}  # of ``Config``, by name; not a key itself

    def __repr__(self) -> str:
        return f"Settings(of {self.node_name!r})"  # secrets do not belong into logs


TEXT, FLAG, NUMBER, TEXTS, TABLE, DURATION, MDNS = (
    "a text", "true or false", "a whole number", "a list", "a table", "a duration", "mdns",
)  # fmt: skip
_KINDS = {
    "str": TEXT,
    "bool": FLAG,
    "int": NUMBER,
    "tuple[str, ...]": TEXTS,
    "Mapping[str, str]": TABLE,
    "Micros": DURATION,
    "Mdns": MDNS,
}
_PYTHON: Mapping[str, Any] = {
    TEXT: str,
    FLAG: bool,
    NUMBER: int,
    TEXTS: list,
    TABLE: dict,
    MDNS: dict,
}

_OWN = ("label", "rpc_mode", "handler_timeout", "prometheus_addr", "journal")
SERF_KEYS: Mapping[str, str] = {
    key: _KINDS[kind]
    for key, kind in Settings.__annotations__.items()
    if key not in (*_OWN, "knobs")
}
"""Serf's keys, and of what kind their values are."""

_DERIVED = (  # follow from other settings
    "serf",
    "encrypted",
    "label_size",
    "vsn",
    "coordinates",
    "name_conflict_resolution",
)
KNOBS: Mapping[str, str] = {
    knob: {**_KINDS, "int | None": NUMBER}.get(kind, TEXT)
    for knob, kind in Config.__annotations__.items()
    if knob not in (*_DERIVED, *SERF_KEYS)
}
"""The protocol's knobs that Serf's users cannot turn."""

KEYS: Mapping[str, str] = {
    **SERF_KEYS,
    **{key: _KINDS[Settings.__annotations__[key]] for key in _OWN},
    **KNOBS,
}
"""Every key of a file."""

_SHARED = tuple(
    key for key in SERF_KEYS if key in Config.__annotations__
)  # Serf's keys that are knobs under the same name


# --- reading ---------------------------------------------------------------------------------


def read(text: str) -> Layer:
    """What a file's text says; raises ``SerfConfigError``."""
    try:
        given = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise SerfConfigError(f"not JSON: {error}") from error
    if not isinstance(given, dict):
        raise SerfConfigError("expected a JSON object")
    return {key.lower(): checked(key, value) for key, value in given.items()}


def checked(key: str, value: Any) -> Any:
    """The value of a key as it is held; raises ``SerfConfigError``."""
    wanted = KEYS.get(key.lower())
    if wanted is None:
        raise SerfConfigError(f"{key}: Serf has no such key")
    if wanted == DURATION:
        try:
            return duration(value)
        except ValueError as error:
            raise SerfConfigError(f"{key}: {error}") from error
    kind = _PYTHON[wanted]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise SerfConfigError(f"{key}: expected {kind.__name__}, got {value!r}")
    if wanted == MDNS:
        return _mdns(key, value)
    texts = value.values() if wanted == TABLE else value if wanted == TEXTS else ()
    if not all(isinstance(each, str) for each in texts):
        raise SerfConfigError(f"{key}: expected texts, got {value!r}")
    return tuple(value) if wanted == TEXTS else value


def _mdns(key: str, table: dict[str, Any]) -> Mdns:
    held = {name.lower(): value for name, value in table.items()}
    for name, value in held.items():
        wanted = {"str": str, "bool": bool}.get(Mdns.__annotations__.get(name, ""))
        if wanted is None:
            raise SerfConfigError(f"{key}.{name}: Serf has no such key")
        if not isinstance(value, wanted):
            raise SerfConfigError(f"{key}.{name}: expected {wanted.__name__}, got {value!r}")
    return Mdns(**held)


# --- laying over one another -----------------------------------------------------------------


def merge(layers: Iterable[Layer]) -> Settings:
    """All layers, a later one over an earlier, by Serf's rules.

    Texts and numbers override unless they are empty or zero, flags can only be switched on, lists
    are appended, tags are overlaid. Our own keys override whenever they are given, and so does
    ``enable_compression``, which Serf reads and forgets.
    """
    merged: dict[str, Any] = {}
    knobs: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if key in KNOBS:
                knobs[key] = value
            elif key in (*_OWN, "enable_compression"):
                merged[key] = value
            elif isinstance(value, tuple):
                merged[key] = (*merged.get(key, ()), *value)
            elif isinstance(value, dict):
                merged[key] = {**merged.get(key, {}), **value}
            elif isinstance(value, Mdns):
                merged[key] = _over(merged.get(key, Mdns()), value)
            elif value:
                merged[key] = value
    return Settings(**merged, knobs=knobs)


def _over(below: Mdns, above: Mdns) -> Mdns:
    return Mdns(
        above.interface or below.interface,
        above.disable_ipv4 or below.disable_ipv4,
        above.disable_ipv6 or below.disable_ipv6,
    )


# --- what it means ---------------------------------------------------------------------------


def check(settings: Settings) -> None:
    """Raise ``SerfConfigError`` for what contradicts itself, or no agent could run with."""
    if settings.encrypt_key and settings.keyring_file:
        raise SerfConfigError("encrypt_key: not allowed beside a keyring_file")
    if settings.tags_file and (settings.tags or settings.role):
        raise SerfConfigError("tags_file: not allowed beside tags or a role")
    if settings.profile not in PROFILE_NAMES:
        found = settings.profile
        raise SerfConfigError(f'profile: expected "lan", "wan" or "local", got {found!r}')
    if settings.encrypt_key and _key_length(settings.encrypt_key) not in KEY_SIZES:
        raise SerfConfigError("encrypt_key: expected 16, 24 or 32 bytes in base64")
    encode_tags(tags_of(settings))
    protocol(settings)


def protocol(settings: Settings) -> Config:
    """The protocol's settings; raises ``SerfConfigError``."""
    shared = {key: getattr(settings, key) for key in _SHARED}
    shared["broadcast_timeout"] = max(LEAST_WAIT, settings.broadcast_timeout)
    knobs = dict(settings.knobs)
    if "allowed_networks" in knobs:
        knobs["allowed_networks"] = tuple(knobs["allowed_networks"])
    try:
        return replace(
            PROFILES[settings.profile],
            encrypted=bool(settings.encrypt_key or settings.keyring_file),
            label_size=len(settings.label.encode()),
            coordinates=not settings.disable_coordinates,
            name_conflict_resolution=not settings.disable_name_resolution,
            **shared,
            **knobs,
        )
    except ConfigError as error:
        raise SerfConfigError(str(error)) from error


def tags_of(settings: Settings) -> dict[str, str]:
    """The tags, the role among them, in order of their names."""
    tags = dict(settings.tags)
    if settings.role:
        tags["role"] = settings.role
    return dict(sorted(tags.items()))


def encode_tags(tags: Mapping[str, str]) -> bytes:
    """Tags as metadata (spec serf.md, 1.6); raises ``SerfConfigError`` when they do not fit."""
    try:
        return serf.encode_tags(dict(sorted(tags.items())))
    except ValueError as error:
        raise SerfConfigError(f"tags: {error}") from error


def _key_length(key: str) -> int:
    try:
        return len(base64.b64decode(key, validate=True))
    except ValueError:  # which binascii.Error is too
        return -1
