"""``swimsim agent``: a member of a real cluster in the foreground, with ``serf agent``'s flags.

Flags may be written with one dash or two, and with a blank or ``=`` before the value, as in Go.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

import click
from msgspec.structs import replace

from backends.agent.agent import LEVELS, Agent
from backends.udp import Runtime
from backends.udp.addresses import AddressError, parse
from swimsim.config import PROFILES
from swimsim.wire import KeyringError, keyring, serf

BAD_INPUT = 2


def _refuse(message: str) -> NoReturn:
    click.echo(f"swimsim: {message}", err=True)
    sys.exit(BAD_INPUT)


def flag(name: str, **settings: Any) -> Callable[[Any], Any]:
    """An option that takes one dash as well as two."""
    return click.option(f"-{name}", f"--{name}", name.replace("-", "_"), **settings)


class Command(click.Command):
    """A command that complains in one line."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **settings: Any) -> Any:
        """Run it."""
        words = sys.argv[1:] if args is None else list(args)
        try:
            return super().main(words, *rest, **{**settings, "standalone_mode": False})
        except click.NoSuchOption as error:
            _refuse(f"there is no flag {self._whole(error.option_name, words)}")
        except click.UsageError as error:
            _refuse(error.format_message())

    def _whole(self, start: str, words: Sequence[str]) -> str:
        """The flag that begins so; click knows no more of one that it took for short ones."""
        known = {flag for parameter in self.params for flag in parameter.opts}
        flags = (word.partition("=")[0] for word in words)
        return next((each for each in flags if each.startswith(start) and each not in known), start)


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "-help", "--help"]})
@flag("node", default="", help="Name; by default the host's.")
@flag("bind", default="0.0.0.0", help="Address to listen on; port 7946 unless given, 0 any.")
@flag("advertise", default="", help="Address to tell others, if it is another.")
@flag("join", multiple=True, help="Address of a member to join; may be given again.")
@flag("encrypt", default="", help="Key to encrypt with: 16, 24 or 32 bytes in base64.")
@flag("label", default="", help="Label that all packets of the cluster carry.")
@flag("tag", multiple=True, help="key=value; may be given again.")
@flag("profile", default="lan", help="lan, wan or local.")
@flag("log-level", default="INFO", help=f"{', '.join(LEVELS)}.")
@flag(
    "disable-compression",
    type=bool,
    is_flag=False,
    flag_value=True,
    default=False,
    help="Do not compress what is sent; true unless =false.",
)
def agent(
    node: str,
    bind: str,
    advertise: str,
    join: Sequence[str],
    encrypt: str,
    label: str,
    tag: Sequence[str],
    profile: str,
    log_level: str,
    disable_compression: bool,
) -> None:
    """Run one member until SIGINT or SIGTERM, then leave."""
    if profile not in ("lan", "wan", "local"):
        _refuse(f"-profile: expected lan, wan or local, got {profile!r}")
    if log_level.upper() not in LEVELS:
        _refuse(f"-log-level: expected one of {', '.join(LEVELS)}, got {log_level!r}")
    try:
        for text in join:
            parse(text.rpartition("/")[2])
        runtime = Runtime(
            node or socket.gethostname(),
            bind=bind,
            advertise=advertise or None,
            config=replace(PROFILES[profile], serf=True),
            meta=serf.encode_tags(_tags(tag)),
            keyring=keyring.keyring([keyring.parse_key(encrypt)]) if encrypt else None,
            label=label.encode(),
            compress=not disable_compression,
        )
    except AddressError as error:
        _refuse(str(error))
    except KeyringError as error:
        _refuse(f"-encrypt: {error}")
    except ValueError as error:
        _refuse(str(error))
    try:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            sys.exit(runner.run(Agent(runtime, click.echo, level=log_level.upper()).run(join)))
    except OSError as error:
        click.echo(f"swimsim: cannot listen on {bind}: {error.strerror or error}", err=True)
        sys.exit(1)


def _new_loop() -> asyncio.AbstractEventLoop:
    """An event loop, that of uvloop where it is installed (``pip install 'swimsim[fast]'``)."""
    try:
        loop: asyncio.AbstractEventLoop = import_module("uvloop").new_event_loop()
    except ImportError:
        return asyncio.new_event_loop()
    return loop


def _tags(given: Sequence[str]) -> dict[str, str]:
    tags = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            _refuse(f"-tag: expected key=value, got {text!r}")
        tags[key] = value
    return dict(sorted(tags.items()))
