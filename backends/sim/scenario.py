"""A whole run as a TOML file: cluster, protocol, network, faults, what to measure, until when.

``load`` reads and checks a file; all that can be wrong with it is found before anything runs
and said in one line that names the file, the key and what was expected. ``Plan.run`` runs it
for one seed, and ``Plan.text`` writes the scenario down again with every default filled in.
"""

from __future__ import annotations

import tomllib
from base64 import b64encode
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import msgspec
import networkx as nx
import tomli_w
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import fields

from backends.durations import in_words
from backends.serf_config import SerfConfigError
from backends.sim import topology
from backends.sim.checks import Deaths, FalsePositives
from backends.sim.cluster import Cluster
from backends.sim.faults import Fault, FaultError, Flap, Heal, Hosts, Join, Leave, Partition
from backends.sim.matrices import stand_in
from backends.sim.network import (
    Constant,
    Duration,
    Exponential,
    Latency,
    Link,
    LogNormal,
    Matrix,
    Network,
    NetworkError,
    Uniform,
)
from backends.sim.roster import MOST_NODES, check_name, node_names
from backends.sim.serf_config import SerfSettings, parse
from backends.sim.tables import TableError, convert, plain
from backends.sim.trace import Column
from swimsim.config import PROFILES, Config, ConfigError
from swimsim.inputs import META_LIMIT
from swimsim.terms import MS, SECOND, Micros

MOST_ZONES = 256  # all are joined to all
MOST_SITES = 1024  # whose latencies are a matrix


class ScenarioError(ValueError):
    """A scenario that cannot be run: ``file: key: what was expected``."""


# --- the file ----------------------------------------------------------------------------


class MatrixFile(Struct, frozen=True, tag="matrix", tag_field="model", forbid_unknown_fields=True):
    """Measured round-trip times in a file (``matrices.read_rtt``): NetLatency's or p2psim's."""

    file: str
    jitter: float = 0.0
    unit: Literal["ms", "us"] = "ms"


class GraphFile(Struct, frozen=True, tag="graph", tag_field="model", forbid_unknown_fields=True):
    """A NetworkX graph in a GraphML file, with ``latency_ms`` on its edges."""

    file: str
    jitter: float = 0.0


class Zones(Struct, frozen=True, tag="zones", tag_field="model", forbid_unknown_fields=True):
    """Availability zones (``topology.zones``); hosts stand in them in turn."""

    zones: int = 3
    within: Duration = 100
    between: Duration = 600
    jitter: float = 0.1


class Rack(Struct, frozen=True, tag="rack", tag_field="model", forbid_unknown_fields=True):
    """One rack (``topology.rack``): everybody a cable from the switch."""

    port: Duration = 50
    jitter: float = 0.1


class Regions(Struct, frozen=True, tag="regions", tag_field="model", forbid_unknown_fields=True):
    """Seven regions of the world (``topology.regions``); hosts stand on the sites in turn."""

    sites: int = 70
    seed: int = 1
    jitter: float = 0.1


AnyLatency: TypeAlias = (
    Constant | Uniform | Exponential | LogNormal | MatrixFile | GraphFile | Rack | Zones | Regions
)


class ClusterTable(Struct, frozen=True, forbid_unknown_fields=True):
    """The nodes and how they begin."""

    nodes: int | tuple[str, ...] = 100
    start: Literal["warm", "cold"] = "warm"
    seeds: int = 3  # the first so many, whom newcomers join through
    join_every: Duration = 0  # between two cold starts
    attributes: dict[str, tuple[str, ...]] = {}  # values by host, round robin
    wire: bool = False  # send every message through the real codec; slow, and changes nothing
    metadata: bytes = b""  # of every node, in base64; of the Serf configuration's tags if empty


class MeasureTable(Struct, frozen=True, forbid_unknown_fields=True):
    """What to keep of a run."""

    record: tuple[Column, ...] = ("events", "health", "messages")


def _settings(base: type[Struct], **changed: Any) -> list[tuple[str, Any, Any]]:
    """The settings of ``base`` as optional keys of a table, durations as such."""
    table = []
    for field in fields(base):
        kind = Duration if base.__annotations__[field.name] == "Micros" else field.type
        table.append((field.name, changed.get(field.name, kind) | UnsetType, UNSET))
    return table


