"""What an agent is told: flags over files over defaults (spec serf.md, 3.1).

``gather`` makes ``Settings`` of a command line, ``Plan`` is what follows from them: everything is
looked at before anything is opened, and what is wrong is one ``AgentError`` in Serf's words.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ifaddr
from msgspec import Struct
from msgspec.structs import replace

from backends import serf_config
from backends.agent import files, filters
from backends.agent.filters import Script
from backends.agent.logs import FACILITIES, LEVELS
from backends.agent.surface import AgentError
from backends.serf_config import (
    DURATION,
    FLAG,
    KEYS,
    LEAST_WAIT,
    NUMBER,
    PROFILE_NAMES,
    TEXTS,
    Layer,
    Mdns,
    SerfConfigError,
    Settings,
)
from backends.udp import addresses
from swimsim.config import Config
from swimsim.terms import SECOND
from swimsim.wire.keyring import Keyring, KeyringError, keyring, parse_key
from swimsim.wire.serf import encode_tags

PROTOCOLS = range(2, 6)
EVENT_LIMIT = 9216  # bytes, of the limit of user events itself
NAME_LENGTH = 128  # characters of a node's name, where they are checked
FILES = ("config-file", "config-dir")

SERF_FLAGS: Mapping[str, str] = {
    "node": "node_name",
    "bind": "bind",
    "advertise": "advertise",
    "iface": "interface",
    "encrypt": "encrypt_key",
    "keyring-file": "keyring_file",
    "event-handler": "event_handlers",
    "join": "start_join",
    "replay": "replay_on_join",
    "retry-join": "retry_join",
    "retry-interval": "retry_interval",
    "retry-max": "retry_max_attempts",
    "log-level": "log_level",
    "profile": "profile",
    "protocol": "protocol",
    "role": "role",
    "tag": "tags",
    "tags-file": "tags_file",
    "rpc-addr": "rpc_addr",
    "snapshot": "snapshot_path",
    "rejoin": "rejoin_after_leave",
    "discover": "discover",
    "mdns-iface": "mdns",
    "mdns-disable-ipv4": "mdns",
    "mdns-disable-ipv6": "mdns",
    "syslog": "enable_syslog",
    "disable-compression": "enable_compression",
    "broadcast-timeout": "broadcast_timeout",
}
"""Serf's flags, and the keys that they are."""

_SECRET = ("rpc_auth",)  # not for a command line that everybody can list
FLAGS: Mapping[str, str] = {
    **SERF_FLAGS,
    **{key.replace("_", "-"): key for key in KEYS if key not in (*SERF_FLAGS.values(), *_SECRET)},
}
"""All flags: of every key that Serf has no flag for, the key with dashes."""


def is_switch(flag: str) -> bool:
    """Whether it is true when it is given."""
    return (
        flag.startswith("mdns-disable")
        or flag == "disable-compression"
        or (flag in FLAGS and KEYS[FLAGS[flag]] == FLAG)
    )


# --- flags and files ---------------------------------------------------------------------------


def gather(flags: Iterable[tuple[str, str]]) -> Settings:
    """The settings of a command line, its files read; raises ``AgentError``."""
    given = list(flags)
    layers = [layer for flag, value in given if flag in FILES for layer in _read(flag, Path(value))]
    layers += [_layer(flag, value) for flag, value in given if flag not in FILES]
    return serf_config.merge(layers)


def _read(flag: str, path: Path) -> list[Layer]:
    try:
        if flag == "config-dir" or path.is_dir():
            inside = sorted(each for each in path.iterdir() if each.suffix == ".json")
            return [_read_file(each) for each in inside if not each.is_dir()]
        return [_read_file(path)]
    except OSError as error:
        where = error.filename or path
        raise AgentError(f"Error reading '{path}': open {where}: {files.told(error)}") from None


def _read_file(path: Path) -> Layer:
    try:
        return serf_config.read(path.read_text(encoding="utf-8"))
    except SerfConfigError as error:
        raise AgentError(f"Error decoding '{path}': {error}") from None
    except UnicodeDecodeError as error:
        raise AgentError(f"Error decoding '{path}': not UTF-8 at byte {error.start}") from None


def _layer(flag: str, value: str) -> Layer:
    """What one flag says."""
    key = FLAGS[flag]
    if flag == "tag":
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise AgentError(f"Invalid tag: '{value}'")
        return {key: {name: text}}
    if key == "mdns":
        field = flag.removeprefix("mdns-").replace("-", "_").replace("iface", "interface")
        said: Any = value if field == "interface" else value == "true"
        return {key: Mdns(**{field: said})}
    if flag == "disable-compression":
        return {key: value != "true"}
    return {key: _value(flag, key, value)}


def _value(flag: str, key: str, value: str) -> Any:
    kind = KEYS[key]
    try:
        if kind == NUMBER:
            return int(value)
        if kind == FLAG:
            return value == "true"
        if kind == DURATION:
            return serf_config.checked(key, value)
        return (value,) if kind == TEXTS else value
    except ValueError:
        error = f'invalid value "{value}" for flag -{flag}: parse error'
        raise AgentError(error) from None


# --- what follows from them ----------------------------------------------------------------------


class Listening(NamedTuple):
    """Where to listen and what to tell others."""

    bind: str
    advertise: str | None


class Plan(Struct, frozen=True):
    """Settings that have been looked at, and what they come to."""

    settings: Settings
    name: str
    where: Listening
    config: Config
    scripts: tuple[Script, ...]
    warnings: tuple[str, ...]  # that are printed, and no more

    def __repr__(self) -> str:
        return f"Plan(of {self.name!r})"  # secrets do not belong into logs


