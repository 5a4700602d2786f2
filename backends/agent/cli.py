"""``swimsim agent``: a member of a real cluster in the foreground, with ``serf agent``'s flags."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from backends.agent.config import FILES, FLAGS, SERF_FLAGS, is_switch
from backends.agent.flags import Command, flag, split, switch
from backends.agent.process import Process
from backends.serf_config import KEYS, KNOBS, TEXTS
from swimsim.config import LAN

_HELP = {
    "node": "Name; by default the host's.",
    "bind": "Address to listen on; port 7946 unless given.",
    "advertise": "Address to tell others, if it is another; port 7946 unless given.",
    "iface": "Network interface to listen on.",
    "encrypt": "Key to encrypt with: 16, 24 or 32 bytes in base64.",
    "keyring-file": "File of keys, rewritten when the cluster changes them.",
    "event-handler": "[FILTERS=]COMMAND to run at events; may be given again.",
    "join": "Address of a member to join; may be given again.",
    "replay": "Tell the events that joined members remember.",
    "retry-join": "Address to join, tried until it works; may be given again.",
    "retry-interval": "Time between tries.",
    "retry-max": "Tries; 0: for ever.",
    "log-level": "trace, debug, info, warn or err.",
    "profile": "lan, wan or local.",
    "protocol": "Serf protocol version, 2 to 5.",
    "role": "Deprecated: the tag role.",
    "tag": "key=value; may be given again.",
    "tags-file": "File that keeps the tags.",
    "rpc-addr": "Where RPC listens: host:port or unix:///path.",
    "snapshot": "File that keeps what an agent must know after a crash.",
    "rejoin": "Rejoin from the snapshot even after a farewell.",
    "discover": "Name of a cluster to find others of by mDNS.",
    "mdns-iface": "Network interface for mDNS.",
    "mdns-disable-ipv4": "No mDNS over IPv4.",
    "mdns-disable-ipv6": "No mDNS over IPv6.",
    "syslog": "Log to syslog as well.",
    "disable-compression": "Do not compress what is sent.",
    "broadcast-timeout": "How long a farewell and such may take to be said.",
    "config-file": "JSON file to read; may be given again.",
    "config-dir": "Directory whose *.json files are read; may be given again.",
    "label": "Label that all packets of the cluster carry.",
    "rpc-mode": "Permissions of a Unix socket for RPC, in octal.",
    "handler-timeout": "Time after which an event handler is killed; 0: never.",
    "prometheus-addr": "host:port where Prometheus finds metrics.",
    "journal": "File of a flight recorder, for `swimsim replay`.",
}


class AgentCommand(Command):
    """Keeps the flags in the order in which they were given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the flags; words behind them are ignored, as in Serf."""
        flags, _ = split(self, args)
        pairs = (each.removeprefix("--").partition("=") for each in flags)
        ctx.meta["flags"] = [(name, value) for name, _, value in pairs]
        return super().parse_args(ctx, flags)


def _run(**_: object) -> int:
    """Run one member until it is told to end."""
    flags = click.get_current_context().meta["flags"]
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(Process(flags, _say, _complain).run())


def _options() -> Sequence[click.Parameter]:
    """All flags as click knows them: it lists them, and refuses others."""
    holder: list[click.Parameter] = []
    for name in (*FILES, *FLAGS):
        many = name in FILES or name == "tag" or KEYS.get(FLAGS[name]) == TEXTS
        make = switch(name, help=_help(name)) if is_switch(name) else flag(
            name, help=_help(name), multiple=many
        )  # fmt: skip
        holder += make(lambda: None).__click_params__
    return holder


def _help(name: str) -> str:
    key = FLAGS.get(name, "")
    if name in _HELP:
        return _HELP[name]
    if key in KNOBS:
        return f"Protocol: {key}, {getattr(LAN, key)!r} in a local network (times in µs)."
    return f"The key {key} of the configuration."


agent = AgentCommand("agent", callback=_run, params=list(_options()), help=_run.__doc__)


def _say(line: str) -> None:
    sys.stdout.write(line.encode("utf-8", "replace").decode() + "\n")
    sys.stdout.flush()


def _complain(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _new_loop() -> asyncio.AbstractEventLoop:
    """An event loop, that of uvloop where it is installed (``pip install 'swimsim[fast]'``)."""
    try:
        loop: asyncio.AbstractEventLoop = import_module("uvloop").new_event_loop()
    except ImportError:
        return asyncio.new_event_loop()
    return loop


assert set(_HELP) >= {*SERF_FLAGS, *FILES}
