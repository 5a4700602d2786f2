"""A whole run as a TOML file: what it says, what is wrong with it, what comes of it."""

from __future__ import annotations

import json
import tomllib
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import networkx as nx
import numpy as np
import pytest
from msgspec.structs import replace

from backends.sim import topology
from backends.sim.faults import Hosts, Kill, Leave
from backends.sim.network import Exponential, Matrix, Network
from backends.sim.scenario import Plan, ScenarioError, load, plan
from swimsim.config import LAN, LOCAL, PROFILES, WAN
from swimsim.terms import MS, SECOND, Micros

ROOT = Path(__file__).parents[2]
HEAD = 'until = "10s"\n'


def read(text: str, folder: Path = Path()) -> Plan:
    return plan(tomllib.loads(text), folder)


def refusal(text: str, folder: Path = Path()) -> str:
    with pytest.raises(ScenarioError) as caught:
        read(text, folder)
    return str(caught.value)


# --- defaults ------------------------------------------------------------------------------------


def test_a_scenario_needs_no_more_than_an_end() -> None:
    made = read('until = "3s"')
    assert made.scenario.until == 3 * SECOND
    assert made.scenario.seeds == (1,)
    assert made.scenario.stop == "never"
    assert made.scenario.faults == ()
    assert made.scenario.measure.record == ("events", "health", "messages")
    assert (made.config, made.network, made.meta) == (LAN, Network(), b"")
    cluster = made.build(1)
    assert (len(cluster.hosts), cluster.settled, len(cluster.seeds)) == (100, 100, 3)


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_taken_and_anything_can_be_set_on_top(name: str) -> None:
    made = read(f'{HEAD}[protocol]\nprofile = "{name}"\nsuspicion_mult = 9\ngossip_interval = "1s"')
    assert made.config == replace(PROFILES[name], suspicion_mult=9, gossip_interval=SECOND)


SETTINGS: dict[str, tuple[str, Any]] = {  # as written, as meant
    "duration": ('probe_timeout = "250ms"', {"probe_timeout": 250 * MS}),
    "flag": ("stream_ping = false", {"stream_ping": False}),
    "choice": ('suspicion_scale = "ln"', {"suspicion_scale": "ln"}),
    "optional": ("max_confirmations = 3", {"max_confirmations": 3}),
    "texts": ('allowed_networks = ["10.0.0.0/8"]', {"allowed_networks": ("10.0.0.0/8",)}),
    "versions": ("vsn = [1, 5, 2, 2, 5, 4]", {"vsn": bytes((1, 5, 2, 2, 5, 4))}),
    "never": ('push_pull_interval = "0"', {"push_pull_interval": 0}),
}


@pytest.mark.parametrize(("line", "meant"), SETTINGS.values(), ids=SETTINGS)
def test_settings_of_the_protocol(line: str, meant: dict[str, Any]) -> None:
    assert read(f"{HEAD}[protocol]\n{line}").config == replace(LAN, **meant)


def test_settings_of_the_cluster_reach_it() -> None:
    made = read(
        HEAD
        + '[cluster]\nnodes = ["a", "b", "c"]\nstart = "cold"\nseeds = 1\njoin_every = "1s"\n'
        + f'attributes = {{ zone = ["x", "y"] }}\nmetadata = "{b64encode(b"hello").decode()}"\n'
        + '[measure]\nrecord = ["packets"]\n'
    )
    cluster = made.build(7)
    assert [host.name for host in cluster.hosts] == ["a", "b", "c"]
    assert [host.attributes["zone"] for host in cluster.hosts] == ["x", "y", "x"]
    assert (cluster.seed, cluster.seeds, cluster.settled) == (7, ("a",), 0)
    assert (cluster.meta, cluster.trace.record) == (b"hello", ("packets",))
    cluster.run(1_500 * MS)
    assert [host.name for host in cluster.running] == ["a", "b"]


def test_settings_of_the_network_reach_it() -> None:
    made = read(
        HEAD
        + "[network]\nduplicate = 0.25\nreorder = 0.5\nreorder_delay = '3ms'\nbandwidth = 1000\n"
        + "queue = 77\nloss = { model = 'gilbert_elliott', loss = 0.1, burst = '2s' }\n"
        + "[[network.links]]\nsource = 'node-01'\nloss = 0.5\ndelay = '7ms'\n"
    )
    net = made.network
    assert (net.duplicate, net.reorder, net.reorder_delay) == (0.25, 0.5, 3 * MS)
    assert (net.bandwidth, net.queue) == (1000, 77)
    assert (net.loss.loss, net.loss.burst, net.loss.scope) == (0.1, 2 * SECOND, "link")  # type: ignore[union-attr]
    (link,) = net.links
    assert (link.source, link.target, link.loss, link.delay) == ("node-01", "*", 0.5, 7 * MS)
    assert net.latency == Exponential()


def test_links_may_name_nodes_that_are_yet_to_come() -> None:
    made = read(
        HEAD
        + "[network]\nlinks = [{ source = 'late', delay = '7ms' }]\n"
        + "[[faults]]\nkind = 'join'\nat = '1s'\nnames = ['late']\n"
    )
    assert made.network.links[0].source == "late"


def test_an_exponential_latency_without_numbers_is_the_lan() -> None:
    assert read(HEAD + '[network]\nlatency = { model = "exponential" }').network == Network()


# --- files that a scenario names -----------------------------------------------------------------


