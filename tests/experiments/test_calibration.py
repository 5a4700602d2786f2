"""The judgement of E11 by samples that are known; one crash among real processes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from experiments import calibration
from experiments.calibration import Params, cells, figure, real, table, verdicts
from experiments.calibration.cell import config_of
from experiments.calibration.real import Idleness
from swimsim import LAN, MS

CRASHES = 100


def rows(
    shift: float = 0.0,
    idle: float | None = 0.9,
    load: float = 2.0,
    size: int = 300,
    missed: int = 0,
) -> pd.DataFrame:
    """Crashes of both worlds, those of the real one later by a share."""
    chance = np.random.default_rng(1)
    found = []
    for world, count in [("real", CRASHES), ("simulated", 10 * CRASHES)]:
        for place in range(count):
            first = 1.0 + chance.normal(0, 0.02)
            late = 1 + shift if world == "real" else 1.0
            found.append(
                {
                    "nodes": 16,
                    "probe_interval": 200 * MS,
                    "world": world,
                    "t_ping": late * first / 4,
                    "t_suspicion": late * first / 2,
                    "t_first": late * first,
                    "t_full": late * first * 1.1,
                    "t_told": late * first / 4,
                    "t_all_told": late * first / 2,
                    "missed": int(world == "real" and place < missed),
                    "kind": "Ping" if world == "real" and place == 0 else None,
                    "packets": 10,
                    "bytes": size,
                    "foreseen": 300,
                    "false_positives": 0,
                    "packets_node_s": load if world == "real" else 2.0 if place == 0 else None,
                    "cpu_idle": idle if world == "real" else None,
                }
            )
    return pd.DataFrame(found)


def words(frame: pd.DataFrame) -> set[str]:
    return {verdict.word for verdict in verdicts(frame)}


def test_equal_worlds_pass() -> None:
    assert words(rows()) == {"pass"}


def test_a_world_that_is_later_by_a_tenth_fails() -> None:
    failed = {verdict.claim for verdict in verdicts(rows(shift=0.1)) if verdict.fails}
    assert {"n=16: first detection, mean", "n=16: all know, median"} <= failed
    assert "n=16: packets sent by a quiet member" not in failed


def test_a_dozen_crashes_say_no_to_nothing() -> None:
    frame = rows(shift=0.3)
    few = frame[(frame.world == "simulated") | (frame.groupby("world").cumcount() < 12)]
    assert not [each.claim for each in verdicts(few) if each.fails and "distrib" not in each.claim]


def test_a_member_that_says_too_much_fails() -> None:
    failed = [verdict.claim for verdict in verdicts(rows(load=2.1)) if verdict.fails]
    assert failed == ["n=16: packets sent by a quiet member"]


def test_a_packet_of_another_size_than_foreseen_fails() -> None:
    (failed,) = (verdict for verdict in verdicts(rows(size=301)) if verdict.fails)
    assert failed.claim == "n=16: bytes of packets"
    assert failed.measured == "Ping: 301 instead of 300"


def test_gossip_that_misses_more_in_one_world_is_said() -> None:
    (said,) = (verdict for verdict in verdicts(rows(missed=9)) if verdict.word == "differs")
    assert said.measured.startswith("real 9 of 100, simulated 0 of 1000")


def test_a_busy_machine_explains_and_hides_nothing() -> None:
    found = verdicts(rows(shift=0.1, idle=0.1))
    assert {verdict.word for verdict in found} == {"differs", "explained", "pass"}
    (machine,) = (verdict for verdict in found if verdict.word == "differs")
    assert machine.measured == "less beside 100 of 100 crashes and events, least 10%"


def test_false_positives_are_not_explained_by_a_busy_machine() -> None:
    frame = rows(idle=0.1)
    frame.loc[0, "false_positives"] = 1
    assert [each.claim for each in verdicts(frame) if each.fails] == [
        "n=16: nobody is wronged in either world"
    ]


def test_idleness_that_is_not_known_is_no_verdict() -> None:
    (machine,) = (each for each in verdicts(rows(idle=None)) if "had time" in each.claim)
    assert machine.passed is None


@pytest.mark.skipif(not real.STAT.exists(), reason="needs /proc/stat")
def test_the_processors_idle_for_less_than_all_the_time() -> None:
    idle, total = real._processor_times()
    assert 0 <= idle <= total


def test_idleness_is_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([(100, 1000), (150, 1100), (150, 1200)])
    ticks = iter([False, False, True])
    monkeypatch.setattr(real, "_processor_times", lambda: next(times))
    watch = Idleness.__new__(Idleness)
    watch._shares = []

    class Clock:
        def wait(self, seconds: float) -> bool:
            return next(ticks)

    watch._ended = Clock()  # type: ignore[assignment]
    watch._watch()
    assert watch._shares == [0.5, 0.0]
    assert watch.least() == watch.latest() == 0.0
    watch.mark()
    assert watch.least() is watch.latest() is None


def test_both_sizes_in_a_quick_and_in_a_full_run() -> None:
    for scale, crashes in [("quick", 12), ("full", 1_100)]:
        found = [(cell.params, cell.runs) for cell in cells(scale)]
        assert [params.nodes for params, _ in found] == [16, 32]
        assert {params.crashes * params.groups * runs for params, runs in found} == {crashes}


def test_all_times_keep_their_proportions() -> None:
    config = config_of(Params(16, 1, probe_interval=100 * MS))
    assert LAN.probe_interval == 10 * config.probe_interval
    for name in (
        "probe_timeout",
        "gossip_interval",
        "gossip_to_the_dead_time",
        "push_pull_interval",
    ):
        assert getattr(LAN, name) == 10 * getattr(config, name), name


def test_one_crash_in_each_of_two_groups_of_three_processes() -> None:
    found = calibration.run(Params(3, 1, groups=2, quiet=1_000 * MS), seed=7)
    frame = pd.DataFrame(found).assign(nodes=3, probe_interval=200 * MS)
    crashes = frame.dropna(subset=["t_first"])
    ours, simulated = (crashes[crashes.world == world] for world in ("real", "simulated"))
    assert (len(ours), len(simulated)) == (2, 20)
    for part in (ours, simulated):
        assert (part.t_ping > 0).all()
        assert (part.t_ping <= part.t_suspicion).all()
        assert (part.t_suspicion <= part.t_first).all()
        assert (part.t_first <= part.t_full).all()
    told = frame.dropna(subset=["missed"])
    assert told.world.value_counts().to_dict() == {"real": 2, "simulated": 20}
    reached = told.dropna(subset=["t_all_told"])
    assert (reached.t_told <= reached.t_all_told).all()
    assert (ours.unwell >= 0).all()
    assert 0 < ours.rtt_us.iloc[0] < 1e6
    assert len(table(frame)) == 6
    found_verdicts = verdicts(frame)
    assert len(found_verdicts) == 30
    (sizes,) = (each for each in found_verdicts if "bytes of packets" in each.claim)
    assert sizes.passed, sizes.measured
    assert {verdict.word for verdict in found_verdicts} >= {"too few runs"}
    assert figure(frame).axes
