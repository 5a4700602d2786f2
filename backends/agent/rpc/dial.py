"""Reaching an agent's RPC, and saying why it cannot be reached in the words of Go."""

from __future__ import annotations

import asyncio
import os
import socket

from backends.agent.rpc.addresses import TcpPlace, UnixPlace, place

CONNECT_S = 10.0


class DialError(OSError):
    """No agent could be reached, or it would not talk; the text is as Go puts it."""

    def __str__(self) -> str:
        return str(self.args[0])


async def dial(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to ``address``; raises ``DialError``."""
    try:
        where = place(address)
    except ValueError as error:
        raise DialError(f"dial tcp: {error}") from None
    try:
        async with asyncio.timeout(CONNECT_S):
            match where:
                case UnixPlace(path):
                    return await _dial_unix(path)
                case TcpPlace():
                    return await _dial_tcp(where)
    except TimeoutError:
        raise DialError(f"dial tcp {address}: i/o timeout") from None


async def _dial_unix(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_unix_connection(path)
    except OSError as error:
        raise DialError(f"dial unix {path}: connect: {_reason(error)}") from None


async def _dial_tcp(where: TcpPlace) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            where.host or "localhost", where.port, type=socket.SOCK_STREAM
        )
    except OSError:
        raise DialError(f"dial tcp: lookup {where.host}: no such host") from None
    failure = ""
    for *_, socket_address in found:
        host = str(socket_address[0])
        try:
            return await asyncio.open_connection(host, where.port)
        except OSError as error:
            shown = f"[{host}]:{where.port}" if ":" in host else f"{host}:{where.port}"
            failure = f"dial tcp {shown}: connect: {_reason(error)}"
    raise DialError(failure)


def _reason(error: OSError) -> str:
    """The system's word for what went wrong, as Go writes it."""
    return os.strerror(error.errno).lower() if error.errno else str(error)
