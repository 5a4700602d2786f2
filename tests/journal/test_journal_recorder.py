"""Files: rotation, disks that are slow or full, and what is left of a process that ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from backends import recorder as recorder_
from backends.recorder import Recorder
from swimsim import journal
from swimsim import node as protocol
from swimsim.inputs import Input, Leave, Received
from swimsim.journal import Cut, End, Gap, Happened, Header, Raised, Snapshot, replay
from swimsim.node import Node
from swimsim.terms import SECOND, Micros
from tests.builders import at, settled
from tests.journal.journals import Witness, data_of, read, read_all
from tests.journal.test_journal_format import lived

DEEDS = [("run", 3 * SECOND), ("kill", "B"), ("run", 30 * SECOND), ("restart", "B", "C"),
         ("run", 60 * SECOND)]  # fmt: skip


@pytest.fixture(scope="module")
def life() -> tuple[Node, list[tuple[Micros, Input]]]:
    """A node, and what happens to it."""
    witness = lived(DEEDS)
    inputs = [(each.now, each.input) for each in witness.records if isinstance(each, Happened)]
    assert len(inputs) > 400
    return witness.nodes[0], inputs


Life = tuple[Node, list[tuple[Micros, Input]]]


def lead(recorder: Recorder, life: Life, begin: int = 0, end: int | None = None) -> None:
    """Let a recorder see that life, or a part of it."""
    node, inputs = life
    for now, input in inputs[:begin]:
        node, _ = protocol.step(node, now, input)
    for now, input in inputs[begin:end]:
        node, _ = recorder.step(node, now, input)


def pieces(path: Path) -> list[Path]:
    """A journal's files, the oldest first."""
    return sorted(path.parent.glob(f"{path.name}*"), key=lambda each: each.suffix, reverse=True)


def check(*paths: Path) -> list[Any]:
    """The records of these files, which replay without a difference."""
    records = read_all(*paths)
    assert [step for step in replay(records) if not step.agrees] == []
    return records


def gaps(records: list[Any]) -> list[Gap]:
    return [record for record in records if isinstance(record, Gap)]


def settle(recorder: Recorder) -> None:
    """Wait until nothing waits."""
    _until(lambda: not recorder._waiting())


def until_it_fails(recorder: Recorder) -> None:
    """Wait until the disk has refused, and the writer knows why."""
    _until(lambda: recorder._trouble != "")


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# --- content -----------------------------------------------------------------------------


@pytest.mark.parametrize("patient", [True, False])
def test_a_file_holds_what_happened(life: Life, tmp_path: Path, patient: bool) -> None:
    with Recorder(tmp_path / "j", began="monday", patient=patient, checkpoint=100) as recorder:
        lead(recorder, life)
    records = check(tmp_path / "j")
    assert records[0] == Header("0.1.0", "monday", 0)
    assert isinstance(records[1], Snapshot)
    assert records[1].node == life[0]
    happened = [(each.now, each.input) for each in records if isinstance(each, Happened)]
    assert happened == life[1]
    assert sum(isinstance(each, journal.Checkpoint) for each in records) == len(life[1]) // 100
    assert isinstance(records[-1], End)
    assert (recorder.inputs, recorder.lost, recorder.failure) == (len(life[1]), 0, "")
    assert recorder.close()


