"""What crashes real agents must not come out of ours: a real one lives beside it.

Every packet and stream of ``hostile.json`` and ``reject.json`` goes to our agent. Had it passed any
of the fatal ones on to its neighbour, that one would be gone; Serf 0.9.4 dies of thirteen of them
(``real_node`` in the vectors).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress

from swimsim.messages import User
from swimsim.wire import PLAIN, packet
from tests.interop.agents import HOST, Agent, Crew, Seen, until
from tests.interop.strangers import believed
from tests.wire.vectors import Vector, named, wire

GIVEN = [each for each in named("hostile", "reject").values() if not each.get("keys")]
FATAL = [each for each in GIVEN if each.get("real_node") == "crashes"]
ROUNDS = 3
SPREAD_S = 2.0  # for what our agent might pass on; at 10 gossip rounds a second


def port(agent: Agent) -> int:
    return int(agent.address.rpartition(":")[2])


def throw(agent: Agent, given: Iterable[Vector]) -> None:
    """Send it all of these, each as what it is."""
    for each in given:
        match each["kind"]:
            case "packet":
                send(agent, wire(each))
            case "serf":
                send(agent, packet.encode((User(wire(each)),), PLAIN, crc=False))
            case "stream":
                with suppress(OSError), socket.create_connection((HOST, port(agent)), 5) as peer:
                    peer.sendall(wire(each))
                    peer.shutdown(socket.SHUT_WR)
                    while peer.recv(65_536):
                        pass


def send(agent: Agent, data: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(data, (HOST, port(agent)))


def test_our_agent_survives_and_keeps_it_from_a_real_one(crew: Crew) -> None:
    real = crew.serf("serf-1", profile="lan")
    ours = crew.swimsim("ours-1", profile="lan", join=[real])
    alive = {each.name: Seen(each.address, "alive", {}) for each in crew.agents}
    until(lambda: real.members() == alive, "the two to meet")
    for _ in range(ROUNDS):  # the fatal first, as later the intruders are gossiped to as well
        throw(ours, FATAL)
        time.sleep(SPREAD_S / ROUNDS)
    for _ in range(ROUNDS):
        throw(ours, GIVEN)
        send(ours, os.urandom(1400))
        time.sleep(SPREAD_S / ROUNDS)
    time.sleep(SPREAD_S)
    assert ours.is_running, ours.log()
    assert real.is_running, real.log()[-3000:]
    for agent in crew.agents:
        told = believed(agent)
        assert {name: told[name] for name in alive} == alive
    told = real.members()
    assert {name: told[name] for name in alive} == alive
    assert ours.leave() == 0
    assert real.leave() == 0


def test_the_fatal_ones_are_fatal(crew: Crew) -> None:
    """Or else the test above would show nothing."""
    assert len(FATAL) >= 13
    real = crew.serf("serf-1")
    throw(real, FATAL[:1])
    until(lambda: not real.is_running, "a real agent to die of one packet")
    assert "panic" in real.log()