def matrix_file(folder: Path) -> str:
    rtt = np.array([[0, 10, 40], [12, 0, 30], [44, 30, 0]])
    np.savetxt(folder / "rtt.txt", rtt)
    return HEAD + '[network]\nlatency = { model = "matrix", file = "rtt.txt", jitter = 0.1 }\n'


def graph_file(folder: Path) -> str:
    nx.write_graphml(topology.zones(3, between_ms=5.0), folder / "net.graphml")
    return HEAD + '[network]\nlatency = { model = "graph", file = "net.graphml" }\n'


def serf_file(folder: Path) -> str:
    settings = {
        "profile": "wan",
        "tags": {"role": "web"},
        "encrypt_key": b64encode(bytes(16)).decode(),
        "broadcast_timeout": "9s",
        "reconnect_interval": "12s",
    }
    (folder / "agent.json").write_text(json.dumps(settings))
    return HEAD + '[protocol]\nconfig = "agent.json"\n'


def test_a_matrix_is_read_from_beside_the_scenario(tmp_path: Path) -> None:
    found = read(matrix_file(tmp_path), tmp_path).network.latency
    assert isinstance(found, Matrix)
    assert found.delays[0][1:] == (5 * MS, 20 * MS)
    assert found.jitter == 0.1


def test_a_graph_is_read_from_beside_the_scenario(tmp_path: Path) -> None:
    found = read(graph_file(tmp_path), tmp_path).network.latency
    assert isinstance(found, Matrix)
    assert found.places == (0, 1, 2), "routers are no hosts"
    assert found.delays[0][1] == 5_200


def test_zones_are_made() -> None:
    line = "latency = { model = 'zones', zones = 2, within = '1ms', between = '9ms', jitter = 0.0 }"
    found = read(f"{HEAD}[network]\n{line}").network.latency
    assert found == topology.graph_latency(topology.zones(2, within_ms=1, between_ms=9))


def test_a_rack_and_the_regions_are_made() -> None:
    rack = read(f"{HEAD}[network]\nlatency = {{ model = 'rack', port = '20us', jitter = 0.0 }}")
    assert rack.network.latency.sample(Random(0), 3, 900) == 40
    line = "latency = { model = 'regions', sites = 9, seed = 4, jitter = 0.2 }"
    found = read(f"{HEAD}[network]\n{line}").network.latency
    assert found == topology.graph_latency(topology.regions(9, seed=4), jitter=0.2)


def test_a_p2psim_topology_is_read_in_its_unit(tmp_path: Path) -> None:
    (tmp_path / "king").write_text("node 1\nnode 2\n1,2 7000\n")
    line = "latency = { model = 'matrix', file = 'king', unit = 'us' }"
    found = read(f"{HEAD}[network]\n{line}", tmp_path).network.latency
    assert isinstance(found, Matrix)
    assert found.delays[0][1] == 7 * MS


def test_a_serf_configuration_says_how_the_protocol_is_set(tmp_path: Path) -> None:
    text = serf_file(tmp_path) + "suspicion_mult = 3\n[[faults]]\nkind = 'leave'\nat = '1s'\n"
    made = read(text + "hosts = { random = 1 }", tmp_path)
    assert made.config == replace(
        WAN,
        encrypted=True,
        reconnect_interval=12 * SECOND,
        broadcast_timeout=9 * SECOND,
        suspicion_mult=3,
    )
    assert made.meta == bytes.fromhex("ff81a4726f6c65a3776562")
    assert made.scenario.faults == (Leave(at=SECOND, hosts=Hosts(random=1), timeout=9 * SECOND),)


def test_what_the_scenario_says_itself_goes_before_the_serf_configuration(tmp_path: Path) -> None:
    text = serf_file(tmp_path) + (
        "[cluster]\nmetadata = 'aGk='\n"
        "[[faults]]\nkind = 'leave'\nat = '1s'\nhosts = { random = 1 }\ntimeout = '2s'\n"
    )
    made = read(text, tmp_path)
    assert made.meta == b"hi"
    (leave,) = made.scenario.faults
    assert isinstance(leave, Leave)
    assert leave.timeout == 2 * SECOND


def test_a_scenario_is_loaded_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "s.toml").write_text(matrix_file(tmp_path / "deep"))
    monkeypatch.chdir(tmp_path)
    made = load(Path("deep/s.toml"))
    monkeypatch.chdir(ROOT)
    assert read(made.text()).network == made.network, "and its text names files from anywhere"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments" / "scenarios").glob("*.toml")), ids=lambda path: path.stem
)
def test_the_scenarios_to_start_from_are_sound(path: Path) -> None:
    made = load(path)
    assert made.scenario.title
    assert read(made.text()).text() == made.text()


# --- what is wrong, in one line ------------------------------------------------------------------

DURATION = 'expected a duration such as "500ms" or "1h30m", got'


def kill(hosts: str) -> str:
    return f'[[faults]]\nkind = "kill"\nat = "1s"\nhosts = {hosts}\n'


