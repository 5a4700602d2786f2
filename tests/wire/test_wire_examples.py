"""The specifications' worked examples: memberlist.md section 13, serf.md section 8."""

from __future__ import annotations

from zlib import crc32

import pytest

from swimsim.member import ALIVE, Member, peer
from swimsim.messages import (
    Ack,
    Alive,
    Dead,
    IndirectPing,
    Message,
    Nack,
    Ping,
    PushPull,
    Suspect,
    User,
)
from swimsim.serf import messages as said
from swimsim.terms import U32, Address, NodeId
from swimsim.wire import Envelope, ErrorReply, Packet, keyring, lzw, packet, serf, stream
from swimsim.wire import messages as single
from swimsim.wire.envelope import PLAIN, compressed

LOOPBACK = b"\x7f\0\0\1"
N1, N2, N3 = (NodeId(name) for name in ("n1", "n2", "n3"))
HERE = Address(LOOPBACK, 7946)
VSN = bytes((1, 5, 2, 2, 5, 4))
PING = Ping(1, N2, HERE, N1)
SUSPECT = Suspect(3, N2, N1)


def wire(text: str) -> bytes:
    """Hex with spaces, and texts in double quotes."""
    parts = text.split('"')
    return b"".join(
        part.encode() if index % 2 else bytes.fromhex(part.replace("|", ""))
        for index, part in enumerate(parts)
    )


MESSAGES: dict[str, tuple[Message, str]] = {
    "13.1": (
        PING,
        '00 85 a4"Node"a2"n2" a5"SeqNo"01 aa"SourceAddr"a4 7f000001 aa"SourceNode"a2"n1"'
        ' aa"SourcePort"cd1f0a',
    ),
    "13.1, without source": (
        Ping(300, N2, Address(b"", 0), NodeId("")),
        "0082a44e6f6465a26e32a55365714e6fcd012c",
    ),
    "13.2": (
        IndirectPing(70_000, N3, Address(LOOPBACK, 7947), True, HERE, N1),
        "01 88 a44e61636b c3 a44e6f6465 a26e33 a4506f7274 cd1f0b a55365714e6f ce00011170"
        " aa536f7572636541646472 a47f000001 aa536f757263654e6f6465 a26e31"
        " aa536f75726365506f7274 cd1f0a a6546172676574 a47f000001",
    ),
    "13.3, ack": (Ack(1), "02 82 a75061796c6f6164 c0 a55365714e6f 01"),
    "13.3, ack of 40": (
        Ack(128, bytes(40)),
        "02 82 a75061796c6f6164 da0028" + "00" * 40 + "a55365714e6f cc80",
    ),
    "13.3, nack": (Nack(U32), "0b 81 a55365714e6f ceffffffff"),
    "13.4, alive": (
        Alive(1, peer(N1, HERE, b"", VSN)),
        "04 86 a441646472 a47f000001 ab496e6361726e6174696f6e 01 a44d657461 c0"
        " a44e6f6465 a26e31 a4506f7274 cd1f0a a356736e a6010502020504",
    ),
    "13.4, suspect": (
        SUSPECT,
        "03 83 a446726f6d a26e31 ab496e6361726e6174696f6e 03 a44e6f6465 a26e32",
    ),
    "13.4, leave": (
        Dead(3, N2, N2),
        "05 83 a446726f6d a26e32 ab496e6361726e6174696f6e 03 a44e6f6465 a26e32",
    ),
}


@pytest.mark.parametrize(("message", "text"), MESSAGES.values(), ids=MESSAGES)
def test_a_message(message: Message, text: str) -> None:
    assert single.encode(message) == wire(text)
    assert packet.encode([message], PLAIN) == wire(text)
    assert packet.decode(wire(text), PLAIN) == Packet((message,))


def test_an_empty_payload_that_is_not_nil_is_read_too() -> None:
    empty = wire("02 82 a75061796c6f6164 a0 a55365714e6f 01")
    assert packet.decode(empty, PLAIN) == Packet((Ack(1),))


def test_13_3_an_error() -> None:
    boom = wire("0d 81 a54572726f72 a4626f6f6d")
    assert stream.encode(ErrorReply("boom"), PLAIN, first=False) == boom
    assert stream.decode(boom, PLAIN, first=False) == ErrorReply("boom")