def plan(settings: Settings) -> Plan:
    """Look at everything; raises ``AgentError``."""
    warnings = []
    settings = replace(
        settings,
        profile=settings.profile.lower() if settings.profile.lower() in PROFILE_NAMES
        else settings.profile,
    )  # fmt: skip
    if settings.log_level.upper() not in LEVELS:
        levels = " ".join(LEVELS)
        error = f"Invalid log level: {settings.log_level.upper()}. Valid log levels are: [{levels}]"
        raise AgentError(error)
    if settings.enable_syslog and settings.syslog_facility.upper() not in FACILITIES:
        raise AgentError(f"Syslog setup failed: invalid facility: {settings.syslog_facility}")
    if settings.profile not in PROFILE_NAMES:
        raise AgentError(f"Unknown profile: {settings.profile}")
    if settings.role:
        warnings.append("Deprecation warning: 'Role' has been replaced with 'Tags'")
    if settings.rejoin_after_leave and not settings.snapshot_path:
        warnings.append("==> Warning: 'RejoinAfterLeave' enabled without snapshot file")
    if settings.broadcast_timeout < LEAST_WAIT:
        warnings.append("==> Warning: 'BroadcastTimeout' is too low. Setting to 1s")
    if settings.retry_interval < LEAST_WAIT:
        warnings.append("==> Warning: 'RetryInterval' is too low. Setting to 1s")
        settings = replace(settings, retry_interval=LEAST_WAIT)
    scripts = tuple(map(filters.script, settings.event_handlers))
    _check_mdns(settings)
    if settings.tags_file and (settings.tags or settings.role):
        raise AgentError(SETUP + "Tags config not allowed while using tag files")
    if settings.encrypt_key and settings.keyring_file:
        raise AgentError(SETUP + "Encryption key not allowed while using a keyring")
    where = _where(settings)
    name = settings.node_name or socket.gethostname()
    _check_limits(settings, name)
    try:
        config = replace(serf_config.protocol(settings), serf=True, vsn=_versions(settings))
    except SerfConfigError as error:
        raise AgentError(f"Invalid configuration: {error}") from None
    key_of(settings)
    return Plan(settings, name, where, config, scripts, tuple(warnings))


SETUP = "Failed to setup the Serf agent: "
CREATE = "Failed to start the Serf agent: Error creating Serf: "


def _check_limits(settings: Settings, name: str) -> None:
    if settings.protocol not in PROTOCOLS:
        least, most = PROTOCOLS[0], PROTOCOLS[-1]
        much = "low" if settings.protocol < least else "high"
        raise AgentError(
            f"{CREATE}Protocol version '{settings.protocol}' too {much}. "
            f"Must be in range: [{least}, {most}]"
        )
    if settings.user_event_size_limit > EVENT_LIMIT:
        raise AgentError(f"{CREATE}user event size limit exceeds limit of {EVENT_LIMIT} bytes")
    try:
        encode_tags(serf_config.tags_of(settings))
    except ValueError as error:
        raise AgentError(f"{CREATE}{error}") from None
    if settings.validate_node_names:
        odd = [each for each in name if not (each.isascii() and (each.isalnum() or each in "-."))]
        if odd or len(name) > NAME_LENGTH:
            raise AgentError(
                f"{CREATE}Node name '{name}' is not valid: expected at most {NAME_LENGTH} letters, "
                "digits, dashes and dots"
            )


def _versions(settings: Settings) -> bytes:
    return bytes((1, 5, 2, 2, 5, settings.protocol))


def key_of(settings: Settings) -> Keyring | None:
    """The keyring of ``encrypt_key``, if there is one; raises ``AgentError``."""
    if not settings.encrypt_key:
        return None
    try:
        return keyring([parse_key(settings.encrypt_key)])
    except KeyringError as error:
        raise AgentError(f"Invalid encryption key: {error}") from None


def _check_mdns(settings: Settings) -> None:
    mdns = settings.mdns
    if mdns.interface and not settings.discover:
        raise AgentError("mDNS interface specified without enabling mDNS discovery")
    if mdns.disable_ipv4 and mdns.disable_ipv6:
        raise AgentError("Invalid mDNS configuration: both IPv4 and IPv6 are disabled")


# --- addresses -----------------------------------------------------------------------------------


def _where(settings: Settings) -> Listening:
    try:
        host, port = addresses.parse(settings.bind)
        bind = addresses.joined(host, port)
    except addresses.AddressError as error:
        raise AgentError(f"Invalid bind address: {error}") from None
    if settings.interface:
        found = interface_addresses(settings.interface)
        if host in addresses.WILDCARDS:
            bind = addresses.joined(_routable(settings.interface, found), port)
        elif host not in found:
            raise AgentError(f"Interface '{settings.interface}' has no '{host}' address")
    advertise = None
    if settings.advertise:
        try:
            advertise = addresses.joined(*addresses.parse(settings.advertise))
        except addresses.AddressError as error:
            raise AgentError(f"Invalid advertise address: {error}") from None
    return Listening(bind, advertise)


def interface_addresses(name: str) -> list[str]:
    """The addresses of a network interface; raises ``AgentError``."""
    for adapter in ifaddr.get_adapters():
        if name in (adapter.name, adapter.nice_name):
            return [ip.ip if isinstance(ip.ip, str) else ip.ip[0] for ip in adapter.ips]
    raise AgentError(f"Invalid network interface: {name}: no such network interface")


def _routable(interface: str, found: Sequence[str]) -> str:
    for address in found:
        if not address.startswith(("169.254.", "fe80:")):
            return address
    raise AgentError(f"Failed to find usable address for interface '{interface}'")


def seconds(micros: int) -> float:
    """For the event loop."""
    return micros / SECOND