ERRORS: dict[str, tuple[str, str]] = {  # what follows the head; the line
    # the scenario
    "unknown key": ("untill = 3", 'untill: unknown key, did you mean "until"?'),
    "unknown table": ("[clusters]\nnodes = 3", 'clusters: unknown key, did you mean "cluster"?'),
    "seeds, none": ("seeds = []", "seeds: expected at least one, and each of them once"),
    "seeds, a text": ('seeds = [1, "x"]', "seeds[1]: expected a whole number, got 'x'"),
    "seeds, no list": ("seeds = 3", "seeds: expected a list, got 3"),
    "stop": (
        'stop = "soon"',
        'stop: expected one of "never", "converged", "detected", got \'soon\'',
    ),
    "title": ("title = 3", "title: expected a text, got 3"),
    # the cluster
    "cluster": ("cluster = 3", "cluster: expected a table, got 3"),
    "cluster, unknown key": (
        "[cluster]\nnodez = 3",
        'cluster.nodez: unknown key, did you mean "nodes"?',
    ),
    "cluster, nothing like it": (
        "[cluster]\nxyzzy = 3",
        "cluster.xyzzy: unknown key, expected one of "
        "nodes, start, seeds, join_every, attributes, wire, metadata",
    ),
    "nodes, none": ("[cluster]\nnodes = 0", "cluster.nodes: expected 1 to 1000000, got 0"),
    "nodes, too many": (
        "[cluster]\nnodes = 100000000000",
        "cluster.nodes: expected 1 to 1000000, got 100000000000",
    ),
    "nodes, everybody": (
        '[cluster]\nnodes = ["a", "*"]',
        "cluster.nodes: expected a name of 1 to 128 bytes, not '*', got '*'",
    ),
    "nodes, fewer": ("[cluster]\nnodes = -3", "cluster.nodes: expected 1 to 1000000, got -3"),
    "nodes, a text": (
        '[cluster]\nnodes = "many"',
        "cluster.nodes: expected a whole number or a list, got 'many'",
    ),
    "nodes, no names": (
        "[cluster]\nnodes = []",
        "cluster.nodes: expected names, each of them once",
    ),
    "nodes, a name twice": (
        '[cluster]\nnodes = ["a", "b", "a"]',
        "cluster.nodes: expected names, each of them once",
    ),
    "nodes, a number": (
        '[cluster]\nnodes = ["a", 1]',
        "cluster.nodes[1]: expected a text, got 1",
    ),
    "cluster seeds": ("[cluster]\nseeds = 0", "cluster.seeds: expected at least 1, got 0"),
    "start": (
        '[cluster]\nstart = "tepid"',
        'cluster.start: expected one of "warm", "cold", got \'tepid\'',
    ),
    "join every": ("[cluster]\njoin_every = 3", f"cluster.join_every: {DURATION} 3"),
    "attributes, empty": (
        "[cluster]\nattributes = { zone = [] }",
        "cluster.attributes.zone: expected at least one value",
    ),
    "attributes, a text": (
        '[cluster]\nattributes = { zone = "abc" }',
        "cluster.attributes.zone: expected a list, got 'abc'",
    ),
    "attributes, a number": (
        '[cluster]\nattributes = { zone = ["a", 3] }',
        "cluster.attributes.zone[1]: expected a text, got 3",
    ),
    "metadata, no base64": (
        '[cluster]\nmetadata = "!!"',
        "cluster.metadata: expected a text in base64, got '!!'",
    ),
    "metadata, too long": (
        f'[cluster]\nmetadata = "{"AAAA" * 171}"',
        "cluster.metadata: expected at most 512 bytes, got 513",
    ),
    # the protocol
    "protocol, unknown key": (
        '[protocol]\nprobe_intervall = "1s"',
        'protocol.probe_intervall: unknown key, did you mean "probe_interval"?',
    ),
    "protocol, unit": ("[protocol]\nprobe_interval = 3", f"protocol.probe_interval: {DURATION} 3"),
    "protocol, wrong unit": (
        '[protocol]\nprobe_interval = "3 parsecs"',
        f"protocol.probe_interval: {DURATION} '3 parsecs'",
    ),
    "protocol, negative": (
        '[protocol]\nprobe_interval = "-1s"',
        "protocol.probe_interval: expected a duration that is not negative, got '-1s'",
    ),
    "protocol, zero": (
        '[protocol]\nprobe_interval = "0s"',
        "protocol.probe_interval is 0, expected at least 1",
    ),
    "protocol, choice": (
        '[protocol]\nprobe_order = "by name"',
        'protocol.probe_order: expected one of "round_robin", "random", got \'by name\'',
    ),
    "protocol, flag": (
        "[protocol]\nstagger = 1",
        "protocol.stagger: expected true or false, got 1",
    ),
    "versions, too few": ("[protocol]\nvsn = [1, 2, 3]", "protocol.vsn has 3 bytes, expected 6"),
    "versions, no bytes": (
        "[protocol]\nvsn = [1, 5, 2, 2, 5, 300]",
        "protocol.vsn: expected six numbers from 0 to 255",
    ),
    "networks": (
        '[protocol]\nallowed_networks = ["nope"]',
        "protocol.allowed_networks: 'nope' does not appear to be an IPv4 or IPv6 network",
    ),
    "unknown profile": (
        '[protocol]\nprofile = "man"',
        'protocol.profile: expected one of "lan", "wan", "local", "swim2002", got \'man\'',
    ),
    "profile and configuration": (
        '[protocol]\nprofile = "lan"\nconfig = "agent.json"',
        "protocol.config: the Serf configuration names the profile itself",
    ),
    # the network
    "network, unknown key": (
        "[network]\nlatencyy = 3",
        'network.latencyy: unknown key, did you mean "latency"?',
    ),
    "latency, a text": (
        '[network]\nlatency = "1ms"',
        "network.latency: expected a table, got '1ms'",
    ),
    "latency, no model": (
        '[network]\nlatency = { delay = "1ms" }',
        "network.latency.model: missing",
    ),
    "latency, model": (
        '[network]\nlatency = { model = "warp" }',
        'network.latency.model: expected one of "constant", "uniform", "exponential", '
        '"lognormal", "matrix", "graph", "rack", "zones", "regions", got \'warp\'',
    ),
    "latency, key of a model": (
        '[network]\nlatency = { model = "constant", dely = "1ms" }',
        'network.latency.dely: unknown key, did you mean "delay"?',
    ),
    "latency, missing": (
        '[network]\nlatency = { model = "uniform", low = "3ms" }',
        "network.latency.high: missing",
    ),
    "latency, order": (
        '[network]\nlatency = { model = "uniform", low = "3ms", high = "1ms" }',
        "network.latency: high is 1000 us, below low",
    ),
    "latency, unit": (
        '[network]\nlatency = { model = "constant", delay = 3 }',
        f"network.latency.delay: {DURATION} 3",
    ),
    "regions": (
        '[network]\nlatency = { model = "regions", sites = 0 }',
        "network.latency.sites is 0, expected 1 to 1024",
    ),
    "zones": (
        '[network]\nlatency = { model = "zones", zones = 0 }',
        "network.latency.zones is 0, expected 1 to 256",
    ),
    "loss, a number": ("[network]\nloss = 0.5", "network.loss: expected a table, got 0.5"),
    "loss, above one": (
        '[network]\nloss = { model = "bernoulli", loss = 1.5 }',
        "network.loss: loss is 1.5, expected 0 to 1",
    ),
    "loss, missing": ('[network]\nloss = { model = "bernoulli" }', "network.loss.loss: missing"),
    "loss, model": (
        '[network]\nloss = { model = "bernouli", loss = 0.5 }',
        'network.loss.model: expected one of "bernoulli", "gilbert_elliott", got \'bernouli\'',
    ),
    "loss, for ever": (
        '[network]\nloss = { model = "gilbert_elliott", loss = 1.0 }',
        "network.loss: expected a loss below 1 and a burst above zero",
    ),
    "duplicate": (
        "[network]\nduplicate = 2",
        "network.duplicate is 2.0, expected 0 to 1",
    ),
    "bandwidth": (
        "[network]\nbandwidth = -2",
        "network.bandwidth is -2, expected at least 0",
    ),
    "link, loss": (
        "[[network.links]]\nloss = 2.0",
        "network.links[0]: loss is 2.0, expected 0 to 1",
    ),
    "jitter": (
        '[network]\nlatency = { model = "zones", jitter = nan }',
        "network.latency: jitter is nan, expected 0 to 10",
    ),
    "sigma": (
        '[network]\nlatency = { model = "lognormal", median = "1ms", sigma = inf }',
        "network.latency: sigma is inf, expected 0 to 10",
    ),
    "zones, too many": (
        '[network]\nlatency = { model = "zones", zones = 100000 }',
        "network.latency.zones is 100000, expected 1 to 256",
    ),
    "link, nobody": (
        '[[network.links]]\n[[network.links]]\ntarget = "ghost"',
        "network.links[1]: no node is called 'ghost'",
    ),
    # faults
    "fault, nobody": (
        '[[faults]]\nkind = "kill"\nat = "1s"\nhosts = { names = [] }',
        "faults[0].hosts: expected names, where, random or share (1.0 is all nodes)",
    ),
    "fault, somebody twice": (
        kill('{ names = ["node-01", "node-01"] }'),
        "faults[0].hosts: names: expected each of them once",
    ),
    "heal, of no partition": (
        '[[faults]]\nkind = "heal"\nat = "1s"\nname = "east"',
        "faults[0].name: no partition is called 'east'",
    ),
    "join, no name": (
        '[[faults]]\nkind = "join"\nat = "1s"\nnames = [""]',
        "faults[0].names: expected a name of 1 to 128 bytes, not '*', got ''",
    ),
    "churn, endless": (
        '[[faults]]\nkind = "churn"\nat = "1s"\nrate = inf\ndowntime = "1s"\nuntil = "2s"',
        "faults[0]: rate is inf, expected more than 0, at most 60000000",
    ),
    "faults": ("faults = 3", "faults: expected a list, got 3"),
    "fault, a number": ("faults = [3]", "faults[0]: expected a table, got 3"),
    "fault, no kind": ('[[faults]]\nat = "1s"', "faults[0].kind: missing"),
    "fault, kind": (
        '[[faults]]\nkind = "nuke"\nat = "1s"',
        'faults[0].kind: expected one of "kill", "restart", "pause", "slow", "leave", "join", '
        '"flap", "partition", "heal", "degrade", "churn", got \'nuke\'',
    ),
    "fault, no time": ('[[faults]]\nkind = "heal"', "faults[0].at: missing"),
    "fault, unit": ('[[faults]]\nkind = "heal"\nat = 1', f"faults[0].at: {DURATION} 1"),
    "fault, negative time": (
        '[[faults]]\nkind = "heal"\nat = "-1s"',
        "faults[0].at: expected a duration that is not negative, got '-1s'",
    ),
    "fault, after the end": (
        '[[faults]]\nkind = "heal"\nat = "1m30s"',
        "faults[0].at: 1m30s is after the end of the run",
    ),
    "fault, unknown key": (
        '[[faults]]\nkind = "pause"\nat = "1s"\nhosts = {}\nduraton = "1s"',
        'faults[0].duraton: unknown key, did you mean "duration"?',
    ),
    "fault, in its place": (
        kill("{}") + '[[faults]]\nkind = "heal"\nat = "1s"\nnam = "x"',
        'faults[1].nam: unknown key, did you mean "name"?',
    ),
    "fault, choice": (
        '[[faults]]\nkind = "pause"\nat = "1s"\nhosts = {}\nduration = "1s"\nhow = "sleep"',
        'faults[0].how: expected one of "block", "stop", got \'sleep\'',
    ),
    "unknown host": (
        kill('{ names = ["node-0"] }'),
        "faults[0].hosts.names: no node is called 'node-0'",
    ),
    "hosts, a list": (kill('["node-00"]'), "faults[0].hosts: expected a table, got ['node-00']"),
    "hosts, unknown key": (
        kill('{ name = ["node-00"] }'),
        'faults[0].hosts.name: unknown key, did you mean "names"?',
    ),
    "hosts, too many": (
        kill("{ random = 101 }"),
        "faults[0].hosts.random: 101 of 100 nodes wanted",
    ),
    "hosts, share": (
        kill("{ share = 1.5 }"),
        "faults[0].hosts: expected random at least 0 and share from 0 to 1",
    ),
    "hosts, both": (
        kill("{ share = 0.5, random = 1 }"),
        "faults[0].hosts: random and share exclude each other",
    ),
    "hosts, attribute": (
        kill('{ where = { zone = "a" } }'),
        "faults[0].hosts.where: no node has zone = 'a'",
    ),
    "partition, no groups": (
        '[[faults]]\nkind = "partition"\nat = "1s"\ngroups = []',
        "faults[0]: groups is empty, expected at least one",
    ),
    "partition, overlap": (
        '[[faults]]\nkind = "partition"\nat = "1s"\ngroups = [{ names = ["node-01", "node-02"] }, '
        '{ names = ["node-03"] }, { names = ["node-02"] }]',
        "faults[0].groups: groups 0 and 2 overlap, 'node-02' is in both",
    ),
    "partition, unknown host": (
        '[[faults]]\nkind = "partition"\nat = "1s"\n'
        'groups = [{ share = 0.1 }, { names = ["ghost"] }]',
        "faults[0].groups[1].names: no node is called 'ghost'",
    ),
    "partition, what it hits": (
        '[[faults]]\nkind = "partition"\nat = "1s"\ngroups = [{ random = 1 }]\nhits = ["birds"]',
        'faults[0].hits[0]: expected one of "packets", "streams", got \'birds\'',
    ),
    "join, there already": (
        '[[faults]]\nkind = "join"\nat = "1s"\nnames = ["x", "node-01"]',
        "faults[0].names: 'node-01' is there already",
    ),
    "join, twice": (
        '[[faults]]\nkind = "join"\nat = "1s"\nnames = ["x", "x"]',
        "faults[0].names: 'x' is there already",
    ),
    "before it joins": (
        kill('{ names = ["x"] }') + '[[faults]]\nkind = "join"\nat = "3s"\nnames = ["x"]',
        "faults[0].hosts.names: no node is called 'x'",
    ),
    "degrade, unknown host": (
        '[[faults]]\nkind = "degrade"\nat = "1s"\nduration = "1s"\nlinks = [{ source = "ghost" }]',
        "faults[0].links[0]: no node is called 'ghost'",
    ),
    "degrade, loss": (
        '[[faults]]\nkind = "degrade"\nat = "1s"\nduration = "1s"\nlinks = [{ loss = 7.0 }]',
        "faults[0].links[0]: loss is 7.0, expected 0 to 1",
    ),
    "churn of nobody": (
        '[[faults]]\nkind = "churn"\nat = "1s"\nrate = 0\ndowntime = "1s"\nuntil = "3s"',
        "faults[0]: rate is 0.0, expected more than 0, at most 60000000",
    ),
    "flap without time": (
        '[[faults]]\nkind = "flap"\nat = "1s"\nhosts = {}\ndown = "0s"\nup = "0s"\nuntil = "3s"',
        "faults[0]: down and up are both 0, expected a cycle that takes time",
    ),
    # measuring
    "record": (
        '[measure]\nrecord = ["everything"]',
        'measure.record[0]: expected one of "events", "health", "messages", "packets", "serf", '
        "got 'everything'",
    ),
    "record, a text": (
        '[measure]\nrecord = "events"',
        "measure.record: expected a list, got 'events'",
    ),
}