CRC = wire(
    "0c3f6558680702003d001f0085a44e6f6465a26e32a55365714e6f01aa536f7572636541646472a47f000001"
    "aa536f757263654e6f6465a26e31aa536f75726365506f7274cd1f0a0383a446726f6da26e31"
    "ab496e6361726e6174696f6e03a44e6f6465a26e32"
)


def test_13_5_a_suspect_is_pinged_and_told() -> None:
    assert packet.encode([PING, SUSPECT], PLAIN, crc=True) == CRC
    assert packet.decode(CRC, PLAIN) == Packet((PING, SUSPECT))


def test_13_6_a_compressed_user_message() -> None:
    packed = wire("09 82 a4416c676f 00 a3427566 ae 0011041948b0a0c1830813160c08")
    said = User(b"A" * 40)
    assert packet.encode([said], Envelope()) == packed
    assert packet.decode(packed, Envelope()) == Packet((said,))


def test_13_7_a_push_pull() -> None:
    written = wire(
        '06 | 83 a4"Join"c3 a5"Nodes"01 ac"UserStateLen"02 | 87 a4"Addr"a4 7f000001'
        ' ab"Incarnation"01 a4"Meta"c0 a4"Name"a2"n1" a4"Port"cd1f0a a5"State"00'
        ' a3"Vsn"a6 010502020504 | 5553'
    )
    said = PushPull(True, (Member(peer(N1, HERE, b"", VSN), 1, ALIVE),), b"US")
    assert stream.encode(said, PLAIN, first=True) == written
    assert stream.decode(written, PLAIN, first=True) == said


