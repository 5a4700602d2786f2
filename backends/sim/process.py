"""A process that is hindered: blocked, stopped, or slow.

Most processes run unhindered; what arrives is handled at once, and ``Host.process`` is None.
Otherwise a ``Process`` stands in between (spec experiments.md, section 1 point 8):

* *blocked* is the anomaly model of the Lifeguard paper: the process blocks immediately before
  sending or after receiving any protocol message, while its timers keep firing. Suspicions
  expire; each of the probe, gossip and push/pull loops gets as far as its first message and
  waits there; what arrives is queued.
* *stopped* is SIGSTOP: nothing runs, timers included. Overdue timers fire when it goes on.
* *slow*: each input takes a while to be handled, one after the other.

When a block or a stop ends, what was to be sent is sent, the loops go on, and the queue drains
at ``drain`` microseconds a packet; a new block interrupts the drain. The queue is bounded like
a socket buffer, and what does not fit is dropped; what comes over a stream is not counted, and
memberlist's second queue, of 1024 messages behind the buffer, is not modelled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Literal, Protocol, TypeAlias

from backends.sim.host import Host
from swimsim.effects import Effect, Exchange, Reply, Send
from swimsim.inputs import (
    Exchanged,
    ExchangeFailed,
    ExchangeRequested,
    GossipTick,
    Input,
    ProbeTick,
    ProbeTimeout,
    PushPullTick,
    Received,
    ReconnectTick,
)
from swimsim.messages import packet_size
from swimsim.terms import Micros

Halt: TypeAlias = Literal["block", "stop"]
Mode: TypeAlias = Literal["run"] | Halt

Arrival: TypeAlias = Received | ExchangeRequested | Exchanged | ExchangeFailed

INBOX_BYTES = 2 * 1024 * 1024  # the socket buffer that memberlist asks for

LOOPS: Mapping[type[Input], str] = {
    ProbeTick: "probe",
    ProbeTimeout: "probe",
    GossipTick: "gossip",
    PushPullTick: "push/pull",
    ReconnectTick: "reconnect",
}
"""Which timers belong to one sequential loop of a threaded implementation."""


Perform: TypeAlias = Callable[[Host, tuple[Effect, ...]], None]


class Driver(Protocol):
    """What a hindered process needs of the cluster."""

    def feed(self, host: Host, input: Input, *, perform: Perform | None = None) -> None:
        """Let ``input`` happen to the node; ``perform``, or the driver's own, gets the effects."""
        ...

    def perform(self, host: Host, effects: tuple[Effect, ...]) -> None:
        """Carry out what a node asked for."""
        ...

    def work_later(self, host: Host, delay: Micros) -> None:
        """Call ``work`` for this host after ``delay``."""
        ...

    def drop(self, host: Host, input: Input) -> None:
        """An input found no room."""
        ...


class Process:
    """What waits for a hindered process, and for what it waits."""

    __slots__ = ("deferred", "drain", "halts", "held", "inbox", "inbox_bytes", "services",
                 "stalled", "working")  # fmt: skip

    def __init__(self) -> None:
        self.halts: list[tuple[Halt, Micros]] = []  # in force, with their drains; may overlap
        self.services: list[Micros] = []  # slowdowns in force; the worst one counts
        self.drain: Micros = 0  # time that each queued packet takes after a halt
        self.working = False  # a call of ``work`` is on its way
        self.inbox: deque[tuple[Input, int]] = deque()  # with the bytes that each takes up
        self.inbox_bytes = 0
        self.held: list[Effect] = []  # what the process is blocked in sending
        self.stalled: set[str] = set()  # the loops that are blocked in sending
        self.deferred: list[Input] = []  # timers of stalled loops, or of a stopped process

    @property
    def mode(self) -> Mode:
        """The worst of the halts in force."""
        kinds = {kind for kind, _ in self.halts}
        return "stop" if "stop" in kinds else "block" if "block" in kinds else "run"

    @property
    def service(self) -> Micros:
        """Time that each input takes."""
        return max(self.services, default=0)

    def copy(self) -> Process:
        """An independent twin in the same state."""
        twin = Process()
        for slot in self.__slots__:
            value = getattr(self, slot)
            setattr(twin, slot, value.copy() if isinstance(value, deque | list | set) else value)
        return twin