@pytest.mark.parametrize(("text", "line"), ERRORS.values(), ids=ERRORS)
def test_what_is_wrong_is_said_in_one_line(text: str, line: str) -> None:
    # A top-level key must come before the tables, so the head comes last where that is no table.
    assert refusal(HEAD + text) == line


UNTILS: dict[str, tuple[str, str]] = {
    "missing": ("", "until: missing"),
    "a number": ("until = 10", f"until: {DURATION} 10"),
    "no unit": ('until = "10"', f"until: {DURATION} '10'"),
    "wrong unit": ('until = "10 parsecs"', f"until: {DURATION} '10 parsecs'"),
    "zero": ('until = "0s"', "until: expected more than zero"),
    "negative": ('until = "-3s"', "until: expected a duration that is not negative, got '-3s'"),
}


@pytest.mark.parametrize(("text", "line"), UNTILS.values(), ids=UNTILS)
def test_the_end_must_be_sound(text: str, line: str) -> None:
    assert refusal(text) == line


FILES: dict[str, tuple[str, dict[str, str | bytes], str]] = {
    # what follows the head; files beside it; the line, {} for their folder
    "missing configuration": (
        '[protocol]\nconfig = "agent.json"',
        {},
        "protocol.config: {}/agent.json: No such file or directory",
    ),
    "broken JSON": (
        '[protocol]\nconfig = "agent.json"',
        {"agent.json": '{"tags": '},
        "protocol.config: {}/agent.json: not JSON: Expecting value: line 1 column 10 (char 9)",
    ),
    "JSON in bytes": (
        '[protocol]\nconfig = "agent.json"',
        {"agent.json": b"\xff\xfe"},
        "protocol.config: {}/agent.json: 'utf-8' codec can't decode byte 0xff in position 0: "
        "invalid start byte",
    ),
    "unknown Serf key": (
        '[protocol]\nconfig = "agent.json"',
        {"agent.json": '{"node_nam": "x"}'},
        "protocol.config: {}/agent.json: node_nam: Serf has no such key",
    ),
    "tags too long": (
        '[protocol]\nconfig = "agent.json"',
        {"agent.json": json.dumps({"tags": {"a": "x" * 600}})},
        "protocol.config: {}/agent.json: tags: Encoded length of tags exceeds limit of 512 bytes",
    ),
    "missing matrix": (
        '[network]\nlatency = { model = "matrix", file = "rtt.txt" }',
        {},
        "network.latency.file: {}/rtt.txt: No such file or directory",
    ),
    "matrix that is not square": (
        '[network]\nlatency = { model = "matrix", file = "rtt.txt" }',
        {"rtt.txt": "0 1 2\n1 0 2\n"},
        "network.latency.file: {}/rtt.txt: expected 3 rows, as many as columns, got 2",
    ),
    "missing graph": (
        '[network]\nlatency = { model = "graph", file = "net.graphml" }',
        {},
        "network.latency.file: {}/net.graphml: No such file or directory",
    ),
    "graph that is no XML": (
        '[network]\nlatency = { model = "graph", file = "net.graphml" }',
        {"net.graphml": "hello"},
        "network.latency.file: {}/net.graphml: syntax error: line 1, column 0",
    ),
    "graph without latencies": (
        '[network]\nlatency = { model = "graph", file = "net.graphml" }',
        {
            "net.graphml": '<graphml xmlns="http://graphml.graphdrawing.org/xmlns"><graph '
            'edgedefault="undirected"><node id="a"/><node id="b"/>'
            '<edge source="a" target="b"/></graph></graphml>'
        },
        "network.latency.file: {}/net.graphml: "
        "edge a - b: latency_ms is None, expected milliseconds",
    ),
}


