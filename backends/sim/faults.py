"""What goes wrong, and when: a schedule that is data.

Each fault is a frozen struct with the time ``at`` which it strikes, counted from the start of
the run, so a schedule can be printed, stored, compared and put in a scenario file. What
strikes at random (which hosts, when in a churn) is drawn from a stream of its own.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from backends.sim.network import BOTH, Carried, Duration, Link
from swimsim.terms import MINUTE, Micros

MOST_DEATHS = MINUTE  # of a churn, each minute: one a microsecond


class FaultError(ValueError):
    """A fault that cannot strike; the text says which setting and what it needs."""


class Hosts(Struct, frozen=True, forbid_unknown_fields=True):
    """Which hosts: those of these names, with these attributes, and of them a random few.

    Without names and attributes, all hosts; ``random`` picks that many of them that are up,
    ``share`` that share of them, rounded up.
    """

    names: tuple[str, ...] = ()
    where: dict[str, str] = {}
    random: int = 0
    share: float = 0.0

    def __post_init__(self) -> None:
        if self.random < 0 or not 0 <= self.share <= 1:
            raise FaultError("expected random at least 0 and share from 0 to 1")
        if self.random and self.share:
            raise FaultError("random and share exclude each other")
        if len(set(self.names)) < len(self.names):
            raise FaultError("names: expected each of them once")


def hosts(*names: str) -> Hosts:
    """The hosts of these names."""
    return Hosts(names=names)


class _Fault(Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True, kw_only=True):
    at: Duration

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, (int, float)) and value < 0:
                raise FaultError(f"{name} is {value}, expected at least 0")


def _not_before(until: Micros, at: Micros) -> None:
    if until < at:
        raise FaultError(f"until is {until} us, before at")


class Kill(_Fault, frozen=True, tag="kill"):
    """The process is gone without a word; connections to the machine are refused."""

    hosts: Hosts


class Restart(_Fault, frozen=True, tag="restart"):
    """A new process of the same name and address starts, killing an old one, and joins."""

    hosts: Hosts
    join: bool = True  # through the cluster's seeds


class Pause(_Fault, frozen=True, tag="pause"):
    """The process stands still for a while.

    ``block``: before sending and after receiving, while timers fire (the Lifeguard paper's
    anomaly); ``stop``: altogether, as by SIGSTOP. Afterwards the packets that queued up are
    handled, one each ``drain``; the papers do not give that rate, and results depend on it.
    """

    hosts: Hosts
    duration: Duration
    how: Literal["block", "stop"] = "block"
    drain: Duration = 10


class Slow(_Fault, frozen=True, tag="slow"):
    """For a while the process takes ``service`` to handle each input, one after the other."""

    hosts: Hosts
    duration: Duration
    service: Duration


class Leave(_Fault, frozen=True, tag="leave"):
    """The node says farewell, and its process ends once that has been sent."""

    hosts: Hosts
    timeout: Duration = 0  # 0: as the cluster is set, 5 s unless a Serf configuration says other


class Join(_Fault, frozen=True, tag="join"):
    """New hosts of these names start, and join through the cluster's seeds."""

    names: tuple[str, ...]
    attributes: dict[str, str] = {}
    every: Duration = 0  # between two of them

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.names:
            raise FaultError("names is empty, expected at least one")


class Flap(_Fault, frozen=True, tag="flap"):
    """Down and up again, over and over, until ``until``.

    ``kill`` restarts the process, ``pause`` blocks it, ``cut`` drops all that is sent to the
    host (what it sends still arrives).
    """

    hosts: Hosts
    down: Duration
    up: Duration
    until: Duration
    how: Literal["kill", "pause", "cut"] = "kill"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.down + self.up == 0:
            raise FaultError("down and up are both 0, expected a cycle that takes time")
        _not_before(self.until, self.at)


class Partition(_Fault, frozen=True, tag="partition"):
    """Groups of hosts do not reach each other; one group alone is cut from all the rest.

    ``one_way``: only what the first group sends is lost. ``heal_after`` lifts this cut.
    """

    groups: tuple[Hosts, ...]
    one_way: bool = False
    hits: tuple[Carried, ...] = BOTH
    name: str = "partition"
    heal_after: Duration = 0  # 0: until a ``Heal``

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.groups:
            raise FaultError("groups is empty, expected at least one")
        if not self.hits:
            raise FaultError("hits is empty, expected packets, streams or both")


class Heal(_Fault, frozen=True, tag="heal"):
    """Lift the cuts of that name, or all of them."""

    name: str | None = None


class Degrade(_Fault, frozen=True, tag="degrade"):
    """Some links get worse for a while."""

    links: tuple[Link, ...]
    duration: Duration

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.links:
            raise FaultError("links is empty, expected at least one")


class Churn(_Fault, frozen=True, tag="churn"):
    """Processes come and go: ``rate`` deaths a minute in the whole cluster, at random times.

    Each comes back as a restart after a time Exp(mean ``downtime``). Seeds are spared.
    """

    rate: float
    downtime: Duration
    until: Duration

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.rate <= MOST_DEATHS:
            raise FaultError(f"rate is {self.rate}, expected more than 0, at most {MOST_DEATHS}")
        _not_before(self.until, self.at)


Fault: TypeAlias = (
    Kill | Restart | Pause | Slow | Leave | Join | Flap | Partition | Heal | Degrade | Churn
)
