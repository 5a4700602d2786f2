"""The table that each node holds: persistent maps from names to slots to records.

Nothing here costs O(members) for a change, a look-up or a random pick. Every member has a
slot in ``[0, len)``, so that a random member is a random slot. Both maps are ``immutables.Map``
and share what they can with their past. Beside them stands what would otherwise have to be
counted: members by status, bytes on the wire, the protocol versions in use, and two
order-free digests (sums of 64-bit entry hashes) by which equal tables are recognised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from immutables import Map
from msgspec import Struct

from swimsim import rng
from swimsim.member import ALIVE, SUSPECT, Member, Status, digest, state_size
from swimsim.rng import MASK, Rng
from swimsim.terms import NodeId

Counts: TypeAlias = tuple[int, int, int, int]  # alive, suspect, dead, left


class VersionUse(Struct, frozen=True, gc=False):
    """How many records speak one version sextuple."""

    vsn: bytes
    alive: int
    total: int


class Members(Struct, frozen=True, gc=False):
    """Every member a node knows of, itself included. ``EMPTY`` is where to begin."""

    records: Map[int, Member]  # by slot; the slots are 0 .. len - 1
    slots: Map[NodeId, int]
    counts: Counts  # members by status
    size: int  # bytes of all records in a push/pull
    versions: tuple[VersionUse, ...]  # sorted by vsn
    digest: int  # sum of the records' digests, modulo 2**64; says nothing of slots
    slots_digest: int  # the same of (name, slot)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Member]:
        """Every record, by slot."""
        return map(self.records.__getitem__, range(len(self.records)))

    def get(self, name: NodeId) -> Member | None:
        """The record of ``name``, or None."""
        slot = self.slots.get(name)
        return None if slot is None else self.records[slot]

    def __getitem__(self, name: NodeId) -> Member:
        """The record of ``name``; raises KeyError when there is none."""
        return self.records[self.slots[name]]

    def sample(
        self, rng_: Rng, k: int, eligible: Callable[[Member], bool]
    ) -> tuple[list[Member], Rng]:
        """Up to ``k`` different eligible members, uniformly, and the next generator.

        A small table is shuffled; a large one is drawn from at most three times its length, so
        a few may be missed where hardly anybody is eligible (spec memberlist.md, 6.16). The
        expected work is ``k`` over the eligible share, whatever the length: a caller that knows
        of nobody eligible should not ask.
        """
        if k <= 0:
            return [], rng_
        records, n = self.records, len(self.records)
        chosen: list[Member] = []
        if n < 3 * k:
            slots = list(range(n))
            while slots and len(chosen) < k:
                place, rng_ = rng.below(rng_, len(slots))
                member = records[slots.pop(place)]
                if eligible(member):
                    chosen.append(member)
            return chosen, rng_
        seen: dict[int, None] = {}
        draws = 3 * n
        while draws and len(chosen) < k:
            slots, rng_ = rng.several_below(rng_, n, min(k - len(chosen), draws))
            draws -= len(slots)
            drawn = dict.fromkeys(slots)
            if seen:
                drawn = {slot: None for slot in drawn if slot not in seen}
            for slot in drawn:
                member = records[slot]
                if eligible(member):
                    chosen.append(member)
            seen |= drawn
        return chosen, rng_

    def put(self, member: Member) -> Members:
        """The table with this record in place of the member's old one, or added in a new slot."""
        name = member.peer.name
        slot = self.slots.get(name)
        slots, slots_digest = self.slots, self.slots_digest
        if slot is None:
            known, slot = None, len(slots)
            slots = slots.set(name, slot)
            slots_digest = (slots_digest + _seat(slot, member)) & MASK
        else:
            known = self.records[slot]
            if known.peer is not member.peer:
                slots_digest = (slots_digest + _seat(slot, member) - _seat(slot, known)) & MASK
        grown = 0
        if known is None:
            grown = state_size(member)
        elif known.peer is not member.peer or known.incarnation != member.incarnation:
            grown = state_size(member) - state_size(known)
        return Members(
            self.records.set(slot, member),
            slots,
            _count(self.counts, known, member),
            self.size + grown,
            _use(self.versions, known, member),
            (self.digest + digest(member) - (digest(known) if known else 0)) & MASK,
            slots_digest,
        )

    def remove(self, name: NodeId) -> Members:
        """The table without ``name``; the member in the last slot moves into the one it leaves.

        Raises KeyError for an unknown name.
        """
        slot, last = self.slots[name], len(self.slots) - 1
        known, mover = self.records[slot], self.records[last]
        records, slots = self.records.delete(last), self.slots.delete(name)
        slots_digest = self.slots_digest - _seat(slot, known)
        if slot != last:
            records = records.set(slot, mover)
            slots = slots.set(mover.peer.name, slot)
            slots_digest += _seat(slot, mover) - _seat(last, mover)
        return Members(
            records,
            slots,
            _count(self.counts, known, None),
            self.size - state_size(known),
            _use(self.versions, known, None),
            (self.digest - digest(known)) & MASK,
            slots_digest & MASK,
        )

    @property
    def present(self) -> int:
        """How many members are alive or suspect."""
        return self.counts[ALIVE] + self.counts[SUSPECT]

    def others_present(self, me: NodeId) -> int:
        """How many members are alive or suspect, ``me`` left out."""
        known = self.get(me)
        return self.present - (known is not None and known.status <= SUSPECT)

    def count(self, *statuses: Status) -> int:
        """How many members have one of these statuses."""
        return sum(self.counts[status] for status in statuses)


