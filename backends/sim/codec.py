"""Messages through the real codec and back, for clusters that are built with ``wire=True``.

A simulated packet carries message objects, and its size follows from lengths alone. Here it is
written as bytes and read again, so that the objects that arrive are those that a real peer would
have got; on the way the computed size is held against the length of the bytes.
"""

from __future__ import annotations

from typing import TypeVar

from msgspec.structs import replace

from swimsim.config import Config
from swimsim.effects import Send
from swimsim.messages import Ack, Ping, PushPull, envelope, packet_size, size
from swimsim.wire import PLAIN, packet, stream

Said = TypeVar("Said", Ping | PushPull, Ack | PushPull)


def through_wire(send: Send, config: Config) -> Send:
    """The same packet as its receiver reads it."""
    data = packet.encode(send.messages, PLAIN, crc=send.crc)
    wanted = packet_size(send.messages, send.crc, config) - envelope(config)
    if len(data) != wanted:
        raise AssertionError(f"a packet of {len(data)} bytes was taken for {wanted}: {send}")
    read = packet.decode(data, PLAIN)
    if read.refusals:
        raise AssertionError(f"the codec refused its own packet: {read.refusals}")
    return replace(send, messages=read.messages)


def over_stream(said: Said) -> Said:
    """The same request or reply as the other side reads it."""
    data = stream.encode(said, PLAIN, first=True)
    if len(data) != size(said):
        raise AssertionError(f"a message of {len(data)} bytes was taken for {size(said)}")
    read = stream.decode(data, PLAIN, first=True)
    assert isinstance(read, type(said))
    return read
