"""Scenarios are compared on common seeds: every run is its plan's own, and rows name their run."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from backends.sim.scenario import plan
from experiments.compare import compare
from experiments.sweep import processes


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def scenario(mult: int = 4, record: tuple[str, ...] = ("events", "messages")) -> dict[str, Any]:
    return {
        "until": "30s",
        "cluster": {"nodes": 8},
        "protocol": {"suspicion_mult": mult},
        "faults": [{"kind": "kill", "at": "5s", "hosts": {"random": 1}}],
        "measure": {"record": list(record)},
    }


PLANS = {"patient": plan(scenario(8)), "hasty": plan(scenario(2))}


def test_every_run_is_the_plans_own(thread: ThreadPoolExecutor) -> None:
    found = compare(PLANS, (seed for seed in (3, 5)), thread)
    expected = [PLANS[name].run(seed)[0] for name in PLANS for seed in (3, 5)]
    assert list(found.runs.scenario) == ["patient", "patient", "hasty", "hasty"]
    assert list(found.runs.digest) == [outcome.digest for outcome in expected]
    assert list(found.deaths.seed) == [3, 5, 3, 5]
    assert list(found.deaths.full_s) == [outcome.deaths[0].full_s for outcome in expected]


def test_chance_is_common_and_the_setting_is_not(thread: ThreadPoolExecutor) -> None:
    deaths = compare(PLANS, range(4), thread).deaths
    patient, hasty = (deaths[deaths.scenario == name].reset_index() for name in PLANS)
    assert list(patient.victim) == list(hasty.victim)
    assert list(patient.first_suspicion_s) == list(hasty.first_suspicion_s)
    assert (patient.first_detection_s > hasty.first_detection_s).all()


def test_events_and_messages_name_their_run(thread: ThreadPoolExecutor) -> None:
    found = compare(PLANS, [7], thread)
    for name, each in PLANS.items():
        _, cluster = each.run(7)
        events = found.events[found.events.scenario == name]
        assert events.drop(columns=["scenario", "seed"]).values.tolist() == (
            cluster.trace.events().values.tolist()
        )
        counted = found.messages[found.messages.scenario == name].set_index(["kind", "fate"])
        sent = cluster.trace.messages().query("kind == 'ping' and fate == 'sent'")
        assert counted.messages["ping", "sent"] == sent.messages.sum()
        assert counted.bytes["ping", "sent"] == sent.bytes.sum()


def test_what_was_not_recorded_and_who_did_not_die_are_no_rows(thread: ThreadPoolExecutor) -> None:
    quiet = {**scenario(record=()), "faults": []}
    found = compare({"quiet": plan(quiet), "not": plan(quiet)}, [1], thread)
    assert list(found.runs.scenario) == ["quiet", "not"]
    assert [len(frame) for frame in (found.deaths, found.events, found.messages)] == [0, 0, 0]
    assert "full_s" in found.deaths


def test_processes_find_the_same(thread: ThreadPoolExecutor) -> None:
    with processes(2) as executor:
        found = compare(PLANS, [1, 2], executor)
    expected = compare(PLANS, [1, 2], thread)
    assert found.runs.equals(expected.runs)
    assert found.events.equals(expected.events)