EMPTY = Members(Map(), Map(), (0, 0, 0, 0), 0, (), 0, 0)


def build(members: Sequence[Member]) -> Members:
    """The table of many members at once, slots in order; raises ValueError on a name twice."""
    numbers = list(range(len(members)))  # one object for each, as key and as value
    slots = Map(zip((member.peer.name for member in members), numbers, strict=True))
    if len(slots) != len(members):
        raise ValueError("two members have one name")
    counts = [0] * len(Status)
    versions: tuple[VersionUse, ...] = ()
    for member in members:
        counts[member.status] += 1
        versions = _use(versions, None, member)
    alive, suspect, dead, left = counts
    return Members(
        Map(zip(numbers, members, strict=True)),
        slots,
        (alive, suspect, dead, left),
        sum(map(state_size, members)),
        versions,
        sum(map(digest, members)) & MASK,
        sum(_seat(slot, member) for slot, member in enumerate(members)) & MASK,
    )


def _seat(slot: int, member: Member) -> int:
    return rng.mix(member.peer.fingerprint + (slot + 1) * 0x2545_F491_4F6C_DD1D & MASK)


def _count(counts: Counts, old: Member | None, new: Member | None) -> Counts:
    tally = list(counts)
    if old is not None:
        tally[old.status] -= 1
    if new is not None:
        tally[new.status] += 1
    alive, suspect, dead, left = tally
    return alive, suspect, dead, left


def _use(
    versions: tuple[VersionUse, ...], old: Member | None, new: Member | None
) -> tuple[VersionUse, ...]:
    """``versions`` after one record was replaced; usually one sextuple, so a short tuple."""
    if old is not None and new is not None and old.peer.vsn == new.peer.vsn:
        change = (new.status == ALIVE) - (old.status == ALIVE)
        if not change:
            return versions
        vsn = new.peer.vsn
        return tuple(
            [
                VersionUse(vsn, use.alive + change, use.total) if use.vsn == vsn else use
                for use in versions
            ]
        )
    tally = {use.vsn: (use.alive, use.total) for use in versions}
    for member, change in ((old, -1), (new, 1)):
        if member is not None:
            alive, total = tally.get(member.peer.vsn, (0, 0))
            tally[member.peer.vsn] = (alive + change * (member.status == ALIVE), total + change)
    return tuple(VersionUse(vsn, *tally[vsn]) for vsn in sorted(tally) if tally[vsn][1])
