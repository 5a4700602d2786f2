"""Faults as data: what can be said of them, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest

from backends.sim.faults import (
    Churn,
    Degrade,
    Fault,
    FaultError,
    Flap,
    Heal,
    Hosts,
    Join,
    Kill,
    Leave,
    Partition,
    Pause,
    Restart,
    Slow,
    hosts,
)
from backends.sim.network import Link

ONE = hosts("a")

EVERY: dict[str, Fault] = {
    "kill": Kill(at=1, hosts=ONE),
    "restart": Restart(at=2, hosts=ONE, join=False),
    "pause": Pause(at=3, hosts=ONE, duration=4, how="stop", drain=5),
    "slow": Slow(at=6, hosts=Hosts(share=0.5), duration=7, service=8),
    "leave": Leave(at=9, hosts=Hosts(where={"zone": "a"}), timeout=10),
    "join": Join(at=11, names=("b", "c"), attributes={"zone": "a"}, every=12),
    "flap": Flap(at=13, hosts=Hosts(random=2), down=14, up=15, until=160, how="cut"),
    "partition": Partition(
        at=17,
        groups=(ONE, hosts("b", "c")),
        one_way=True,
        hits=("packets",),
        name="p",
        heal_after=18,
    ),
    "heal": Heal(at=19, name="p"),
    "degrade": Degrade(at=20, links=(Link("a", "b", 0.5, 21),), duration=22),
    "churn": Churn(at=23, rate=24.5, downtime=25, until=260),
}


def test_every_kind_of_fault_is_tested_here() -> None:
    kinds = {kind.__struct_config__.tag for kind in get_args(Fault)}
    assert set(EVERY) == kinds
    assert all(fault.__struct_config__.tag == kind for kind, fault in EVERY.items())


@pytest.mark.parametrize("fault", EVERY.values(), ids=EVERY)
def test_a_fault_can_be_stored_and_compared(fault: Fault) -> None:
    stored = msgspec.json.encode(fault)
    assert msgspec.json.decode(stored)["at"] == fault.at
    assert msgspec.structs.replace(fault) == fault
    assert msgspec.structs.replace(fault, at=99) != fault
    assert eval(repr(fault), dict(globals())) == fault, "what is printed can be run again"


@pytest.mark.parametrize("fault", EVERY.values(), ids=EVERY)
def test_a_fault_cannot_be_changed(fault: Fault) -> None:
    with pytest.raises(AttributeError):
        fault.at = 5  # type: ignore[misc]


DEFAULTS: dict[str, tuple[Fault, dict[str, Any]]] = {
    "restart": (Restart(at=0, hosts=ONE), {"join": True}),
    "pause": (Pause(at=0, hosts=ONE, duration=1), {"how": "block", "drain": 10}),
    "leave": (Leave(at=0, hosts=ONE), {"timeout": 0}),  # as the cluster is set
    "join": (Join(at=0, names=("b",)), {"attributes": {}, "every": 0}),
    "flap": (Flap(at=0, hosts=ONE, down=1, up=1, until=1), {"how": "kill"}),
    "partition": (
        Partition(at=0, groups=(ONE,)),
        {
            "one_way": False,
            "hits": ("packets", "streams"),
            "name": "partition",
            "heal_after": 0,
        },
    ),
    "heal": (Heal(at=0), {"name": None}),
    "hosts": (Hosts(), {"names": (), "where": {}, "random": 0, "share": 0.0}),  # type: ignore[dict-item]
}


@pytest.mark.parametrize(("fault", "wanted"), DEFAULTS.values(), ids=DEFAULTS)
def test_defaults(fault: Fault, wanted: dict[str, Any]) -> None:
    assert {name: getattr(fault, name) for name in wanted} == wanted


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "kill": (lambda: Kill(at=-1, hosts=ONE), "at is -1, expected at least 0"),
    "pause": (
        lambda: Pause(at=0, hosts=ONE, duration=-5),
        "duration is -5, expected at least 0",
    ),
    "drain": (
        lambda: Pause(at=0, hosts=ONE, duration=5, drain=-1),
        "drain is -1, expected at least 0",
    ),
    "slow": (
        lambda: Slow(at=0, hosts=ONE, duration=5, service=-1),
        "service is -1, expected at least 0",
    ),
    "leave": (lambda: Leave(at=0, hosts=ONE, timeout=-1), "timeout is -1, expected at least 0"),
    "join": (lambda: Join(at=0, names=("a",), every=-1), "every is -1, expected at least 0"),
    "flap": (
        lambda: Flap(at=0, hosts=ONE, down=-1, up=1, until=1),
        "down is -1, expected at least 0",
    ),
    "partition": (
        lambda: Partition(at=0, groups=(ONE,), heal_after=-1),
        "heal_after is -1, expected at least 0",
    ),
    "churn": (
        lambda: Churn(at=0, rate=-0.5, downtime=1, until=1),
        "rate is -0.5, expected at least 0",
    ),
    "churn of nobody": (
        lambda: Churn(at=0, rate=0, downtime=1, until=1),
        "rate is 0, expected more than 0, at most 60000000",
    ),
    "a flap that takes no time": (
        lambda: Flap(at=0, hosts=ONE, down=0, up=0, until=1),
        "down and up are both 0, expected a cycle that takes time",
    ),
    "a churn at no rate": (
        lambda: Churn(at=0, rate=math.nan, downtime=1, until=1),
        "rate is nan, expected more than 0, at most 60000000",
    ),
    "a churn at any rate": (
        lambda: Churn(at=0, rate=math.inf, downtime=1, until=1),
        "rate is inf, expected more than 0, at most 60000000",
    ),
    "a churn that is over": (
        lambda: Churn(at=2, rate=1, downtime=1, until=1),
        "until is 1 us, before at",
    ),
    "a flap that is over": (
        lambda: Flap(at=2, hosts=ONE, down=1, up=1, until=1),
        "until is 1 us, before at",
    ),
    "a join of nobody": (lambda: Join(at=0, names=()), "names is empty, expected at least one"),
    "a partition of nobody": (
        lambda: Partition(at=0, groups=()),
        "groups is empty, expected at least one",
    ),
    "a partition of nothing": (
        lambda: Partition(at=0, groups=(ONE,), hits=()),
        "hits is empty, expected packets, streams or both",
    ),
    "a degradation of nothing": (
        lambda: Degrade(at=0, links=(), duration=1),
        "links is empty, expected at least one",
    ),
    "somebody twice": (lambda: Hosts(names=("a", "a")), "names: expected each of them once"),
    "random hosts": (
        lambda: Hosts(random=-1),
        "expected random at least 0 and share from 0 to 1",
    ),
    "share below": (
        lambda: Hosts(share=-0.1),
        "expected random at least 0 and share from 0 to 1",
    ),
    "share above": (
        lambda: Hosts(share=1.1),
        "expected random at least 0 and share from 0 to 1",
    ),
    "both": (lambda: Hosts(random=1, share=0.1), "random and share exclude each other"),
}


@pytest.mark.parametrize(("make", "text"), BAD.values(), ids=BAD)
def test_a_fault_that_cannot_be_is_refused(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(FaultError) as caught:
        make()
    assert str(caught.value) == text


def test_the_where_of_one_selector_is_not_that_of_another() -> None:
    one, other = Hosts(), Hosts()
    one.where["zone"] = "a"
    assert other == Hosts()
