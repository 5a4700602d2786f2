"""A simulated cluster: build it, run it, ask it, branch it.

The cluster owns time and transport. It feeds inputs into ``swimsim.node.step`` and carries
out the effects that come back, in their order; of the protocol it knows nothing. A run is a
function of the arguments of ``Cluster`` and of what was asked of it since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Literal

import pandas as pd
from msgspec import Struct

from backends.recorder import Recorder
from backends.sim import process, strikes, views
from backends.sim.checks import Inspector, Observer, Tap
from backends.sim.clock import Callback, Clock, Due, slot_for
from backends.sim.codec import through_wire
from backends.sim.faults import Fault
from backends.sim.host import NOTHING, Host
from backends.sim.memory import sweep, without_gc
from backends.sim.network import Fabric, Network
from backends.sim.roster import address_of, check_name, node_names, settled
from backends.sim.streams import Streams
from backends.sim.trace import Column, Fate, Trace
from swimsim import invariants, node, rng
from swimsim.config import LAN, Config
from swimsim.effects import (
    After,
    ChangeKeyring,
    Effect,
    Emit,
    Event,
    Exchange,
    LeaveFinished,
    Reply,
    Send,
    no_keyring,
)
from swimsim.fingerprint import fingerprint
from swimsim.inputs import META_LIMIT, Input, Join, Leave, OwnerRequest, Received, Start
from swimsim.members import Members
from swimsim.messages import Message, packet_size
from swimsim.terms import MS, SECOND, Address, Micros, NodeId

LATELY = 4_096  # tables that are remembered, so that equal ones can be one object


class Parcel(Struct, frozen=True):
    """A packet under way whose fate is recorded."""

    source: Host
    received: Received
    size: int  # bytes, with the envelope


class BranchError(RuntimeError):
    """A cluster that cannot be branched, and why."""


class Cluster:
    """Nodes on a simulated network under one virtual clock.

    ``nodes`` is how many, or their names. A *warm* cluster begins settled: all members known
    to all, every timer at a random phase; if it is *fresh*, it has only just formed and its
    first push/pulls are a while off. A *cold* one begins as processes that start
    ``join_every`` microseconds apart and join through the first ``seeds`` of them. ``meta`` is
    every node's metadata. ``attributes`` give each host a value by its index, round robin:
    ``{"zone": "abc"}`` makes three zones. ``record`` says what the trace keeps; ``check``
    verifies every node's invariants after every step (slow), ``wire`` sends every message
    through the codec and back (slow as well); neither changes what happens.
    """

    def __init__(
        self,
        nodes: int | Sequence[str],
        config: Config = LAN,
        network: Network | None = None,
        *,
        seed: int = 0,
        warm: bool = True,
        fresh: bool = False,
        seeds: int = 3,
        join_every: Micros = 0,
        meta: bytes = b"",
        attributes: Mapping[str, Sequence[str]] | None = None,
        faults: Sequence[Fault] = (),
        record: tuple[Column, ...] = ("events",),
        check: bool = False,
        wire: bool = False,
    ) -> None:
        names = node_names(nodes) if isinstance(nodes, int) else tuple(map(NodeId, nodes))
        if not names:
            raise ValueError("a cluster has at least one node")
        if len(set(names)) != len(names):
            raise ValueError("two nodes of a cluster have one name")
        for name in names:
            check_name(name)
        if len(meta) > META_LIMIT:
            raise ValueError(f"metadata has {len(meta)} bytes, expected at most {META_LIMIT}")
        if seeds < 0:
            raise ValueError(f"{seeds} seeds, expected at least 0")
        sweep(len(names))
        attributes = attributes or {}
        for key, values in attributes.items():
            if not values:
                raise ValueError(f"the attribute {key} has no values")
        self.config = config
        self.meta = meta
        self.seed = seed
        self.env = Clock(0, slot_for(len(names)))
        self.hosts: list[Host] = []
        self.by_name: dict[NodeId, Host] = {}
        self._listening: dict[bytes, Host] = {}  # by address
        for index, name in enumerate(names):
            given = {key: values[index % len(values)] for key, values in attributes.items()}
            self._add_host(name, given or NOTHING)
        self.seeds = names[:seeds]  # whom newcomers join through
        self.trace = Trace(self.hosts, record)
        watched = wire or self.trace.watches_packets
        self.fabric = Fabric(network or Network(), list(names), seed, watched)
        self.observers: list[Observer] = []
        self.taps: list[Tap] = []
        self.inspectors: list[Inspector] = []
        self._recorded: dict[NodeId, Callable[[node.Node, Micros, Input], node.Step]] = {}
        self.fault_random = Random(rng.seed(seed, "faults"))
        self.steps = 0  # inputs handled by all nodes together
        self.dropped = 0  # inputs that found no process, or no room in its queue
        self.check = check
        self.wire = wire
        self._leaving: set[tuple[int, int]] = set()  # host and life that end after a farewell
        self._forgot = False  # that memory was cleared since tables were last compared
        self._lately: dict[tuple[int, int], Members] = {}  # tables by their digests
        self._world = Host(index=-1, name=NodeId("*"), address=Address(b"", 0))  # owns its timers
        self.settled = len(names) if warm else 0  # hosts that began in a settled group
        self._bind()
        if warm:
            self._start_warm(fresh)
        else:
            for place, name in enumerate(names):
                self.env.later(place * join_every, self._on_order, self._world, name)
        self.env.later(SECOND, self._on_share, self._world, None)
        for fault in faults:
            self.later(fault.at, fault)

    def _bind(self) -> None:
        """Make the callbacks of this cluster's events, one object each."""
        self._on_input = self.feed
        self._on_parcel = self._unpack
        self._on_work = self._work
        self._on_order = self._carry_out_order
        self._on_share = self._share_tables
        self.streams = Streams(
            self.env, self.hosts, self.at, self.fabric, self._on_input, self.trace, self.wire
        )

    # --- building ------------------------------------------------------------------------

    def _add_host(self, name: NodeId, attributes: Mapping[str, str]) -> Host:
        index = len(self.hosts)
        host = Host(index=index, name=name, address=address_of(index), attributes=attributes)
        self.hosts.append(host)
        self.by_name[name] = self._listening[host.address.host] = host
        return host

    def _start_warm(self, fresh: bool) -> None:
        table = settled(tuple(host.name for host in self.hosts), self.meta, self.config.vsn)
        for host, member in zip(self.hosts, table, strict=True):  # equal ones: an object for all
            host.name, host.address = member.peer.name, member.peer.address
            host.index = table.slots[host.name]
        self._listening = {host.address.host: host for host in self.hosts}
        for host in self.hosts:
            self._spawn(host, Start(table, fresh))

    def _spawn(self, host: Host, start: Start) -> None:
        """Begin a new life on a host."""
        host.life += 1
        host.process = None
        seed = rng.seed(self.seed, host.name, host.life)
        host.node = node.create(host.name, host.address, self.config, seed=seed, meta=self.meta)
        self.trace.life(self.now, host, begins=True)
        for observer in self.observers:
            observer.on_up(self.now, host)
        self.feed(host, start)

    # --- the driver ----------------------------------------------------------------------

    @property
    def now(self) -> Micros:
        """Simulated time since the start, microseconds."""
        return self.env.micros

    def feed(
        self,
        host: Host,
        input: Input,
        life: int | None = None,
        perform: process.Perform | None = None,
    ) -> None:
        """Give one node one input and carry out what it asks, in order, or let ``perform``.

        What comes by the clock is meant for one ``life``, and may find it ended or hindered.
        """
        before = host.node
        if before is None or host.life != life or host.process is not None:
            if life is not None:
                self._detour(host, input, life)
                return
            assert before is not None
        now: Micros = self.env._now  # type: ignore[assignment]  # the property costs a call
        step = self._recorded.get(host.name, node.step) if self._recorded else node.step
        after, effects = step(before, now, input)
        self.steps += 1
        if after is not before:
            if (
                after.membership is not before.membership
                and after.membership.members is not before.membership.members
            ):
                after = self._with_shared_table(after)
            host.node = after
        for inspector in self.inspectors:
            inspector.on_step(now, host, before, input, effects)
        if self.check:
            invariants.check(after)
        if effects:
            (perform or self.perform)(host, effects)

    def _detour(self, host: Host, input: Input, life: int) -> None:
        """What came by the clock finds the process ended or hindered."""
        arrives = isinstance(input, process.Arrival)
        if host.node is None or host.life != life:
            if arrives:
                self.drop(host, input)
        elif host.process is not None:
            way = process.arrive if arrives else process.fire
            way(self, host, host.process, input)

    def perform(self, host: Host, effects: tuple[Effect, ...]) -> None:
        """Carry out what a node asked for."""
        for effect in effects:
            if type(effect) is Send:  # not isinstance, which is slow to say no
                target, fabric = self._listening.get(effect.to[0]), self.fabric
                if target is None:
                    continue
                if fabric.plain and target.node is not None and not self.taps:  # the short way
                    if fabric.placeless:
                        delay = fabric.sample(fabric.latency_random, 0, 0)
                    else:
                        delay = fabric.sample(fabric.latency_random, host.index, target.index)
                    received = Received(host.address, effect.messages)
                    self.env.later(delay, self._on_input, target, received)
                    continue
                send = through_wire(effect, self.config) if self.wire else effect
                self.post(host, target, send.messages, send.crc)
            elif type(effect) is After:
                self.env.later(effect.delay, self._on_input, host, effect.input)
            elif type(effect) is Emit:
                self._emit(host, effect.event)
                if host.node is None:  # that was the end of the process
                    return
            elif type(effect) is Exchange:
                self.streams.begin(host, effect)
            elif type(effect) is Reply:
                self.streams.reply(effect.exchange, effect.response)
            elif type(effect) is ChangeKeyring:  # packets are not encrypted here
                self.env.later(0, self._on_input, host, no_keyring(effect))

    def post(
        self, host: Host, target: Host, messages: tuple[Message, ...], crc: bool = False
    ) -> None:
        """Put one packet on the network: a node's, or one that an experiment makes up."""
        for tap in self.taps:
            tap.on_sent(self.now, host, target, messages)
        if target.node is None:
            for observer in self.observers:
                observer.on_unheard(self.now, host, target, messages)
        size = packet_size(messages, crc, self.config)
        delays = self.fabric.carry(self.now, host.index, target.index, size)
        if self.trace.watches_packets:
            self.trace.packet(self.now, host, target, messages, size, "sent")
            if not delays:
                self.trace.packet(self.now, host, target, messages, size, "lost")
        for delay in delays:
            parcel = Parcel(host, Received(host.address, messages), size)
            self.env.later(delay, self._on_parcel, target, parcel)

    def _unpack(self, host: Host, parcel: Parcel, life: int) -> None:
        """A packet arrives whose fate may be recorded."""
        if self.trace.watches_packets:
            is_up = host.node is not None and host.life == life
            fate: Fate = "received" if is_up else "dropped"
            messages = parcel.received.messages
            self.trace.packet(self.now, parcel.source, host, messages, parcel.size, fate)
        self.feed(host, parcel.received, life)

    def _work(self, host: Host, nothing: None, life: int) -> None:
        if host.life == life:
            process.work(self, host)

    def work_later(self, host: Host, delay: Micros) -> None:
        """Let a hindered process handle its next input after ``delay``."""
        self.env.later(delay, self._on_work, host, None)

    def drop(self, host: Host, input: Input) -> None:
        """An input found no process, or no room in its queue."""
        self.dropped += 1

    def _emit(self, host: Host, event: Event) -> None:
        now = self.now
        self.trace.event(now, host, event)
        for observer in self.observers:
            observer.on_event(now, host, event)
        if isinstance(event, LeaveFinished) and (host.index, host.life) in self._leaving:
            self._leaving.discard((host.index, host.life))
            self.kill(host.name)

    def _with_shared_table(self, changed: node.Node) -> node.Node:
        """The node, holding the table of another one that equals its own, if there was one lately.

        Most nodes hear the same news after the same past, so most tables that are made exist
        already (ARCHITECTURE.md, "Values"). A matter of memory, which no node can notice.
        """
        mine = changed.members
        shared = self._lately.setdefault((mine.digest, mine.slots_digest), mine)
        if len(self._lately) > LATELY:
            self._lately.clear()
            self._forgot = True
        return changed if shared is mine else node.with_table(changed, shared)

    def _share_tables(self, world: Host, nothing: None, life: int) -> None:
        """The same for all nodes, now and then, once so many were made that some were missed."""
        if self._forgot:
            self._forgot = False
            self._lately.clear()
            for host in self.hosts:
                if host.node is not None:
                    host.node = self._with_shared_table(host.node)
        self.env.later(SECOND, self._on_share, world, None)

    # --- what can be done to it ----------------------------------------------------------

    def host(self, name: str) -> Host:
        """The host of that name; raises KeyError, saying so, when there is none."""
        try:
            return self.by_name[NodeId(name)]
        except KeyError:
            raise KeyError(f"no host is called {name!r}") from None

    def at(self, address: Address) -> Host | None:
        """The host that listens at ``address``, or None; whatever the port."""
        return self._listening.get(address.host)

    def later(self, delay: Micros, order: strikes.Order) -> None:
        """Have a fault strike after ``delay``; its own ``at`` is not looked at."""
        self.env.later(delay, self._on_order, self._world, order)

    def strike(self, fault: Fault) -> None:
        """Have a fault strike at its time; raises ValueError when that is past."""
        if fault.at < self.now:
            raise ValueError(f"the fault was to strike at {fault.at} us, it is {self.now} us")
        self.later(fault.at - self.now, fault)

    def _carry_out_order(self, world: Host, order: strikes.Order | NodeId, life: int) -> None:
        if isinstance(order, str):
            host = self.by_name[order]
            if host.life == 0:  # else a restart was faster
                self._start_cold(host)
        else:
            strikes.strike(self, order)

    def _start_cold(self, host: Host, *, join: bool = True) -> None:
        self._spawn(host, Start())
        seeds = tuple(self.by_name[name].address for name in self.seeds if name != host.name)
        if join and seeds:
            self.feed(host, Join(seeds))

    def request(self, name: str, request: OwnerRequest) -> None:
        """Ask something of a node, as its owner would."""
        host = self.host(name)
        if host.node is None:
            raise ValueError(f"{name} is down")
        if host.process is not None:
            process.fire(self, host, host.process, request)
        else:
            self.feed(host, request)

    def kill(self, name: str) -> None:
        """End the process without a word. Nothing happens when it is down."""
        host = self.host(name)
        if host.node is not None:
            host.node = host.process = None
            self.streams.reset(host)
            self.trace.life(self.now, host, begins=False)
            for observer in self.observers:
                observer.on_down(self.now, host)

    def restart(self, name: str, *, join: bool = True) -> None:
        """Start a new process of that name, after ending the old one, and join the seeds."""
        self.kill(name)
        self._start_cold(self.host(name), join=join)

    def add(
        self, name: str, attributes: Mapping[str, str] | None = None, *, delay: Micros = 0
    ) -> None:
        """A new host; its process starts after ``delay`` and joins the seeds."""
        if NodeId(name) in self.by_name:
            raise ValueError(f"there is a host {name} already")
        check_name(name)
        host = self._add_host(NodeId(name), attributes or NOTHING)
        self.fabric.names.append(host.name)
        self.env.later(delay, self._on_order, self._world, host.name)

    def leave(self, name: str, timeout: Micros = strikes.LEAVE_TIMEOUT) -> None:
        """Let a node say farewell; its process ends when that is said, or at the timeout."""
        host = self.host(name)
        if host.node is not None:
            self._leaving.add((host.index, host.life))
            self.request(name, Leave(timeout))

    def pause(self, name: str, how: Literal["block", "stop"] = "block", drain: Micros = 10) -> None:
        """Let a process stand still until ``resume``; see ``faults.Pause``."""
        host = self.host(name)
        if host.node is not None:
            process.halt(host, how, drain)

    def resume(self, name: str, how: Literal["block", "stop"] | None = None) -> None:
        """End one pause of this kind, or all pauses."""
        process.resume(self, self.host(name), how)

    def slow_down(self, name: str, service: Micros) -> None:
        """Let a process take ``service`` for each input, until ``speed_up``."""
        host = self.host(name)
        if host.node is not None:
            process.slow_down(host, service)

    def speed_up(self, name: str, service: Micros | None = None) -> None:
        """End one slowdown of this much, or all slowdowns."""
        process.speed_up(self, self.host(name), service)

    def record(self, name: str, journal: Recorder) -> None:
        """Journal the node of that name from now on, in all its lives; closing is the caller's."""
        self._recorded[self.host(name).name] = journal.step

    # --- running -------------------------------------------------------------------------

    def run(self, until: Micros) -> None:
        """Run to an instant of simulated time; one that is past changes nothing."""
        with without_gc():
            if self.now < int(until):
                self.env.run_to(int(until))

    def run_for(self, duration: Micros) -> None:
        """Run for so much simulated time."""
        self.run(self.now + duration)

    def run_until(
        self, condition: Callable[[], bool], limit: Micros, *, every: Micros = 100 * MS
    ) -> bool:
        """Run until ``condition()`` holds, looked at each ``every``; False if never by ``limit``.

        Times that observers note are exact all the same. Raises ValueError when ``every`` is not
        more than zero.
        """
        if every <= 0:
            raise ValueError(f"looked at each {every} us, expected more than 0")
        while not condition():
            if self.now >= limit:
                return False
            self.run(min(limit, self.now + every))
        return True

    # --- asking --------------------------------------------------------------------------

    @property
    def running(self) -> list[Host]:
        """The hosts on which a process runs."""
        return [host for host in self.hosts if host.node is not None]

    def view(self, name: str) -> pd.DataFrame:
        """What one node believes: member, status, incarnation, address; sorted by member."""
        return views.of_one(self.host(name))

    def views(self) -> pd.DataFrame:
        """One row a running node: node, alive, suspect, dead, left, health, agrees.

        ``agrees``: it holds alive exactly those members whose process runs.
        """
        return views.of_all(self.running)

    def believed(self, name: str) -> dict[str, int]:
        """How many of the other running nodes hold ``name`` alive, suspect, dead, left, unknown."""
        return views.of_somebody(NodeId(name), self.running)

    def agreement(self) -> float:
        """The largest share of running nodes that hold the same members present; 1 is unanimity."""
        return views.agreement(self.running)

    def converged(self) -> bool:
        """Whether every running node holds alive exactly those whose process runs."""
        return views.converged(self.running)

    def digest(self) -> str:
        """16 hexadecimal digits that are a function of all that has happened.

        Equal for equal runs on every machine, whatever was recorded; different, but for a
        chance of 2**-64, as soon as one node drew one random number more.
        """
        parts: list[str | int] = [self.now, self.steps, self.trace.rolling]
        for host in self.hosts:
            parts += [host.name, host.life]
            if host.node is not None:
                parts.append(fingerprint(host.node))
        return f"{rng.seed(*parts, self.fabric.fingerprint()):016x}"

    # --- branching -----------------------------------------------------------------------

    def branch(self, *, seed: int | None = None) -> Cluster:
        """An independent future of the same past.

        What one does from here on, the other does not notice. Without ``seed`` both would go
        the same way if left alone; with it, the network and the nodes draw other random
        numbers from now on. Observers, taps and inspectors stay with the original. Raises
        ``BranchError`` when SimPy events other than the cluster's own are pending: a generator
        cannot be copied.
        """
        pending = self.env.pending()
        if any(not isinstance(due, Due) for _, due in pending):
            raise BranchError("SimPy processes of your own are waiting, and cannot be copied")
        twin = object.__new__(Cluster)
        twin.config, twin.meta = self.config, self.meta
        twin.seed, twin.seeds = self.seed, self.seeds
        twin.env = Clock(self.now, self.env.slot)
        twin.hosts = [host.copy() for host in self.hosts]
        twin.by_name = {host.name: host for host in twin.hosts}
        twin._listening = {host.address.host: host for host in twin.hosts}
        twin.fabric = self.fabric.copy()
        twin.trace = self.trace.copy(twin.hosts)
        twin.observers, twin.taps, twin.inspectors, twin._recorded = [], [], [], {}
        twin.fault_random = Random()
        twin.fault_random.setstate(self.fault_random.getstate())
        twin.settled, twin.wire = self.settled, self.wire
        twin.steps, twin.dropped, twin.check = self.steps, self.dropped, self.check
        twin._leaving, twin._forgot, twin._lately = set(self._leaving), True, {}
        twin._world = self._world.copy()
        twin._bind()
        twin.streams.open, twin.streams.opened = dict(self.streams.open), self.streams.opened
        callbacks = dict(zip(self._callbacks(), twin._callbacks(), strict=True))
        for at, due in pending:
            owner = twin._world if due.host is self._world else twin.hosts[due.host.index]
            what = due.what
            if isinstance(what, Parcel):
                what = Parcel(twin.hosts[what.source.index], what.received, what.size)
            twin.env.resume(at, Due(callbacks[due.callback], owner, what, due.life))
        if seed is not None:
            twin._reseed(seed)
        return twin

    def _callbacks(self) -> list[Callback]:
        streams = self.streams
        own: list[Callback] = [
            self._on_input,
            self._on_parcel,
            self._on_work,
            self._on_order,
            self._on_share,
        ]
        return [*own, streams.on_flight, streams.on_retry, streams.on_timeout]

    def _reseed(self, seed: int) -> None:
        self.seed = seed
        self.fabric.reseed(seed)
        self.fault_random = Random(rng.seed(seed, "faults"))
        for host in self.hosts:
            if host.node is not None:
                host.node = node.reseeded(host.node, rng.seed(seed, host.name, host.life))