HEADERS = {  # 200 nodes and 70,000 bytes, as the old and as the new codec write them
    "old": "06 83 a44a6f696e c2 a54e6f646573 cc c8 ac5573657253746174654c656e ce 00011170",
    "new": "06 83 a44a6f696e c2 a54e6f646573 d1 00c8 ac5573657253746174654c656e d2 00011170",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_13_7_numbers_with_a_sign(header: str) -> None:
    states = tuple(
        Member(peer(NodeId(f"n{index}"), HERE, b"", VSN), 1, ALIVE) for index in range(200)
    )
    said = PushPull(False, states, bytes(70_000))
    written = stream.encode(said, PLAIN, first=True)
    assert written.startswith(wire(HEADERS["old"]))
    body = written[len(wire(HEADERS["old"])) :]
    assert stream.decode(wire(header) + body, PLAIN, first=True) == said


def test_13_7_a_user_message() -> None:
    hello = wire("08 81 aa557365724d73674c656e 05 68656c6c6f")
    assert stream.encode(User(b"hello"), PLAIN, first=True) == hello
    assert stream.decode(hello, PLAIN, first=True) == User(b"hello")


RING = keyring.keyring([bytes(range(16))])
NONCE = bytes(range(0xA0, 0xAC))
SEALED = {  # whether a stream, version, label, bytes
    "packet, version 1": (
        False, 1, b"",
        "01 a0a1a2a3a4a5a6a7a8a9aaab a1079de81bf87d658d 1f437aab2bf3c92d7daf2243de6901d1",
    ),
    "packet, version 0": (
        False, 0, b"",
        "00 a0a1a2a3a4a5a6a7a8a9aaab a1079de81bf87d658d7fb2074115b767"
        " f57419c43012e8d4caa53973771832cf",
    ),
    "packet, label": (
        False, 1, b"lbl",
        "f4 03 6c626c 01 a0a1a2a3a4a5a6a7a8a9aaab a1079de81bf87d658d"
        " d4ca07691a81c4b0751084000f05bb23",
    ),
    "stream, version 1": (
        True, 1, b"",
        "0a 00000026 01 a0a1a2a3a4a5a6a7a8a9aaab a1079de81bf87d658d"
        " f07dd6971f7b2dfda7aef1a2feb9ea2c",
    ),
    "stream, version 0": (
        True, 0, b"",
        "0a 0000002d 00 a0a1a2a3a4a5a6a7a8a9aaab a1079de81bf87d658d7fb2074115b767"
        " 8b2025876013d468cebb2c0f7ca4c522",
    ),
    "stream, label": (
        True, 1, b"lbl",
        "f4 03 6c626c 0a 00000026 01 a0a1a2a3a4a5a6a7a8a9aaab a1079de81bf87d658d"
        " 8c4a3f94414a6101fd1d15b6fee1f8d5",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("streamed", "version", "label", "text"), SEALED.values(), ids=SEALED)
def test_13_8_encryption(streamed: bool, version: keyring.Version, label: bytes, text: str) -> None:
    envelope = Envelope(label=label, keyring=RING, encryption_version=version, compress=False)
    if not streamed:
        assert packet.encode([Nack(7)], envelope, nonce=NONCE) == wire(text)
        assert packet.decode(wire(text), envelope) == Packet((Nack(7),))
        return
    header = 2 + len(label) if label else 0  # a nack has no business on a stream: its layers only
    frame = wire(text)[header : header + 5]
    plain = single.encode(Nack(7))
    assert keyring.sealed_size(len(plain), version) == int.from_bytes(frame[1:], "big")
    block = keyring.seal(RING, plain, NONCE, frame + label, version)
    assert block == wire(text)[header + 5 :]
    assert keyring.unseal(RING, block, frame + label) == plain


LZW = {
    b"": "000302",
    b"a": "00c30404",
    b"aa": "00c3840908",
    b"aaaaaa": "00c3081c1810",
    b"abababab": "00c3881148504c40",
    b"TOBEORNOTTOBEORTOBEORNOT": "00a93c1152e48914274fa80824687061c183090302",
}


@pytest.mark.parametrize(("plain", "packed"), LZW.items())
def test_13_9_lzw(plain: bytes, packed: str) -> None:
    assert lzw.compress(plain) == bytes.fromhex(packed)
    assert lzw.decompress(bytes.fromhex(packed), len(plain)) == plain


BOUNDARIES = [  # bytes, their mask, CRC of the input, length and CRC of the output
    (254, 255, 0xC3968B88, 288, 0x87B85095), (1790, 255, 0xABE57929, 2305, 0x235D623D),
    (255, 255, 0xF5C338AC, 290, 0xF446318F), (1791, 255, 0xE1AA1711, 2306, 0x230182AE),
    (256, 255, 0x8144BF85, 291, 0xB20B6EDC), (1792, 255, 0x215A34D2, 2308, 0xAC028677),
    (257, 255, 0x7952966B, 292, 0x8C987BAB), (3837, 255, 0x41C25939, 5261, 0xB15F7A04),
    (766, 255, 0x7DA9D937, 922, 0xF3411740), (3838, 255, 0x12F94179, 5261, 0x2D15ED26),
    (767, 255, 0x14739FE6, 922, 0xC95266D0), (3839, 255, 0xA87A4C64, 5263, 0xD5F13F30),
    (768, 255, 0xF0148AAB, 923, 0xF92E24CE), (3840, 255, 0xAE767A76, 5264, 0x6F4DAFEB),
    (5000, 255, 0x635666A9, 6729, 0xF37E05C4), (100_000, 255, 0xDD0D690D, 136_869, 0xBFF31CB8),
    (5000, 3, 0xDDB087E0, 1617, 0xDAA86EFB), (100_000, 3, 0x75BB59A7, 29_858, 0x84195319),
]  # fmt: skip


def generated(count: int, mask: int) -> bytes:
    made, x = bytearray(), 1
    for _ in range(count):
        x = (x * 1_103_515_245 + 12_345) % (1 << 31)
        made.append(x >> 16 & mask)
    return bytes(made)


@pytest.mark.parametrize(("count", "mask", "plain_crc", "size", "crc"), BOUNDARIES)
def test_13_9_lzw_boundaries(count: int, mask: int, plain_crc: int, size: int, crc: int) -> None:
    plain = generated(count, mask)
    assert crc32(plain) == plain_crc
    packed = lzw.compress(plain)
    assert (len(packed), crc32(packed)) == (size, crc)
    assert lzw.decompress(packed, count) == plain


def test_13_11_an_ack_with_something_on_its_back() -> None:
    ack, alive = Ack(1, b"pay"), Alive(1, peer(N1, HERE, b"6bytes", VSN))
    written = packet.encode([ack, alive], PLAIN)
    assert written.startswith(
        wire('07 02 0015 0040 | 02 82 a7"Payload"a3"pay" a5"SeqNo"01 | 04 86')
    )
    assert packet.decode(written, PLAIN) == Packet((ack, alive))


# --- Serf -------------------------------------------------------------------------------------

C1, C2, C3 = (NodeId(name) for name in ("c1", "c2", "c3"))
ACK = said.QueryResponse(1, 0x47031188, C1, said.ACK_FLAG)
SERF: dict[str, tuple[said.SerfMessage, str]] = {
    "W1": (said.JoinIntent(2, C3), "01 82 a5 4c54696d65 02 a4 4e6f6465 a2 6333"),
    "W2": (
        said.LeaveIntent(3, C2),
        "00 83 a5 4c54696d65 03 a4 4e6f6465 a2 6332 a5 5072756e65 c2",
    ),
    "W3": (
        said.UserEvent(1, "deploy", b"v1", coalesce=True),
        "03 84 a2 4343 c3 a5 4c54696d65 01 a4 4e616d65 a6 6465706c6f79 a7 5061796c6f6164 a2 7631",
    ),
    "W4": (
        said.Query(
            1, 0x47031188, Address(LOOPBACK, 0x45F7), C1, "load", 1_000_000_000, b"now",
            (wire("0091a26331"), wire("0182a445787072a3776562a3546167a4726f6c65")),
            said.ACK_FLAG, 1,
        ),
        "04 8b a441646472 a47f000001  a746696c74657273 92 a5 0091a26331"
        " b4 0182a445787072a3776562a3546167a4726f6c65 a5466c616773 01  a24944 ce47031188"
        "  a54c54696d65 01  a44e616d65 a46c6f6164  a75061796c6f6164 a36e6f77"
        " a4506f7274 cd45f7  ab52656c6179466163746f72 01  aa536f757263654e6f6465 a26331"
        "  a754696d656f7574 ce3b9aca00",
    ),
    "W5": (
        ACK,
        "05 85 a5466c616773 01 a446726f6d a26331 a24944 ce47031188 a54c54696d65 01"
        " a75061796c6f6164 c0",
    ),
    "W6": (
        said.Relay(Address(LOOPBACK, 0x45F7), C1, serf.encode(ACK)),
        "09 82 a84465737441646472 83 a24950 a47f000001 a4506f7274 cd45f7 a45a6f6e65 a0"
        "  a8446573744e616d65 a26331 05 85 a5466c616773 01 a446726f6d a26331 a24944 ce47031188"
        " a54c54696d65 01 a75061796c6f6164 c0",
    ),
    "W7": (
        said.SerfState(1, 1, 1, ((C2, 0),)),
        "02 86 aa4576656e744c54696d65 01 a64576656e7473 dc0200 " + "c0" * 512 +
        " a54c54696d65 01 ab4c6566744d656d62657273 90 aa51756572794c54696d65 01"
        " ac5374617475734c54696d6573 81 a26332 00",
    ),
    "W10, request": (
        said.KeyRequest(wire("720f12b555db409d203ef31df68ef2ae")),
        "07 81 a34b6579 b0 720f12b555db409d203ef31df68ef2ae",
    ),
    "W10, response": (
        said.KeyResponse(False, "No keyring to modify (encryption not enabled)"),
        "08 84 a44b657973 c0 a74d657373616765 da002d 4e6f206b657972696e6720746f206d6f64696679202865"
        "6e6372797074696f6e206e6f7420656e61626c656429 aa5072696d6172794b6579 a0 a6526573756c74 c2",
    ),
    "W9": (
        said.ConflictResponse(
            said.MemberInfo(
                NodeId("i1"), Address(LOOPBACK, 17_851), bytes((1, 5, 2, 2, 5, 5)),
                said.STATUS_ALIVE, (("role", "web"),),
            )
        ),
        "06 8b a441646472 a47f000001 ab44656c6567617465437572 05 ab44656c65676174654d6178 05"
        " ab44656c65676174654d696e 02 a44e616d65 a26931 a4506f7274 cd45bb ab50726f746f636f6c437572"
        " 02 ab50726f746f636f6c4d6178 05 ab50726f746f636f6c4d696e 01 a6537461747573 01 a454616773"
        " 81 a4726f6c65 a3776562",
    ),
    "1.4, list keys": (said.KeyRequest(b""), "07 81 a3 4b6579 a0"),
    "2.14, nobody": (said.ConflictResponse(None), "06 c0"),
}  # fmt: skip


@pytest.mark.parametrize(("message", "text"), SERF.values(), ids=SERF)
def test_a_serf_message(message: said.SerfMessage, text: str) -> None:
    assert serf.encode(message) == wire(text)
    assert serf.decode(wire(text)) == message


def test_w7_with_content() -> None:
    events = wire(
        "a64576656e7473 92 c0 82 a64576656e7473 91 82 a44e616d65 a66465706c6f79"
        " a75061796c6f6164 a27631 a54c54696d65 03"
    )
    slot = said.EventSlot(3, (said.PastEvent("deploy", b"v1"),))
    state = said.SerfState(1, 4, 1, events=said.EventBuffer(2, ((1, slot),)))
    assert events in serf.encode(state)
    assert serf.decode(serf.encode(state)) == state


def test_w8_a_coordinate() -> None:
    payload = wire(
        "01 84 aa41646a7573746d656e74 cb0000000000000000 a54572726f72 cb3ff8000000000000"
        " a6486569676874 cb3ee4f8b588e368f1 a3566563 98" + " cb0000000000000000" * 8
    )
    fresh = said.Coordinate((0.0,) * 8, 1.5, 0.0, 1e-5)
    assert len(payload) == 130
    assert serf.encode_coordinate(fresh) == payload
    assert serf.decode_coordinate(payload) == fresh


TAGS = {  # section 1.6: tags, protocol version, Meta
    "one": ({"role": "web"}, 5, "ff 81 a4 726f6c65 a3 776562"),
    "none": ({}, 5, "ff 80"),
    "old": ({"role": "web", "dc": "east"}, 2, "776562"),
    "old, none": ({}, 2, ""),
}


@pytest.mark.parametrize(("tags", "protocol", "meta"), TAGS.values(), ids=TAGS)
def test_tags(tags: dict[str, str], protocol: int, meta: str) -> None:
    assert serf.encode_tags(tags, protocol) == wire(meta)
    wanted = tags if protocol == 5 else {"role": tags.get("role", "")}
    assert serf.decode_tags(wire(meta)) == (wanted, None)


def test_a_map_that_was_never_made_has_no_tags() -> None:
    assert serf.decode_tags(b"\xff\xc0") == ({}, None)


SIGNED = {"old": "ce bebc2000", "new": "d3 00000000bebc2000"}  # 3.2 s, section 1.2


@pytest.mark.parametrize("timeout", SIGNED.values(), ids=SIGNED)
def test_a_timeout_of_either_codec(timeout: str) -> None:
    query = said.Query(1, 1, HERE, C1, "load", 3_200_000_000)
    written = serf.encode(query)
    assert written.endswith(wire('a7"Timeout"ce bebc2000'))
    assert serf.decode(written[:-5] + wire(timeout)) == query


def test_a_compressed_message_is_what_13_12_begins_with() -> None:
    """Spec memberlist.md 13.12: a labelled, encrypted, compressed join."""
    said = PushPull(True, (Member(peer(N1, HERE, b"", VSN), 1, ALIVE),))
    envelope = Envelope(label=b"lbl", keyring=RING)
    written = stream.encode(said, envelope, first=True, nonce=NONCE)
    assert written.startswith(wire("f4 03 6c626c 0a"))
    plain = compressed(stream.encode(said, PLAIN, first=False))
    assert plain.startswith(wire('09 82 a4"Algo"00 a3"Buf"'))
    frame, block = written[5:10], written[10:]
    assert keyring.unseal(RING, block, frame + b"lbl") == plain
    assert int.from_bytes(frame[1:], "big") == len(block)
    assert stream.decode(written, envelope, first=True) == said
