"""Bytes and messages: the formats in which memberlist and Serf talk. Pure functions.

A backend reads and writes with five of them, and is ready for ``WireError`` whenever it reads::

    packet.encode(messages, envelope, crc=..., nonce=...)   what a datagram carries
    packet.decode(data, envelope)                           Packet(messages, refusals)
    stream.encode(message, envelope, first=..., nonce=...)  what one side of a stream writes
    stream.feed(stream.accepted(envelope), data)            the next decoder, and the message
    serf.decode_gossip(user.payload)                        what Serf said in a user message

=============  ========================================================================
module         what it knows
=============  ========================================================================
``packet``     compounds, CRC, and the nesting of all layers in a datagram
``stream``     push/pulls and the other messages on streams, and their framing
``messages``   memberlist's messages themselves
``serf``       Serf's messages, filters, tags and coordinates
``envelope``   label, compression, limits: what packets and streams have in common
``keyring``    AES-GCM and the keys
``lzw``        the compressor
``msgpack``    the dialect
=============  ========================================================================
"""

from swimsim.messages import size
from swimsim.wire import keyring, lzw, packet, serf, stream
from swimsim.wire.envelope import PLAIN, Envelope, Limits
from swimsim.wire.errors import What, WireError
from swimsim.wire.keyring import Keyring, KeyringError
from swimsim.wire.packet import Packet
from swimsim.wire.stream import ErrorReply, StreamMessage

__all__ = [
    "packet",
    "stream",
    "serf",
    "keyring",
    "lzw",
    "Envelope",
    "Limits",
    "PLAIN",
    "Packet",
    "StreamMessage",
    "ErrorReply",
    "Keyring",
    "KeyringError",
    "WireError",
    "What",
    "size",
]