def test_with_and_without_a_thread_the_file_is_the_same(life: Life, tmp_path: Path) -> None:
    for name, patient in (("a", True), ("b", False)):
        with Recorder(tmp_path / name, patient=patient, size=9_000, keep=99) as recorder:
            lead(recorder, life)
    ones, others = pieces(tmp_path / "a"), pieces(tmp_path / "b")
    assert len(ones) == len(others) > 3
    for one, other in zip(ones, others, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_file_is_what_the_format_says(life: Life, tmp_path: Path) -> None:
    node, inputs = life
    with Recorder(tmp_path / "j", patient=True) as recorder:
        lead(recorder, (node, inputs[:100]))
    witness = Witness("A")
    for now, input in inputs[:100]:
        after, effects = protocol.step(node, now, input)
        witness.see(node, now, input, after, effects)
        node = after
    records = [Header("0.1.0"), *witness.end()[1:]]
    assert (tmp_path / "j").read_bytes() == data_of(records)


def test_what_step_raises_is_recorded_and_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = protocol.step

    def fails(node: Node, now: int, input: Input) -> Any:
        return 1 / 0 if isinstance(input, Leave) else original(node, now, input)

    monkeypatch.setattr(protocol, "step", fails)
    node = settled()
    with Recorder(tmp_path / "j") as recorder:
        node, _ = recorder.step(node, 1, Received(at("B"), ()))
        with pytest.raises(ZeroDivisionError):
            recorder.step(node, 2, Leave(5))
        recorder.step(node, 3, Received(at("B"), ()))
    records = check(tmp_path / "j")
    assert Raised(2, Leave(5), "ZeroDivisionError: division by zero") in records


def test_another_node_begins_another_life(tmp_path: Path) -> None:
    one, other = settled(), settled(seed=2)
    with Recorder(tmp_path / "j") as recorder:
        recorder.step(one, 1, Received(at("B"), ()))
        recorder.step(other, 2, Received(at("B"), ()))
        recorder.step(protocol.with_table(other, other.members), 3, Received(at("B"), ()))
    snapshots = [each for each in check(tmp_path / "j") if isinstance(each, Snapshot)]
    assert [each.why for each in snapshots] == [journal.START, journal.LIFE]
    assert [each.number for each in snapshots] == [0, 1]
    assert snapshots[1].node == other


def test_after_the_end_it_is_step_and_nothing_more(life: Life, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "j", patient=True)
    lead(recorder, life, 0, 50)
    assert recorder.close()
    before = (tmp_path / "j").read_bytes()
    lead(recorder, life, 50, 99)
    assert recorder.close()
    assert (tmp_path / "j").read_bytes() == before


def test_a_recorder_that_saw_nothing_leaves_a_file_that_says_so(tmp_path: Path) -> None:
    Recorder(tmp_path / "j").close()
    assert read_all(tmp_path / "j") == [Header("0.1.0")]


@pytest.mark.parametrize("limit", ["buffer", "size", "keep", "checkpoint"])
def test_limits_are_at_least_one(limit: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{limit} is 0, expected at least 1"):
        Recorder(tmp_path / "j", **{limit: 0})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Recorder(tmp_path / "none" / "j")


# --- rotation ----------------------------------------------------------------------------


def test_files_rotate_and_the_newest_are_kept(life: Life, tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Recorder(path, patient=True, size=6_000, keep=3) as recorder:
        lead(recorder, life)
    found = pieces(path)
    assert [each.name for each in found] == ["j.2", "j.1", "j"]
    for each in found:
        records = check(each)  # each alone
        assert isinstance(records[1], Snapshot)
        assert isinstance(records[-1], End)
        assert records[-1].continued == (each != path)
        assert 6_000 < each.stat().st_size + 3_000 < 15_000
    numbers = [step.number for step in replay(check(*found))]
    assert numbers == list(range(numbers[0], len(life[1]) + 1))
    steps = list(replay(read_all(*found)))
    assert [step.resumed for step in steps if step.resumed] == [journal.ROTATION]
    headers = [record.piece for record in read_all(*found) if isinstance(record, Header)]
    assert headers == list(range(headers[0], headers[0] + 3))


def test_what_an_earlier_process_left_is_put_aside(life: Life, tmp_path: Path) -> None:
    path = tmp_path / "j"
    for run in range(4):
        with Recorder(path, began=f"run {run}", keep=3) as recorder:
            lead(recorder, life, run * 10, run * 10 + 10)
    began = [read_all(each)[0].began for each in pieces(path)]
    assert began == ["run 1", "run 2", "run 3"]


def test_one_file_alone_may_be_kept(life: Life, tmp_path: Path) -> None:
    with Recorder(tmp_path / "j", patient=True, size=6_000, keep=1) as recorder:
        lead(recorder, life)
    assert pieces(tmp_path / "j") == [tmp_path / "j"]
    check(tmp_path / "j")


# --- disks that are slow, or full --------------------------------------------------------


class Disk(FileIO):
    """A file that writes only while ``flows`` is set, and fails while ``failing`` is."""

    flows = threading.Event()
    failing: BaseException | None = None

    def write(self, data: Any) -> int:
        assert Disk.flows.wait(20)
        failing = Disk.failing  # once: the test may set it meanwhile
        if failing is not None:
            super().write(bytes(data)[: len(data) // 2])
            raise failing
        return super().write(bytes(data)[:100_000])  # as a system may, not all at once


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Disk]]:
    monkeypatch.setattr(recorder_, "FileIO", Disk)
    monkeypatch.setattr(recorder_, "RETRY", 0.01)
    monkeypatch.setattr(recorder_, "GATHER", 0.005)
    Disk.flows.set()
    Disk.failing = None
    yield Disk
    Disk.failing = None
    Disk.flows.set()


def test_a_disk_that_stands_still_costs_inputs_and_no_time(
    life: Life, tmp_path: Path, disk: type[Disk]
) -> None:
    recorder = Recorder(tmp_path / "j", buffer=20_000)
    lead(recorder, life, 0, 20)
    settle(recorder)
    disk.flows.clear()
    began = time.monotonic()
    lead(recorder, life, 20, 400)
    assert time.monotonic() - began < 5
    assert recorder.lost > 100
    assert recorder._waiting() <= 20_000
    disk.flows.set()
    settle(recorder)
    lead(recorder, life, 400)
    assert recorder.close()
    records = check(tmp_path / "j")
    (gap,) = gaps(records)
    assert gap.lost == recorder.lost
    assert gap.why == "the disk was too slow"
    numbers = [step.number for step in replay(records)]
    assert len(numbers) + gap.lost == len(life[1]) == numbers[-1]
    resumed = [step for step in replay(records) if step.resumed]
    assert [step.number for step in resumed] == [1, 401]
    assert resumed[1].resumed == f"{gap.lost} inputs are missing, the disk was too slow"
    assert (gap.until, life[1][399][0]) == (life[1][399][0], gap.until)


def test_room_for_half_the_buffer_is_waited_for(
    life: Life, tmp_path: Path, disk: type[Disk]
) -> None:
    """Or gaps and snapshots would follow each other without end."""
    recorder = Recorder(tmp_path / "j", buffer=8_000)
    disk.flows.clear()
    lead(recorder, life, 0, 300)
    disk.flows.set()
    recorder.close()
    assert len(gaps(check(tmp_path / "j"))) == 1


def test_a_gap_lasts_to_the_end_of_a_journal_that_is_closed(
    life: Life, tmp_path: Path, disk: type[Disk]
) -> None:
    recorder = Recorder(tmp_path / "j", buffer=8_000)
    disk.flows.clear()
    lead(recorder, life)
    threading.Timer(0.1, disk.flows.set).start()
    assert recorder.close()
    records = check(tmp_path / "j")
    assert isinstance(records[-2], Gap)
    assert isinstance(records[-1], End)
    assert records[-1].number == len(life[1])


def test_closing_waits_for_a_disk_but_not_for_ever(
    life: Life, tmp_path: Path, disk: type[Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_, "FAREWELL", 0.05)
    recorder = Recorder(tmp_path / "j")
    disk.flows.clear()
    lead(recorder, life, 0, 20)
    assert not recorder.close()
    disk.flows.set()
    recorder._writer.join(20)
    assert recorder.close()
    check(tmp_path / "j")


def test_a_full_disk_is_tried_again_and_half_records_are_cut_off(
    life: Life, tmp_path: Path, disk: type[Disk]
) -> None:
    recorder = Recorder(tmp_path / "j", size=15_000, keep=50)
    lead(recorder, life, 0, 20)
    settle(recorder)
    disk.failing = OSError(28, "No space left on device")
    lead(recorder, life, 20, 300)
    until_it_fails(recorder)
    assert recorder.failure == "OSError: [Errno 28] No space left on device"
    assert isinstance(read((tmp_path / "j").read_bytes())[-1], Happened | Snapshot)
    assert len(pieces(tmp_path / "j")) == 1
    disk.failing = None
    lead(recorder, life, 300)
    assert recorder.close()
    records = check(*pieces(tmp_path / "j"))
    assert gaps(records) == []
    assert len(pieces(tmp_path / "j")) > 2
    assert recorder.lost == 0


def test_a_disk_that_stays_full_is_the_reason_of_the_gap(
    life: Life, tmp_path: Path, disk: type[Disk]
) -> None:
    recorder = Recorder(tmp_path / "j", buffer=8_000)
    lead(recorder, life, 0, 20)
    settle(recorder)
    disk.failing = OSError(28, "No space left on device")
    lead(recorder, life, 20, 40)
    until_it_fails(recorder)
    lead(recorder, life, 40, 300)
    disk.failing = None
    settle(recorder)
    lead(recorder, life, 300, 320)
    recorder.close()
    (gap,) = gaps(check(tmp_path / "j"))
    assert gap.why == "OSError: [Errno 28] No space left on device"


def test_a_file_that_cannot_be_begun_does_not_push_out_the_older_ones(
    life: Life, tmp_path: Path, disk: type[Disk]
) -> None:
    recorder = Recorder(tmp_path / "j", size=4_000, keep=3)
    lead(recorder, life, 0, 150)
    settle(recorder)
    kept = {each.name: each.read_bytes() for each in pieces(tmp_path / "j")}
    assert len(kept) == 3
    disk.failing = OSError(28, "No space left on device")
    lead(recorder, life, 150, 250)
    time.sleep(0.2)
    newest = {each.name: each.read_bytes() for each in pieces(tmp_path / "j")}
    disk.failing = None
    assert kept["j"] in (newest["j"], newest.get("j.1"))
    recorder.close()
    check(*pieces(tmp_path / "j"))


def test_a_patient_recorder_waits_and_raises(life: Life, tmp_path: Path, disk: type[Disk]) -> None:
    recorder = Recorder(tmp_path / "j", patient=True, buffer=1)
    threading.Timer(0.05, disk.flows.set).start()
    disk.flows.clear()
    lead(recorder, life)
    assert recorder.lost == 0
    disk.failing = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space"):
        lead(recorder, (life[0], life[1] * 20))
    disk.failing = None
    recorder.close()
    check(tmp_path / "j")


def test_what_cannot_be_recorded_does_not_hurt_the_node(tmp_path: Path) -> None:
    class Stranger(Leave, frozen=True, gc=False, tag=True):
        secret: Any = object()

    protocol._TRANSITIONS[Stranger] = protocol._TRANSITIONS[Leave]
    try:
        node = settled()
        with Recorder(tmp_path / "j") as recorder:
            node, _ = recorder.step(node, 1, Received(at("B"), ()))
            node, effects = recorder.step(node, 2, Stranger(5))
            assert effects
            recorder.step(node, 3, Received(at("B"), ()))
        assert recorder.lost == 1
        assert recorder.failure == "NotImplementedError: a journal cannot hold a object"
        records = check(tmp_path / "j")
        assert gaps(records) == [Gap(1, 2, 2, recorder.failure)]
        assert [step.number for step in replay(records)] == [1, 3]
    finally:
        del protocol._TRANSITIONS[Stranger]


# --- processes ---------------------------------------------------------------------------

PROCESS = """
import os, sys, time
from backends.recorder import Recorder
from swimsim.inputs import Received
from tests.builders import at, settled
recorder, node = Recorder(sys.argv[1]), settled()
for now in range(300):
    node, _ = recorder.step(node, now, Received(at("B"), ()))
if sys.argv[2] == "killed":
    while recorder._waiting():
        time.sleep(0.01)
    for now in range(300, 400):
        node, _ = recorder.step(node, now, Received(at("B"), ()))
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(("how", "status"), [("ends", 0), ("killed", -signal.SIGKILL)])
def test_a_process_that_forgets_to_close_leaves_a_journal(
    how: str, status: int, tmp_path: Path
) -> None:
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, tmp_path / "j", how],
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    assert done.returncode == status
    records = check(tmp_path / "j")
    steps = list(replay(records))
    assert len(steps) >= 300
    assert isinstance(records[-1], End) == (how == "ends")


def test_a_file_that_grows_can_be_read(life: Life, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "j")
    lead(recorder, life, 0, 100)
    settle(recorder)
    records = check(tmp_path / "j")
    assert len([each for each in records if isinstance(each, Happened)]) == 100
    assert not isinstance(records[-1], End | Cut)
    recorder.close()


def test_the_bytes_are_the_same_in_any_process(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent.parent
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.journal.journals", tmp_path / f"j{seed}"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=root,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "1", "4242")
    ]
    digests = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(digests) == 1
    assert len(digests.pop()) == 64