@pytest.mark.parametrize(("text", "files", "line"), FILES.values(), ids=FILES)
def test_what_is_wrong_with_a_file_names_the_file(
    tmp_path: Path, text: str, files: dict[str, str | bytes], line: str
) -> None:
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
    assert refusal(HEAD + text, tmp_path) == line.format(tmp_path, "{}")


NOT_TOML: dict[str, tuple[str | bytes, str]] = {
    "syntax": ("until = \n", "not TOML: Invalid value (at line 1, column 9)"),
    "a key twice": ('until = "1s"\nuntil = "2s"\n', "not TOML: Cannot overwrite a value"),
    "bytes": (b"\xff\xfe", "not TOML: 'utf-8' codec can't decode byte 0xff"),
    "sound TOML": ('until = "0s"', "until: expected more than zero"),
}


@pytest.mark.parametrize(("content", "line"), NOT_TOML.values(), ids=NOT_TOML)
def test_load_names_the_file_too(tmp_path: Path, content: str | bytes, line: str) -> None:
    path = tmp_path / "s.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ScenarioError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: {line}")
    assert "\n" not in str(caught.value)


def test_a_scenario_that_is_not_there_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.toml")


def test_a_random_choice_that_finds_too_few_is_said_with_its_time() -> None:
    made = read(
        HEAD + "[cluster]\nnodes = 4\n" + kill("{ random = 3 }")
        + '[[faults]]\nkind = "kill"\nat = "5s"\nhosts = { random = 2 }\n'
    )  # fmt: skip
    with pytest.raises(ScenarioError) as caught:
        made.run(1)
    assert str(caught.value) == "faults: at 5s: 2 random hosts wanted, 1 are up"


