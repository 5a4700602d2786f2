"""What an agent remembers of its own life, so that it can say why it believes what it believes.

It stands where ``swimsim.node.step`` would stand, as the flight recorder does (and in front of
one, if there is one), and keeps steps in memory: the last ones all, of those before only what
bore on a member's status, and of a probe round that went wrong its beginning. ``swimsim.story``
tells a member's story from them. States share structure, so a step costs little; what a push/pull
brought counts by its size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from backends.udp.runtime import Journal
from swimsim import node as protocol
from swimsim.effects import Conflict, Emit
from swimsim.inputs import Exchanged, ExchangeFailed, ExchangeRequested, Input
from swimsim.journal import START, Replayed
from swimsim.messages import PushPull
from swimsim.node import Node, Step
from swimsim.story import at, standing, story
from swimsim.terms import Micros, NodeId

RECENT = 1_024  # steps that are kept whatever they are
WEIGHT = 100_000  # of all that is kept; a step weighs one and one for each member it tells of


class History:
    """The recent life of one node."""

    def __init__(self) -> None:
        self._step = protocol.step
        self._number = 0
        self._recent: deque[Replayed] = deque()
        self._telling: deque[Replayed] = deque()
        self._weight = 0
        self._opening: Replayed | None = None  # of the probe round in flight
        self._keep: set[int] = set()  # numbers of such, of rounds that went wrong

    def record(self, journal: Journal) -> None:
        """Have a flight recorder see every step as well."""
        self._step = journal.step

    def step(self, node: Node, now: Micros, input: Input) -> Step:
        """``swimsim.node.step``, remembered."""
        after, effects = self._step(node, now, input)
        self._number += 1
        resumed = START if self._number == 1 else ""
        self._take(Replayed(self._number, now, input, node, effects, after, resumed=resumed))
        return after, effects

    def why(self, member: str, now: Micros) -> list[str]:
        """The member's story, and how it stands, in lines; times are seconds ago.

        No lines: nobody of this name was ever heard of.
        """
        steps = [*self._telling, *self._recent]
        if not steps:
            return []
        name = NodeId(member)
        lines = []
        told = list(story(_resumed(steps), name))
        if len(told) == 1 and standing(steps[-1].after, name) == "unknown":
            return []
        for entry in told:
            ago = f"{(now - entry.now) / 1_000_000:10.3f} s ago"
            lines.append(f"{ago}  {entry.status:<8} health {entry.health}  {entry.arrived}")
            lines += [f"{'':28}{found}" for found in entry.changed]
        lines.append(f"now: {member} is {standing(steps[-1].after, name)}")
        lines.append(f"(where a line names an instant: it is now {at(now)} by the agent's clock)")
        return lines

    def _take(self, step: Replayed) -> None:
        old, new = step.before.probe.round, step.after.probe.round
        if new is not None and (old is None or old.seq_no != new.seq_no):
            self._opening = step
        if self._opening is not None and _tells(step):
            self._keep.add(self._opening.number)
        self._recent.append(step)
        self._weight += _weight(step)
        while len(self._recent) > RECENT or self._weight > WEIGHT:
            self._forget()

    def _forget(self) -> None:
        if len(self._recent) > RECENT or not self._telling:
            step = self._recent.popleft()
            if _tells(step) or step.number in self._keep:
                self._keep.discard(step.number)
                self._telling.append(step)
                return
        else:
            step = self._telling.popleft()
        self._weight -= _weight(step)


def _tells(step: Replayed) -> bool:
    """Whether it bears on any member's status."""
    before, after = step.before, step.after
    if (
        before.members is not after.members
        or before.membership.suspicions is not after.membership.suspicions
        or isinstance(step.input, ExchangeFailed)
        or step.resumed
    ):
        return True
    old, new = before.probe.round, after.probe.round
    if old is not None and (new is None or new.seq_no != old.seq_no) and not old.direct:
        return True  # it was late, or nobody answered
    if old is not None and new is not None and old is not new and old.seq_no == new.seq_no:
        return True  # it goes on with helpers
    return any(isinstance(each, Emit) and isinstance(each.event, Conflict) for each in step.effects)


def _weight(step: Replayed) -> int:
    match step.input:
        case Exchanged(_, PushPull(states=states)) | ExchangeRequested(
            _, _, PushPull(states=states)
        ):
            return 1 + len(states)
        case _:
            return 1


def _resumed(steps: list[Replayed]) -> Iterator[Replayed]:
    """The steps, the first of them as where the story begins."""
    first, *rest = steps
    if not first.resumed:
        first = Replayed(
            first.number, first.now, first.input, first.before, first.effects, first.after,
            resumed="what happened before is no longer remembered",
        )  # fmt: skip
    yield first
    yield from rest
