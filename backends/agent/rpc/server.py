"""The RPC server: it listens on TCP or on a Unix socket, and gives each client a ``Session``.

    server = Server(agent, auth_key="s3cret")
    await server.start("127.0.0.1:7373")     # or "unix:///run/swimsim.sock"
    ...
    await server.stop()

Whoever reaches a TCP port may command the agent unless there is a token. A Unix socket is for
whom its file's permissions let in, its owner alone by default.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from contextlib import suppress

from backends.agent.rpc.addresses import TcpPlace, UnixPlace, place
from backends.agent.rpc.session import Session
from backends.agent.surface import Surface

MAX_CLIENTS = 512
LINGER_S = 5.0
UNIX_MODE = 0o600  # of the socket's file: its owner


class Server:
    """Serves one agent until it is stopped."""

    def __init__(self, surface: Surface, auth_key: str = "") -> None:
        self._surface = surface
        self._auth_key = auth_key
        self._server: asyncio.Server | None = None
        self._socket_file: tuple[str, int] | None = None  # its path and inode
        self._clients: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    @property
    def address(self) -> str:
        """Where it listens, with the port that was taken when 0 was asked for."""
        if self._socket_file is not None:
            return f"unix://{self._socket_file[0]}"
        assert self._server is not None
        host, port, *_ = self._server.sockets[0].getsockname()
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def start(self, address: str, *, mode: int = UNIX_MODE) -> None:
        """Listen; raises OSError where that cannot be, ValueError when it is no address."""
        self._is_stopping = False
        match place(address):
            case UnixPlace(path):
                listener = _unix_listener(path, mode)
                self._server = await asyncio.start_unix_server(self._accept, sock=listener)
                self._socket_file = path, os.stat(path).st_ino
            case TcpPlace(host, port):
                self._server = await asyncio.start_server(self._accept, host or None, port)

    async def stop(self) -> None:
        """Listen no more, and part with every client."""
        if self._server is None:
            return
        self._is_stopping = True
        self._server.close()
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await asyncio.sleep(0)  # their sockets close
        await self._server.wait_closed()
        self._server = None
        if self._socket_file is not None:
            path, inode = self._socket_file
            with suppress(OSError):  # it may be gone, or that of the agent after this one
                if os.stat(path).st_ino == inode:
                    os.unlink(path)
            self._socket_file = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_stopping:  # it was under way when the server stopped
            writer.transport.abort()
            return
        task = asyncio.create_task(self._converse(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
            writer.close()
            async with asyncio.timeout(LINGER_S):  # until it has read our last words
                await writer.wait_closed()
        except OSError:
            pass
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _client(writer)
        if len(self._clients) > MAX_CLIENTS:
            self._surface.log("WARN", f"agent.ipc: over {MAX_CLIENTS} clients, refused: {client}")
            return
        self._surface.log("INFO", f"agent.ipc: Accepted client: {client}")
        self._surface.count("agent.ipc.accept")
        try:
            await Session(self._surface, self._auth_key, reader, writer, client).run()
        except Exception as error:  # one client's trouble is not the agent's
            kind = type(error).__name__
            self._surface.log("ERR", f"agent.ipc: client {client}: {kind}: {error}")


def _client(writer: asyncio.StreamWriter) -> str:
    peer = writer.get_extra_info("peername")
    if not isinstance(peer, tuple):
        return "unix socket"
    return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"


def _unix_listener(path: str, mode: int) -> socket.socket:
    """A socket whose file nobody else can open, not even for the moment before ``mode``."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileExistsError("a file that is no socket")
        _refuse_if_served(path)
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        listener.bind(path)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(umask)
    os.chmod(path, mode)
    return listener


def _refuse_if_served(path: str) -> None:
    """A socket that nobody listens on is what a killed agent leaves behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return
    raise OSError(errno.EADDRINUSE, "address already in use")