# --- its text runs the same ----------------------------------------------------------------------

FAULTS = """
[[faults]]
kind = "kill"
at = "2s"
hosts = { names = ["node-03"] }
[[faults]]
kind = "restart"
at = "12s"
hosts = { names = ["node-03"] }
[[faults]]
kind = "partition"
at = "3s"
groups = [{ where = { zone = "a" } }, { where = { zone = "b" } }]
heal_after = "4s"
hits = ["packets"]
[[faults]]
kind = "pause"
at = "4s"
hosts = { random = 1 }
duration = "5s"
how = "stop"
drain = "1ms"
[[faults]]
kind = "slow"
at = "5s"
hosts = { share = 0.2 }
duration = "5s"
service = "20ms"
[[faults]]
kind = "join"
at = "6s"
names = ["late-1", "late-2"]
attributes = { zone = "a" }
every = "1s"
[[faults]]
kind = "degrade"
at = "7s"
links = [{ source = "node-01", loss = 0.5, delay = "3ms" }]
duration = "3s"
[[faults]]
kind = "flap"
at = "8s"
hosts = { names = ["node-05"] }
down = "1s"
up = "2s"
until = "14s"
[[faults]]
kind = "churn"
at = "9s"
rate = 30
downtime = "2s"
until = "15s"
[[faults]]
kind = "leave"
at = "10s"
hosts = { names = ["node-07"] }
[[faults]]
kind = "heal"
at = "11s"
"""

CLUSTER = '[cluster]\nnodes = 12\nattributes = { zone = ["a", "b", "c"] }\n'

