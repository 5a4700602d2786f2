"""What any agent believes, read from its own mouth: a push/pull by somebody who is no member.

It works alike for both kinds and shows what no command does: who is under suspicion.
"""

from __future__ import annotations

import os
import socket

from swimsim.messages import PushPull
from swimsim.serf.messages import SerfState
from swimsim.wire import PLAIN, Envelope, serf, stream
from tests.interop.agents import HOST, Agent, Seen

ASK_S = 10.0


def believed(agent: Agent, envelope: Envelope = PLAIN) -> dict[str, Seen]:
    """Everybody whom memberlist's state of this agent has: alive, suspect, dead or left."""
    request = PushPull(join=False, states=(), user=serf.encode(SerfState(0, 0, 0)))
    port = int(agent.address.rpartition(":")[2])
    with socket.create_connection((HOST, port), timeout=ASK_S) as connection:
        connection.sendall(stream.encode(request, envelope, first=True, nonce=os.urandom(12)))
        decoder = stream.connected(envelope)
        while data := connection.recv(65_536):
            decoder, answer = stream.feed(decoder, data)
            if answer is not None:
                break
        else:
            raise stream.ended(decoder)
    assert isinstance(answer, PushPull), answer
    found = {}
    for member in answer.states:
        tags, _ = serf.decode_tags(member.peer.meta)  # those before a mistake, if there is one
        place = str(member.peer.address)
        found[str(member.peer.name)] = Seen(place, member.status.name.lower(), tags)
    return found
