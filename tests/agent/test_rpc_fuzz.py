"""Whatever a client sends, the server answers or hangs up, and serves the next one.

Hypothesis prints the bytes of a failure; the same ones are tried in every run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.agent.rpc.client import Client
from backends.agent.rpc.server import Server
from backends.agent.rpc.wire import BODIES, MAX_REQUEST, Values, decode, encode
from swimsim.wire.errors import WireError
from tests.agent.stand_in import StandIn, conversations
from tests.agent.test_rpc_session import SHAKE

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(["Name", "Payload", "Type", "Seq", "Tags", "Existing", "ID", "Key", "X"])
BODY = st.dictionaries(NAMES, VALUES, max_size=4) | VALUES
REQUESTS = st.tuples(st.sampled_from(sorted(BODIES.keys() - {"leave"})), BODY).map(
    lambda request: encode({"Command": request[0], "Seq": 3}, request[1])
)
RECORDED = [bytes.fromhex(vector["hex"]) for vector in conversations().values()]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A recorded conversation with a few bytes changed, added or gone."""
    data = bytearray(draw(st.sampled_from(RECORDED)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(
    start=st.sampled_from([b"", encode(*SHAKE)]),
    data=st.binary(max_size=64) | st.lists(REQUESTS, max_size=4).map(b"".join) | damaged(),
)
def test_no_bytes_stop_the_server(runner: asyncio.Runner, start: bytes, data: bytes) -> None:
    runner.run(converse(start + data))


async def converse(data: bytes) -> None:
    agent = StandIn()
    server = Server(agent)
    await server.start("127.0.0.1:0")
    host, port = server.address.split(":")
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(data)
    writer.write_eof()
    try:
        async with asyncio.timeout(20):
            await reader.read(-1)
    except ConnectionError:
        pass
    writer.close()
    async with Client(server.address) as client:
        assert await client.stats() == {}
    await server.stop()
    assert [text for text in agent.logged if "Error: " in text] == []  # no exception of ours
    assert all(feed.is_closed for feed in agent.feeds)


@given(st.lists(VALUES, max_size=5), st.data())
def test_values_are_found_however_they_are_cut(values: list[object], data: st.DataObject) -> None:
    written = b"".join(map(encode, values))
    found, stream = [], Values(MAX_REQUEST)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(written)), max_size=6)))
    for start, stop in zip([0, *cuts], [*cuts, len(written)], strict=True):
        stream.feed(written[start:stop])
        while (value := stream.take()) is not None:
            found.append(decode(value))
    assert found == values


@given(st.binary(max_size=200))
def test_any_bytes_are_values_or_refused(data: bytes) -> None:
    stream = Values(64)
    stream.feed(data)
    try:
        while (value := stream.take()) is not None:
            assert len(value) <= 64
            decode(value)
    except WireError:
        pass