TEXTS: dict[str, Callable[[Path], str]] = {
    "plain": lambda folder: HEAD,
    "matrix": matrix_file,
    "graph": graph_file,
    "zones": lambda folder: HEAD + '[network]\nlatency = { model = "zones", between = "3ms" }\n',
    "rack": lambda folder: HEAD + '[network]\nlatency = { model = "rack", port = "20us" }\n',
    "regions": lambda folder: HEAD + '[network]\nlatency = { model = "regions", sites = 9 }\n',
    "Serf configuration": serf_file,
    "much of the rest": lambda folder: (
        HEAD
        + 'title = "all \\"sorts\\""\nseeds = [3, 4]\nstop = "converged"\n'
        + '[protocol]\nprofile = "local"\nmax_confirmations = 2\nstagger = false\n'
        + 'allowed_networks = ["10.0.0.0/8"]\n[network]\nduplicate = 0.1\nbandwidth = 1000000\n'
        + 'latency = { model = "lognormal", median = "3ms" }\n'
        + 'loss = { model = "gilbert_elliott", loss = 0.05, scope = "node", hits = ["packets"] }\n'
        + '[[network.links]]\nsource = "node-01"\ndelay = "1ms"\n'
        + '[measure]\nrecord = ["events", "packets"]\n'
    ),
}


@pytest.mark.parametrize("make", TEXTS.values(), ids=TEXTS)
def test_the_text_of_a_scenario_runs_to_the_same_digest(
    tmp_path: Path, make: Callable[[Path], str]
) -> None:
    text = make(tmp_path).replace('"10s"', '"17s"') + CLUSTER + FAULTS
    made = read(text, tmp_path)
    again = read(made.text())
    assert (again.config, again.network, again.meta) == (made.config, made.network, made.meta)
    assert again.scenario.faults == made.scenario.faults
    first, cluster = made.run(5)
    second, _ = again.run(5)
    assert first == second
    assert first.digest == cluster.digest()
    assert again.text() == made.text(), "a text of a text is that text"


def test_the_text_says_every_default() -> None:
    told = tomllib.loads(read(HEAD).text())
    assert told["protocol"]["probe_interval"] == "1s"
    assert told["protocol"]["suspicion_mult"] == 4
    assert told["network"]["latency"] == {"model": "exponential", "floor": "250us", "mean": "100us"}
    assert told["cluster"]["nodes"] == 100
    assert told["measure"]["record"] == ["events", "health", "messages"]
    assert len(told["protocol"]) >= len(LAN.__struct_fields__) - 1, "all but what has no value"


def test_a_scenario_runs_as_the_cluster_that_it_describes() -> None:
    made = read(HEAD + "[cluster]\nnodes = 8\n" + kill('{ names = ["node-3"] }'))
    _, cluster = made.run(4)
    by_hand = made.build(4)
    by_hand.run(10 * SECOND)
    assert by_hand.digest() == cluster.digest()
    assert cluster.now == 10 * SECOND


def test_every_seed_is_another_run_and_each_one_run() -> None:
    made = read(HEAD + "[cluster]\nnodes = 8\n" + kill("{ random = 1 }"))
    outcomes = [made.run(seed)[0] for seed in (1, 2, 3, 1)]
    assert outcomes[0] == outcomes[3]
    assert len({outcome.digest for outcome in outcomes}) == 3
    assert [outcome.seed for outcome in outcomes] == [1, 2, 3, 1]


# --- when it stops -------------------------------------------------------------------------------


def stopped(stop: str, text: str, until: str = "120s") -> tuple[Any, Any]:
    return read(f'until = "{until}"\nstop = "{stop}"\n{text}').run(1)


EIGHT = "[cluster]\nnodes = 8\n"


@pytest.mark.parametrize(("stop", "least", "most"), [("never", 120, 120), ("detected", 4, 30)])
def test_a_run_may_stop_when_everybody_knows_of_the_dead(stop: str, least: int, most: int) -> None:
    outcome, cluster = stopped(stop, EIGHT + kill('{ names = ["node-3"] }'))
    assert least <= outcome.simulated_s <= most
    (death,) = outcome.deaths
    assert death.full_s is not None
    assert death.full_s <= outcome.simulated_s
    if stop == "detected":
        assert cluster.believed("node-3")["dead"] == 7


def test_a_run_may_stop_when_all_agree_again() -> None:
    cut = '[[faults]]\nkind = "partition"\nat = "1s"\ngroups = [{ share = 0.5 }]\n'
    outcome, cluster = stopped("converged", EIGHT + cut + 'heal_after = "20s"\n', "600s")
    assert 21 < outcome.simulated_s < 600
    assert outcome.converged
    assert cluster.converged()


def test_without_faults_there_is_nothing_to_wait_for() -> None:
    assert stopped("converged", EIGHT)[0].simulated_s <= 2
    assert stopped("detected", EIGHT)[0].simulated_s <= 2


LASTING: dict[str, tuple[str, Micros]] = {  # a fault, and when the last of it happens
    "a kill to come": ('[[faults]]\nkind = "kill"\nat = "30s"\nhosts = { random = 1 }\n', 30),
    "a pause": (
        '[[faults]]\nkind = "pause"\nat = "1s"\nhosts = { random = 1 }\nduration = "40s"\n',
        41,
    ),
    "a degradation": (
        '[[faults]]\nkind = "degrade"\nat = "1s"\nlinks = [{}]\nduration = "40s"\n',
        41,
    ),
    "a cut": (
        '[[faults]]\nkind = "partition"\nat = "1s"\ngroups = [{ random = 1 }]\n'
        'heal_after = "40s"\n',
        41,
    ),
    "newcomers one by one": (
        '[[faults]]\nkind = "join"\nat = "1s"\nnames = ["x", "y", "z"]\nevery = "15s"\n',
        31,
    ),
    "the last turn of a flap": (
        '[[faults]]\nkind = "flap"\nat = "1s"\nhosts = { random = 1 }\ndown = "40s"\nup = "1s"\n'
        'until = "10s"\n',
        41,
    ),
}