if TYPE_CHECKING:
    ProtocolTable: TypeAlias = Any
    NetworkTable: TypeAlias = Any
else:
    _SOURCES = [("profile", str | UnsetType, UNSET), ("config", str | UnsetType, UNSET)]
    _STRICT = {"frozen": True, "forbid_unknown_fields": True}
    ProtocolTable = msgspec.defstruct(
        "ProtocolTable", _SOURCES + _settings(Config, vsn=tuple[int, ...]), **_STRICT
    )
    NetworkTable = msgspec.defstruct(
        "NetworkTable", _settings(Network, latency=AnyLatency), **_STRICT
    )


class Scenario(Struct, frozen=True, forbid_unknown_fields=True):
    """What a scenario file says.

    ``protocol`` names a profile or a Serf agent's configuration, and may set anything of
    ``Config`` on top; ``network`` may set anything of ``Network``.
    """

    until: Duration
    title: str = ""
    seeds: tuple[int, ...] = (1,)
    stop: Literal["never", "converged", "detected"] = "never"  # early, once faults are over
    cluster: ClusterTable = ClusterTable()
    protocol: ProtocolTable = ProtocolTable()
    network: NetworkTable = NetworkTable()
    faults: tuple[Fault, ...] = ()
    measure: MeasureTable = MeasureTable()


# --- from file to plan ---------------------------------------------------------------------


class Death(Struct, frozen=True):
    """How one process' end became known; instants in seconds of simulated time, or None."""

    victim: str
    ended_s: float
    how: Literal["killed", "left"]
    first_ping_s: float | None
    first_suspicion_s: float | None
    first_detection_s: float | None
    full_s: float | None
    knew: int  # witnesses that came to know
    witnesses: int


class Outcome(Struct, frozen=True):
    """What came of one seeded run."""

    seed: int
    simulated_s: float
    nodes: int  # running at the end
    converged: bool  # all running nodes hold alive exactly those that run
    agreement: float  # share of the running nodes in the largest group of equal views
    false_positives: int  # verdicts of death about members that never died
    flaws: int  # members wronged by at least one of them
    packets_per_node_s: float | None  # sent, when messages were recorded
    bytes_per_node_s: float | None
    steps: int
    digest: str
    deaths: tuple[Death, ...]


class Plan:
    """A scenario that has been checked, ready to run."""

    def __init__(self, scenario: Scenario, config: Config, network: Network, meta: bytes) -> None:
        self.scenario = scenario
        self.config = config
        self.network = network
        self.meta = meta

    def build(self, seed: int) -> Cluster:
        """The cluster at the start of a run."""
        table = self.scenario.cluster
        return Cluster(
            table.nodes,
            self.config,
            self.network,
            seed=seed,
            warm=table.start == "warm",
            seeds=table.seeds,
            join_every=table.join_every,
            meta=self.meta,
            attributes=table.attributes,
            faults=self.scenario.faults,
            record=self.scenario.measure.record,
            wire=table.wire,
        )

    def run(
        self, seed: int, progress: Callable[[Micros], None] | None = None
    ) -> tuple[Outcome, Cluster]:
        """Run to the end; ``progress`` is told the simulated time now and then.

        Raises ``ScenarioError`` when a fault finds no host that it could strike.
        """
        scenario = self.scenario
        cluster = self.build(seed)
        deaths = Deaths(host.name for host in cluster.running)
        wronged = FalsePositives()
        cluster.observers += [deaths, wronged]
        quiet = max((_over(fault) for fault in scenario.faults), default=0)
        if scenario.cluster.start == "cold":
            quiet = max(quiet, len(cluster.hosts) * scenario.cluster.join_every)
        while cluster.now < scenario.until:
            try:
                cluster.run(min(scenario.until, cluster.now + SECOND))
            except FaultError as error:
                raise ScenarioError(f"faults: at {in_words(cluster.now)}: {error}") from error
            if progress is not None:
                progress(cluster.now)
            if cluster.now > quiet and self._may_stop(cluster, deaths):
                break
        return outcome_of(seed, cluster, deaths, wronged), cluster

    def _may_stop(self, cluster: Cluster, deaths: Deaths) -> bool:
        match self.scenario.stop:
            case "never":
                return False
            case "detected":
                return deaths.done
            case "converged":
                return cluster.converged()

    def text(self) -> str:
        """The scenario as TOML, with all defaults filled in: a file that runs the same."""
        table = plain(self.scenario)
        table["cluster"]["metadata"] = b64encode(self.meta).decode()
        table["protocol"] = {
            name: in_words(value) if kind is Duration else plain(value)
            for name, kind, value in _filled(self.config)
        }
        latency = table["network"].get("latency", plain(self.network.latency))
        table["network"] = plain(msgspec.structs.replace(self.network, latency=None))
        table["network"]["latency"] = latency
        return tomli_w.dumps(table)


