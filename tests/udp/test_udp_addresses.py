"""Addresses: as people write them, as sockets do, as the protocol does."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.udp import addresses
from backends.udp.addresses import AddressError, from_socket, look_up, own_address, parse, to_socket
from swimsim.terms import Address
from tests.udp.loopback import live, needs_ipv6

V4 = Address(bytes((127, 0, 0, 1)), 7946)
V6 = Address(bytes(15) + b"\1", 7946)
MAPPED = Address(bytes(10) + b"\xff\xff" + V4.host, 7946)

TEXTS = {
    "127.0.0.1": ("127.0.0.1", 7946),
    "127.0.0.1:0": ("127.0.0.1", 0),
    "127.0.0.1:65535": ("127.0.0.1", 65535),
    "127.0.0.1:": ("127.0.0.1", 7946),
    "127.0.0.1:00080": ("127.0.0.1", 80),
    "web-1.example": ("web-1.example", 7946),
    "web-1.example:80": ("web-1.example", 80),
    "::1": ("::1", 7946),
    "::": ("::", 7946),
    "[::1]": ("::1", 7946),
    "[::1]:": ("::1", 7946),
    "[::1]:80": ("::1", 80),
    "[::ffff:10.0.0.1]:80": ("::ffff:10.0.0.1", 80),
    "fe80::1%eth0": ("fe80::1%eth0", 7946),
    "[web-1]:80": ("web-1", 80),
}
NONSENSE = {
    "": "host is missing",
    ":80": "host is missing",
    "[]:80": "host is missing",
    "[::1": r"expected \[host\]:port",
    "[::1]80": r"expected \[host\]:port",
    "127.0.0.1:65536": "expected 0 to 65535",
    "127.0.0.1:-1": "expected 0 to 65535",
    "127.0.0.1:http": "expected 0 to 65535",
    "127.0.0.1:1.5": "expected 0 to 65535",
    "127.0.0.1:\N{ARABIC-INDIC DIGIT FIVE}": "expected 0 to 65535",
    "127.0.0.1:80:81": "no IPv6 address",
    "[1:2]:80": "no IPv6 address",
    "::1::1": "no IPv6 address",
}


@pytest.mark.parametrize(("text", "expected"), TEXTS.items(), ids=TEXTS)
def test_parse(text: str, expected: tuple[str, int]) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(("text", "complaint"), NONSENSE.items(), ids=map(repr, NONSENSE))
def test_nonsense_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(AddressError, match=complaint):
        parse(text)


@given(st.text())
def test_parse_knows_only_one_error(text: str) -> None:
    try:
        host, port = parse(text, 1)
    except AddressError:
        return
    assert host
    assert 0 <= port <= 65535


def test_the_default_port_is_the_callers() -> None:
    assert parse("10.0.0.1", 80) == ("10.0.0.1", 80)


@pytest.mark.parametrize("address", [V4, V6], ids=str)
def test_an_address_survives_the_way_to_a_socket_and_back(address: Address) -> None:
    where = to_socket(address)
    assert where is not None
    assert from_socket(*where) == address
    assert parse(str(address)) == where


def test_an_ipv4_address_sheds_its_ipv6_clothes() -> None:
    assert from_socket("::ffff:127.0.0.1", 7946) == V4
    assert to_socket(MAPPED) == ("127.0.0.1", 7946)
    assert from_socket("fe80::1%eth0", 1) == from_socket("fe80::1", 1)


@pytest.mark.parametrize(
    "address",
    [Address(b"", 1), Address(b"\x7f\0\0", 1), Address(bytes(17), 1), Address(V4.host, 0)],
)
def test_where_nobody_can_be_there_is_no_socket(address: Address) -> None:
    assert to_socket(address) is None


@live
async def test_numbers_are_looked_up_without_the_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_resolver(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", no_resolver)
    assert await look_up("127.0.0.1", 7946) == [V4]
    assert await look_up("::1", 7946) == [V6]
    assert await look_up("::ffff:127.0.0.1", 7946) == [V4]


@live
async def test_names_are_looked_up_ipv4_first(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolver(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        hosts = ("::1", "127.0.0.1", "::ffff:127.0.0.1", "127.0.0.1")
        return [(socket.AF_INET6, 1, 6, "", (each, port)) for each in hosts]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolver)
    assert await look_up("both.example", 7946) == [V4, V6]


@pytest.mark.parametrize(
    "host", ["nobody.invalid", "a..b", "x" * 64 + ".invalid", "nul\0", "é" * 80]
)
@live
async def test_what_is_no_name_is_an_oserror(host: str) -> None:
    with pytest.raises(OSError, match=r"."):
        await look_up(host, 1)


def test_the_own_address_is_one_that_this_machine_has() -> None:
    host = own_address("0.0.0.0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine:
        mine.bind((host, 0))


@needs_ipv6
def test_who_listens_on_all_of_ipv6_may_be_known_by_an_ipv4_address() -> None:
    host = own_address("::")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as mine:
        mine.bind((host, 0))


def test_without_a_route_it_is_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Alone(socket.socket):
        def connect(self, where: object) -> None:
            raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(addresses.socket, "socket", Alone)
    assert own_address("0.0.0.0") == "127.0.0.1"
    assert own_address("::") == "::1"