@pytest.mark.parametrize("stop", ["converged", "detected"])
@pytest.mark.parametrize(("fault", "over"), LASTING.values(), ids=LASTING)
def test_a_run_does_not_stop_before_its_faults_are_over(fault: str, over: int, stop: str) -> None:
    outcome, _ = stopped(stop, EIGHT + fault, "300s")
    assert outcome.simulated_s >= over


@pytest.mark.parametrize("stop", ["converged", "detected"])
def test_a_cold_run_does_not_stop_before_all_have_started(stop: str) -> None:
    cold = '[cluster]\nnodes = 6\nstart = "cold"\njoin_every = "5s"\n'
    outcome, cluster = stopped(stop, cold)
    assert outcome.nodes == 6
    assert cluster.now > 25 * SECOND


def test_a_run_tells_how_far_it_is() -> None:
    told: list[Micros] = []
    read('until = "3500ms"\n' + EIGHT).run(1, told.append)
    assert told == [1 * SECOND, 2 * SECOND, 3 * SECOND, 3_500 * MS]


# --- what came of it -----------------------------------------------------------------------------


def test_an_outcome_says_what_happened() -> None:
    outcome, cluster = read(
        'until = "60s"\n[cluster]\nnodes = 8\n'
        + kill('{ names = ["node-3"] }')
        + '[[faults]]\nkind = "leave"\nat = "20s"\nhosts = { names = ["node-5"] }\n'
    ).run(2)
    assert (outcome.seed, outcome.simulated_s, outcome.nodes) == (2, 60.0, 6)
    assert (outcome.converged, outcome.agreement) == (True, 1.0)
    assert (outcome.false_positives, outcome.flaws) == (0, 0)
    assert (outcome.steps, outcome.digest) == (cluster.steps, cluster.digest())
    killed, left = outcome.deaths
    assert (killed.victim, killed.how, killed.ended_s) == ("node-3", "killed", 1.0)
    assert (killed.knew, killed.witnesses) == (7, 7)
    assert killed.first_ping_s is not None
    assert killed.first_suspicion_s is not None
    assert killed.first_detection_s is not None
    assert killed.full_s is not None
    assert (
        1.0 < killed.first_ping_s < killed.first_suspicion_s < killed.first_detection_s
        <= killed.full_s
    )  # fmt: skip
    assert (left.victim, left.how, left.ended_s) == ("node-5", "left", 20.0)
    assert (left.first_suspicion_s, left.knew) == (None, 6)


def test_a_long_pause_makes_false_positives_and_one_flaw() -> None:
    outcome, _ = read(
        'until = "40s"\n[cluster]\nnodes = 8\n'
        + '[[faults]]\nkind = "pause"\nat = "1s"\nhosts = { names = ["node-3"] }\n'
        + 'duration = "30s"\n'
    ).run(2)
    assert outcome.flaws == 1
    assert outcome.false_positives >= 7


def test_packets_and_bytes_are_counted_for_each_node_and_second() -> None:
    outcome, cluster = read('until = "40s"\n[cluster]\nnodes = 20').run(3)
    # F13 of spec experiments.md: 2.000 sent for each node and period without loss
    assert outcome.packets_per_node_s == pytest.approx(2.0, rel=0.01)
    counts = cluster.trace.messages()
    sent = counts[(counts.kind == "packet") & (counts.fate == "sent")]
    assert outcome.bytes_per_node_s == pytest.approx(sent.bytes.sum() / 20 / 40)


def test_they_are_unknown_when_messages_were_not_recorded() -> None:
    outcome, _ = read(HEAD + '[cluster]\nnodes = 3\n[measure]\nrecord = ["events"]').run(1)
    assert (outcome.packets_per_node_s, outcome.bytes_per_node_s) == (None, None)


@pytest.mark.parametrize("until", [1, 4])
def test_a_cold_start_does_not_spoil_the_rate(until: int) -> None:
    # All nodes begin at 0 and run to the end: as many node-seconds as nodes times seconds.
    cold = f'until = "{until}s"\n[cluster]\nnodes = 20\nstart = "cold"\n'
    outcome, cluster = read(cold).run(3)
    counts = cluster.trace.messages()
    sent = counts[(counts.kind == "packet") & (counts.fate == "sent")].messages.sum()
    assert outcome.packets_per_node_s == pytest.approx(sent / 20 / until, rel=0.02)


def test_a_run_in_which_nobody_runs_has_no_rate() -> None:
    everybody = '[[faults]]\nkind = "kill"\nat = "0s"\nhosts = { share = 1.0 }\n'
    outcome, _ = read(HEAD + "[cluster]\nnodes = 3\n" + everybody).run(1)
    assert outcome.nodes == 0
    assert outcome.packets_per_node_s in (None, 0.0)


def test_plans_can_be_made_of_faults_and_data_alike() -> None:
    raw: dict[str, Any] = {
        "until": "5s",
        "cluster": {"nodes": 4},
        "protocol": {"profile": "local"},
        "faults": [{"kind": "kill", "at": "1s", "hosts": {"names": ["node-1"]}}],
    }
    made = plan(raw)
    assert made.scenario.faults == (Kill(at=SECOND, hosts=Hosts(names=("node-1",))),)
    assert made.config == LOCAL