def _filled(config: Config) -> Iterator[tuple[str, Any, Any]]:
    """Every setting that has a value, with the type it has in a scenario file."""
    for name, kind, _ in _settings(Config):
        value = getattr(config, name)
        if value is not None:
            yield name, get_args(kind)[0], list(value) if isinstance(value, bytes) else value


def load(path: Path) -> Plan:
    """Read a scenario file; raises ``ScenarioError``, and OSError when it cannot be read."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: not TOML: {error}") from error
    try:
        return plan(raw, path.parent)
    except ScenarioError as error:
        raise ScenarioError(f"{path}: {error}") from error


def plan(raw: Mapping[str, Any], folder: Path = Path()) -> Plan:
    """Check a scenario given as plain data; files that it names are relative to ``folder``."""
    try:
        scenario = convert(raw, Scenario)
    except TableError as error:
        raise ScenarioError(str(error)) from error
    scenario = _rooted(scenario, folder)
    settings = _protocol(scenario.protocol, folder)
    network = _network(scenario.network)
    _check(scenario)
    faults = tuple(_patient(fault, settings.leave_timeout) for fault in scenario.faults)
    scenario = msgspec.structs.replace(scenario, faults=faults)
    meta = scenario.cluster.metadata or settings.meta
    if len(meta) > META_LIMIT:
        raise ScenarioError(
            f"cluster.metadata: expected at most {META_LIMIT} bytes, got {len(meta)}"
        )
    return Plan(scenario, settings.config, network, meta)


def _rooted(scenario: Scenario, folder: Path) -> Scenario:
    """The scenario with the file that its latency names as a path from anywhere."""
    latency = scenario.network.latency
    if not isinstance(latency, MatrixFile | GraphFile):
        return scenario
    latency = msgspec.structs.replace(latency, file=str((folder / latency.file).resolve()))
    network = msgspec.structs.replace(scenario.network, latency=latency)
    return msgspec.structs.replace(scenario, network=network)


def _protocol(table: ProtocolTable, folder: Path) -> SerfSettings:
    settings = SerfSettings(PROFILES["lan"], b"", 0)
    if table.profile is not UNSET and table.config is not UNSET:
        raise ScenarioError("protocol.config: the Serf configuration names the profile itself")
    if table.profile is not UNSET:
        if table.profile not in PROFILES:
            known = ", ".join(f'"{name}"' for name in PROFILES)
            raise ScenarioError(f"protocol.profile: expected one of {known}, got {table.profile!r}")
        settings = SerfSettings(PROFILES[table.profile], b"", 0)
    if table.config is not UNSET:
        source = folder / table.config
        try:
            settings = parse(source.read_text(encoding="utf-8"))
        except OSError as error:
            raise ScenarioError(f"protocol.config: {source}: {error.strerror}") from error
        except (SerfConfigError, UnicodeDecodeError) as error:
            raise ScenarioError(f"protocol.config: {source}: {error}") from error
    given = {
        field.name: value
        for field in fields(Config)
        if (value := getattr(table, field.name)) is not UNSET
    }
    try:
        if "vsn" in given:
            if not all(0 <= version <= 255 for version in given["vsn"]):
                raise ConfigError("vsn: expected six numbers from 0 to 255")
            given["vsn"] = bytes(given["vsn"])
        config = msgspec.structs.replace(settings.config, **given)
    except ConfigError as error:
        raise ScenarioError(f"protocol.{error}") from error
    return msgspec.structs.replace(settings, config=config)


def _network(table: NetworkTable) -> Network:
    given = {
        field.name: value
        for field in fields(Network)
        if (value := getattr(table, field.name)) is not UNSET
    }
    try:
        if "latency" in given:
            given["latency"] = _latency(given["latency"])
        return Network(**given)
    except NetworkError as error:
        raise ScenarioError(f"network.{error}") from error


def _latency(given: AnyLatency) -> Latency:
    match given:
        case Rack(port, jitter):  # any two are two cables apart, however many there are
            return LogNormal(2 * port, jitter)
        case MatrixFile() | GraphFile() | Zones() | Regions():
            matrix = _matrix(given)
        case _:
            return given
    try:
        return msgspec.structs.replace(matrix, jitter=given.jitter)
    except NetworkError as error:
        raise NetworkError(f"latency: {error}") from error


def _matrix(given: MatrixFile | GraphFile | Zones | Regions) -> Matrix:
    match given:
        case Zones(count, within, between):
            if not 1 <= count <= MOST_ZONES:
                raise NetworkError(f"latency.zones is {count}, expected 1 to {MOST_ZONES}")
            graph = topology.zones(count, within_ms=within / MS, between_ms=between / MS)
            return topology.graph_latency(graph)
        case Regions(sites, seed):
            if not 1 <= sites <= MOST_SITES:
                raise NetworkError(f"latency.sites is {sites}, expected 1 to {MOST_SITES}")
            return topology.rtt_latency(stand_in(sites, seed)[1])
    try:
        if isinstance(given, MatrixFile):
            return topology.read_matrix(Path(given.file), unit=given.unit)
        return topology.graph_latency(nx.read_graphml(given.file))
    except OSError as error:
        raise NetworkError(f"latency.file: {given.file}: {error.strerror or error}") from error
    except (nx.NetworkXError, SyntaxError, NetworkError) as error:
        named = "" if str(error).startswith(given.file) else f"{given.file}: "
        raise NetworkError(f"latency.file: {named}{error}") from error


def _patient(fault: Fault, timeout: Micros) -> Fault:
    """A farewell takes as long as the Serf configuration allows, where there is one."""
    if isinstance(fault, Leave) and timeout and not fault.timeout:
        return msgspec.structs.replace(fault, timeout=timeout)
    return fault


# --- what must hold of it --------------------------------------------------------------------


def _check(scenario: Scenario) -> None:
    """Raise ``ScenarioError`` for what the types cannot say."""
    table = scenario.cluster
    if not scenario.seeds or len(set(scenario.seeds)) < len(scenario.seeds):
        raise ScenarioError("seeds: expected at least one, and each of them once")
    if scenario.until <= 0:
        raise ScenarioError("until: expected more than zero")
    if isinstance(table.nodes, int) and not 1 <= table.nodes <= MOST_NODES:
        raise ScenarioError(f"cluster.nodes: expected 1 to {MOST_NODES}, got {table.nodes}")
    names = list(node_names(table.nodes) if isinstance(table.nodes, int) else table.nodes)
    _check_names("cluster.nodes", names)
    if not names or len(set(names)) != len(names):
        raise ScenarioError("cluster.nodes: expected names, each of them once")
    if table.seeds < 1:
        raise ScenarioError(f"cluster.seeds: expected at least 1, got {table.seeds}")
    for key, values in table.attributes.items():
        if not values:
            raise ScenarioError(f"cluster.attributes.{key}: expected at least one value")
    hosts = {
        name: {key: values[index % len(values)] for key, values in table.attributes.items()}
        for index, name in enumerate(names)
    }
    joined = [name for fault in scenario.faults if isinstance(fault, Join) for name in fault.names]
    _check_links(
        "network.links",
        () if scenario.network.links is UNSET else scenario.network.links,
        {*hosts, *joined},
    )
    cuts = {fault.name for fault in scenario.faults if isinstance(fault, Partition)}
    timed = sorted(enumerate(scenario.faults), key=lambda numbered: numbered[1].at)
    for number, fault in timed:
        where = f"faults[{number}]"
        if fault.at > scenario.until:
            raise ScenarioError(f"{where}.at: {in_words(fault.at)} is after the end of the run")
        if isinstance(fault, Heal) and fault.name is not None and fault.name not in cuts:
            raise ScenarioError(f"{where}.name: no partition is called {fault.name!r}")
        _check_fault(where, fault, hosts)


def _check_names(where: str, names: Iterable[str]) -> None:
    for name in names:
        try:
            check_name(name)
        except ValueError as error:
            raise ScenarioError(f"{where}: {error}") from error


def _check_fault(where: str, fault: Fault, hosts: dict[str, dict[str, str]]) -> None:
    if isinstance(fault, Join):
        _check_names(f"{where}.names", fault.names)
        for name in fault.names:
            if name in hosts:
                raise ScenarioError(f"{where}.names: {name!r} is there already")
            hosts[name] = fault.attributes
    elif isinstance(fault, Partition):
        groups = fault.groups
        meant = [_meant(f"{where}.groups[{i}]", g, hosts) for i, g in enumerate(groups)]
        for (i, one), (j, other) in combinations(enumerate(meant), 2):
            if both := sorted(one & other):
                overlap = f"groups {i} and {j} overlap, {both[0]!r} is in both"
                raise ScenarioError(f"{where}.groups: {overlap}")
    elif (wanted := getattr(fault, "hosts", None)) is not None:
        _meant(f"{where}.hosts", wanted, hosts)
    _check_links(f"{where}.links", getattr(fault, "links", ()), hosts)


def _check_links(where: str, links: Iterable[Link], names: Container[str]) -> None:
    for number, link in enumerate(links):
        for name in (link.source, link.target):
            if name != "*" and name not in names:
                raise ScenarioError(f"{where}[{number}]: no node is called {name!r}")


def _meant(where: str, wanted: Hosts, hosts: dict[str, dict[str, str]]) -> set[str]:
    """The hosts that a selector names for certain; a random choice is not known yet."""
    for name in wanted.names:
        if name not in hosts:
            raise ScenarioError(f"{where}.names: no node is called {name!r}")
    if not (wanted.names or wanted.where or wanted.random or wanted.share):
        raise ScenarioError(f"{where}: expected names, where, random or share (1.0 is all nodes)")
    chosen = set(wanted.names or hosts)
    for key, value in wanted.where.items():
        chosen = {name for name in chosen if hosts[name].get(key) == value}
        if not chosen:
            raise ScenarioError(f"{where}.where: no node has {key} = {value!r}")
    if wanted.random > len(chosen):
        raise ScenarioError(f"{where}.random: {wanted.random} of {len(chosen)} nodes wanted")
    return set() if wanted.random or wanted.share else chosen


def _over(fault: Fault) -> Micros:
    """When a fault and all that it brings about is over, as far as the schedule tells."""
    match fault:
        case Join():
            return fault.at + (len(fault.names) - 1) * fault.every
        case Flap():
            return max(fault.at, fault.until) + fault.down
        case Partition():
            return fault.at + fault.heal_after
        case _:
            return max(fault.at + getattr(fault, "duration", 0), getattr(fault, "until", 0))


# --- what came of it -------------------------------------------------------------------------


def outcome_of(seed: int, cluster: Cluster, deaths: Deaths, wronged: FalsePositives) -> Outcome:
    """What the watchers of one run, and its cluster, have to say."""
    packets = bytes_ = None
    if "messages" in cluster.trace.record:
        counts = cluster.trace.messages()
        sent = counts[(counts.kind == "packet") & (counts.fate == "sent")]
        lives = cluster.trace.lives()
        node_s = (lives.ended_s.fillna(cluster.now / SECOND) - lives.began_s).sum()
        if node_s:
            packets, bytes_ = float(sent.messages.sum() / node_s), float(sent.bytes.sum() / node_s)
    return Outcome(
        seed,
        cluster.now / SECOND,
        len(cluster.running),
        cluster.converged(),
        cluster.agreement(),
        len(wronged.found),
        len({subject for _, _, subject in wronged.found}),
        packets,
        bytes_,
        cluster.steps,
        cluster.digest(),
        tuple(_deaths(deaths)),
    )


def _deaths(deaths: Deaths) -> Iterator[Death]:
    for found in deaths.found:
        times = (found.first_ping, found.first_suspicion, found.first_detection, found.full)
        ping, suspicion, detection, full = (
            None if time is None else time / SECOND for time in times
        )
        yield Death(
            found.victim,
            found.ended / SECOND,
            "left" if found.left else "killed",
            ping,
            suspicion,
            detection,
            full,
            len(found.known_at),
            found.witnesses,
        )
