"""The worked examples of RPC, byte for byte (spec serf.md, section 8, W11 and W12)."""

from __future__ import annotations

from backends.agent.rpc.records import answer_record, event_record
from backends.agent.rpc.wire import BODIES, HEADER, encode
from backends.agent.surface import Answer, MemberEvent
from swimsim.wire.msgpack import read
from tests.agent.stand_in import info

ACCEPTED = "82a54572726f72a0a353657118"


def test_w11_requests_are_read() -> None:
    hello = bytes.fromhex("82a7436f6d6d616e64a968616e647368616b65a353657100")
    assert read(HEADER, hello) == (["handshake", 0], len(hello))
    query = bytes.fromhex(
        "84a44e616d65a46c6f6164a75061796c6f6164c40170"
        "aa5265717565737441636bc3a754696d656f7574ce23c34600"
    )
    fields, _ = read(BODIES["query"], query)  # type: ignore[arg-type]
    assert fields == [(), (), True, 0, 600_000_000, "load", b"p"]


def test_w11_answers_are_written() -> None:
    header = {"Error": "", "Seq": 24}
    records = (Answer("n1", None, True), Answer("n5", b"out load\nerr\n", False), None)
    assert encode(header).hex() == ACCEPTED
    written = [encode(header, answer_record(each)).hex() for each in records]
    assert [each.removeprefix(ACCEPTED) for each in written] == [
        "83a446726f6da26e31a75061796c6f6164c0a454797065a361636b",
        "83a446726f6da26e35a75061796c6f6164c40d6f7574206c6f61640a6572720a"
        "a454797065a8726573706f6e7365",
        "83a446726f6da0a75061796c6f6164c0a454797065a4646f6e65",
    ]


def test_w12_a_member_joined() -> None:
    record = event_record(MemberEvent("member-join", (info("h2", port=0x458C),)), 0)
    assert encode({"Error": "", "Seq": 50}, record).hex() == (
        "82a54572726f72a0a353657132"
        "82a54576656e74ab6d656d6265722d6a6f696ea74d656d62657273918b"
        "a441646472c4047f000001"
        "ab44656c656761746543757205ab44656c65676174654d617805ab44656c65676174654d696e02"
        "a44e616d65a26832a4506f7274cd458c"
        "ab50726f746f636f6c43757202ab50726f746f636f6c4d617805ab50726f746f636f6c4d696e01"
        "a6537461747573a5616c697665a45461677380"
    )