def halt(host: Host, how: Halt, drain: Micros) -> None:
    """Stand still in this way until ``resume``."""
    process = host.process = host.process or Process()
    process.halts.append((how, drain))


def resume(driver: Driver, host: Host, how: Halt | None = None) -> None:
    """End one halt of this kind, or all halts.

    When none is left, what was held back is sent, overdue timers fire, and the queue begins to
    drain. When a stop ends and a block is left, timers fire and the rest waits on.
    """
    process = host.process
    if process is None or not process.halts:
        return
    ended = [halt for halt in process.halts if how is None or halt[0] == how][
        : None if how is None else 1
    ]
    for halt_ in ended:
        process.halts.remove(halt_)
        process.drain = max(process.drain, halt_[1])
    if not ended or process.mode == "stop":
        return
    held, deferred = tuple(process.held), tuple(process.deferred)
    if process.mode == "run":
        process.held.clear()
        process.stalled.clear()
        driver.perform(host, held)
    process.deferred.clear()
    for input in deferred:
        if host.process is not process:  # a timer has ended the process
            return
        fire(driver, host, process, input)
    if host.process is process:
        _continue(driver, host, process)


def slow_down(host: Host, service: Micros) -> None:
    """Take ``service`` for each input until ``speed_up``."""
    process = host.process = host.process or Process()
    process.services.append(service)


def speed_up(driver: Driver, host: Host, service: Micros | None = None) -> None:
    """End one slowdown of this much, or all slowdowns."""
    process = host.process
    if process is None:
        return
    if service is None:
        process.services.clear()
    elif service in process.services:
        process.services.remove(service)
    _continue(driver, host, process)


def arrive(driver: Driver, host: Host, process: Process, input: Input) -> None:
    """A packet or a stream has something for the process."""
    size = 0
    if isinstance(input, Received) and host.node is not None:
        size = packet_size(input.messages, False, host.node.config)
    if process.inbox_bytes + size > INBOX_BYTES:
        driver.drop(host, input)
        return
    process.inbox.append((input, size))
    process.inbox_bytes += size
    _continue(driver, host, process)


def fire(driver: Driver, host: Host, process: Process, input: Input) -> None:
    """A timer is due, or the owner asks for something."""
    loop = LOOPS.get(type(input), "")
    if process.mode == "stop" or loop in process.stalled:
        process.deferred.append(input)
    elif process.mode == "block":

        def hold(host: Host, effects: tuple[Effect, ...]) -> None:
            blocked = tuple(e for e in effects if isinstance(e, Send | Exchange | Reply))
            if blocked:
                process.held.extend(blocked)
                if loop:
                    process.stalled.add(loop)
                effects = tuple(e for e in effects if not isinstance(e, Send | Exchange | Reply))
            driver.perform(host, effects)

        driver.feed(host, input, perform=hold)
    elif process.service:
        process.inbox.append((input, 0))
        _continue(driver, host, process)
    else:
        driver.feed(host, input)


def work(driver: Driver, host: Host) -> None:
    """Handle the oldest input in the queue."""
    process = host.process
    if process is None:
        return
    process.working = False
    if process.mode == "run" and process.inbox:
        input, size = process.inbox.popleft()
        process.inbox_bytes -= size
        driver.feed(host, input)
    if host.process is process:
        _continue(driver, host, process)


def _continue(driver: Driver, host: Host, process: Process) -> None:
    """Have the next input handled when its time has passed, or be unhindered again."""
    if process.mode != "run" or process.working:
        return
    if process.inbox:
        process.working = True
        driver.work_later(host, max(process.service, process.drain))
        return
    process.drain = 0
    if not process.service:
        host.process = None
