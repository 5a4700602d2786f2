"""What all verbs have in common: where the agent is, and what is said when it cannot be asked."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import click

from backends.agent.flags import FAILED, Command, flag
from backends.agent.rpc.addresses import DEFAULT_ADDRESS
from backends.agent.rpc.client import Client, ConnectionLostError, RpcError
from backends.agent.rpc.dial import DialError
from backends.agent.verbs.output import say

ADDRESS_HELP = f"The agent's RPC: {DEFAULT_ADDRESS}, or $SERF_RPC_ADDR; or unix:///path."
TOKEN_HELP = "The agent's token, if it has one; or $SERF_RPC_AUTH."
INTERRUPTED = 130  # what a shell says of a command that was ended by SIGINT
Work = Callable[[Client], Awaitable[int | None]]


class Where:
    """The agent that a verb is for."""

    def __init__(self, address: str, auth_key: str) -> None:
        self.address = address
        self.auth_key = auth_key

    def ask(
        self, work: Work, failure: str, interrupted: str = "", status: int = INTERRUPTED
    ) -> int:
        """Do ``work`` with a client; the exit status. ``failure`` says what a refusal spoilt.

        An interrupt is answered by ``interrupted``, if it has words, and ``status``.
        """
        try:
            return asyncio.run(self._ask(work, failure)) or 0
        except KeyboardInterrupt:
            if interrupted:
                say(interrupted)
            return status
        except BrokenPipeError:  # nobody reads what it says any more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED

    async def _ask(self, work: Work, failure: str) -> int | None:
        client = Client(self.address, auth_key=self.auth_key)
        try:
            await client.__aenter__()
        except DialError as error:
            say(f"Error connecting to Serf agent: {error}")
            return FAILED
        try:
            return await work(client)
        except (RpcError, ConnectionLostError) as error:
            say(f"{failure}: {error}")
            return FAILED
        finally:
            await client.close()


def verb(name: str) -> Callable[[Callable[..., int | None]], Command]:
    """Make a function a command that is given ``where`` the agent is, then its own flags."""

    def made(function: Callable[..., int | None]) -> Command:
        def run(rpc_addr: str, rpc_auth: str, **settings: Any) -> int | None:
            return function(Where(rpc_addr, rpc_auth), **settings)

        run.__doc__ = function.__doc__
        run.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        for option in (
            flag("rpc-auth", envvar="SERF_RPC_AUTH", default="", help=TOKEN_HELP),
            flag("rpc-addr", envvar="SERF_RPC_ADDR", default=DEFAULT_ADDRESS, help=ADDRESS_HELP),
        ):
            option(run)
        return click.command(name, cls=Command)(run)

    return made


def words(metavar: str) -> Callable[[Any], Any]:
    """What stands behind the flags."""
    return click.argument("words", nargs=-1, metavar=metavar)


def tags(given: Sequence[str]) -> dict[str, str] | None:
    """``key=value`` pairs; None, after saying which, when one is none."""
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            say(f"Error: Invalid tag: '{text}'")
            return None
        found[key] = value
    return found
