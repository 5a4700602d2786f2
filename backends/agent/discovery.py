"""Finding the others on the local network by multicast DNS (spec serf.md, 3.6).

An agent publishes ``NODE._serf_CLUSTER._tcp.local.`` with the address and port that it gossips on,
looks for others of that service, and joins whom it finds. zeroconf (``pip install
'swimsim[mdns]'``) speaks the protocol; Serf's agents and ours find each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from backends.agent.config import interface_addresses
from backends.agent.surface import AgentError
from backends.serf_config import Mdns
from swimsim.terms import Address

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

GATHER_S = 0.1  # quiet time after which those found are joined together
ASK_MS = 3000  # how long it may take to learn where a service is
AGAIN_S = 60.0  # between two rounds of trying those who could not be joined
DOMAIN = "_tcp.local."

Join = Callable[[Sequence[str]], Awaitable[int]]
Log = Callable[[str, str], None]


class Discovery:
    """One agent's part in it."""

    def __init__(self, cluster: str, node: str, address: Address, mdns: Mdns, log: Log) -> None:
        self._service = f"_serf_{cluster}.{DOMAIN}"
        self._cluster, self._node, self._address = cluster, node, address
        self._mdns, self._log = mdns, log
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._found: dict[str, bool] = {}  # places by whether they were joined
        self._news = asyncio.Event()
        self._asking: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Publish and look; raises OSError, and ``AgentError`` where zeroconf is missing."""
        if find_spec("zeroconf") is None:
            raise AgentError("zeroconf is not installed: pip install 'swimsim[mdns]'")
        from zeroconf import InterfaceChoice, IPVersion, ServiceInfo  # noqa: PLC0415
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf  # noqa: PLC0415

        version = IPVersion.All
        if self._mdns.disable_ipv4:
            version = IPVersion.V6Only
        elif self._mdns.disable_ipv6:
            version = IPVersion.V4Only
        interfaces: Any = InterfaceChoice.Default
        if self._mdns.interface:
            interfaces = interface_addresses(self._mdns.interface)
            self._log("INFO", f"agent: Starting mDNS listener on interface {self._mdns.interface}")
        self._zeroconf = AsyncZeroconf(interfaces=interfaces, ip_version=version)
        info = ServiceInfo(
            self._service,
            f"{self._node}.{self._service}",
            port=self._address.port,
            addresses=[self._address.host],
            priority=10,
            weight=1,
            properties={f"Serf '{self._cluster}' cluster": None},
            server=f"{self._node}.local.",
        )
        await self._zeroconf.async_register_service(info, allow_name_change=True, strict=False)
        self._browser = AsyncServiceBrowser(
            self._zeroconf.zeroconf, self._service, handlers=[self._on_change]
        )

    def _on_change(self, zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
        if state_change.name in ("Added", "Updated"):
            task = asyncio.ensure_future(self._ask(name))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _ask(self, name: str) -> None:
        assert self._zeroconf is not None
        info = await self._zeroconf.async_get_service_info(self._service, name, ASK_MS)
        if info is None or not info.port:
            return
        for host in info.addresses_by_version(_all_versions()):
            place = str(Address(host, info.port))
            if place != str(self._address) and place not in self._found:
                self._found[place] = False
                self._news.set()

    async def run(self, join: Join) -> None:
        """Join whom it finds, until cancelled; who could not be joined is tried again."""
        while True:
            try:
                async with asyncio.timeout(AGAIN_S):
                    await self._news.wait()
                await asyncio.sleep(GATHER_S)
            except TimeoutError:
                pass
            self._news.clear()
            missing = [place for place, joined in self._found.items() if not joined]
            if not missing:
                continue
            try:
                count = await join(missing)
            except AgentError as error:
                self._log("ERR", f"agent.mdns: Failed to join: {error}")
            else:
                self._found.update(dict.fromkeys(missing, True))
                self._log("INFO", f"agent.mdns: Joined {count} hosts")

    async def stop(self) -> None:
        """Say goodbye."""
        for task in self._asking:
            task.cancel()
        if self._browser is not None:
            await self._browser.async_cancel()
        if self._zeroconf is not None:
            await self._zeroconf.async_unregister_all_services()
            await self._zeroconf.async_close()


def _all_versions() -> Any:
    from zeroconf import IPVersion  # noqa: PLC0415

    return IPVersion.All
