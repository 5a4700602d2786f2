"""What the network does to packets: latency, loss, duplication, reordering, bandwidth, cuts.

``Network`` says what a network is like; it is data, and part of a scenario. ``Fabric`` is one
such network at work: it holds the random streams (one for each purpose, so that switching
loss on does not shift the latencies), the state of bursty links, the queues of busy ones, and
the cuts in force. All randomness is drawn as ``random.Random.random`` and inverted, which is
the same on every Python version.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from random import Random
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from msgspec import Struct

from swimsim import rng
from swimsim.terms import MS, SECOND, US, Micros

if TYPE_CHECKING:
    Duration: TypeAlias = Micros
else:

    class Duration(int):
        """Microseconds, as a type of its own so that a scenario file can say "30s"."""


class NetworkError(ValueError):
    """A network that cannot be; the text names the setting and what it needs."""


WIDEST = 10  # sigma of a log-normal factor; with it one in a thousand is beyond 10**13


def _spread(random: Random, sigma: float) -> float:
    """A log-normal factor with median 1."""
    uniform = random.random() or 0.5  # inv_cdf is not defined at 0
    return math.exp(NormalDist().inv_cdf(uniform) * sigma)


def _probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise NetworkError(f"{name} is {value}, expected 0 to 1")


def _positive(name: str, value: float) -> None:
    if value < 0:
        raise NetworkError(f"{name} is {value}, expected at least 0")


def _sigma(name: str, value: float) -> None:
    if not 0 <= value <= WIDEST:
        raise NetworkError(f"{name} is {value}, expected 0 to {WIDEST}")


# --- latency -----------------------------------------------------------------------------


class Latency(Protocol):
    """How long one packet takes from one host to another."""

    def sample(self, random: Random, source: int, target: int) -> Micros:
        """One-way delay between two hosts, given by index."""
        ...


class Constant(Struct, frozen=True, tag="constant", tag_field="model", forbid_unknown_fields=True):
    """The same for every packet."""

    delay: Duration = 1 * MS

    def __post_init__(self) -> None:
        _positive("delay", self.delay)

    def sample(self, random: Random, source: int, target: int) -> Micros:
        """The delay."""
        return self.delay


class Uniform(Struct, frozen=True, tag="uniform", tag_field="model", forbid_unknown_fields=True):
    """Anything between two bounds."""

    low: Duration
    high: Duration

    def __post_init__(self) -> None:
        _positive("low", self.low)
        if self.high < self.low:
            raise NetworkError(f"high is {self.high} us, below low")

    def sample(self, random: Random, source: int, target: int) -> Micros:
        """Uniform in ``[low, high]``."""
        return self.low + int(random.random() * (self.high - self.low + 1))


class Exponential(
    Struct, frozen=True, tag="exponential", tag_field="model", forbid_unknown_fields=True
):
    """A floor and an exponential tail; the default is a LAN (spec experiments.md, 1 point 10)."""

    floor: Duration = 250 * US
    mean: Duration = 100 * US  # of the tail

    def __post_init__(self) -> None:
        _positive("floor", self.floor)
        _positive("mean", self.mean)

    def sample(self, random: Random, source: int, target: int) -> Micros:
        """``floor + Exp(mean)``."""
        return self.floor - int(self.mean * math.log(1.0 - random.random()))


class LogNormal(
    Struct, frozen=True, tag="lognormal", tag_field="model", forbid_unknown_fields=True
):
    """A median and a multiplicative spread."""

    median: Duration
    sigma: float = 0.2

    def __post_init__(self) -> None:
        _positive("median", self.median)
        _sigma("sigma", self.sigma)

    def sample(self, random: Random, source: int, target: int) -> Micros:
        """``median * exp(N(0, sigma))``."""
        return round(self.median * _spread(random, self.sigma))


class Matrix(Struct, frozen=True):
    """Measured one-way delays between sites; host ``i`` stands at ``places[i % len(places)]``.

    Hosts of one site are as far apart as the diagonal says. ``jitter`` is the sigma of a
    log-normal factor around 1, drawn for each packet.
    """

    delays: tuple[tuple[Micros, ...], ...]
    places: tuple[int, ...]
    jitter: float = 0.0

    def __post_init__(self) -> None:
        size = len(self.delays)
        if size == 0 or any(len(row) != size for row in self.delays):
            raise NetworkError("latency matrix: expected as many columns as rows, at least one")
        if not self.places or not all(0 <= place < size for place in self.places):
            raise NetworkError(f"latency matrix: places must lie in 0 .. {size - 1}")
        _sigma("jitter", self.jitter)

    def sample(self, random: Random, source: int, target: int) -> Micros:
        """The delay between the hosts' sites, times the jitter."""
        places = self.places
        delay = self.delays[places[source % len(places)]][places[target % len(places)]]
        return round(delay * _spread(random, self.jitter)) if self.jitter else delay


Carried: TypeAlias = Literal["packets", "streams"]
"""What a fault of the network can hit: datagrams, or the flights of a stream."""

BOTH: tuple[Carried, ...] = ("packets", "streams")

# --- loss --------------------------------------------------------------------------------


class Bernoulli(
    Struct, frozen=True, tag="bernoulli", tag_field="model", forbid_unknown_fields=True
):
    """Every packet is lost with the same probability, by itself."""

    loss: float
    hits: tuple[Carried, ...] = BOTH

    def __post_init__(self) -> None:
        _probability("loss", self.loss)


class GilbertElliott(
    Struct, frozen=True, tag="gilbert_elliott", tag_field="model", forbid_unknown_fields=True
):
    """Loss in bursts: a chain in time alternates between all is well and all is lost.

    Gossip links carry less than a packet a second, so a chain that counts packets would never
    lose two in a row; this one sojourns in its bad state for a time Exp(mean ``burst``) (spec
    experiments.md, section 1 point 6). Each directed link has its own chain, or each host has
    one for its access link, which a packet passes at both ends; the mean loss is ``loss``
    either way.
    """

    loss: float
    burst: Duration = 1 * SECOND
    scope: Literal["link", "node"] = "link"
    hits: tuple[Carried, ...] = BOTH

    def __post_init__(self) -> None:
        _probability("loss", self.loss)
        if self.loss == 1 or self.burst <= 0:
            raise NetworkError("expected a loss below 1 and a burst above zero")


Loss: TypeAlias = Bernoulli | GilbertElliott


class Link(Struct, frozen=True, forbid_unknown_fields=True):
    """What differs on some links, in one direction: from ``source`` to ``target``.

    Either may be a host's name or ``"*"``. Every rule that fits a link bears on it, on top of the
    network's own loss and latency.
    """

    source: str = "*"
    target: str = "*"
    loss: float = 0.0
    delay: Duration = 0  # on top of the network's
    hits: tuple[Carried, ...] = BOTH

    def __post_init__(self) -> None:
        _probability("loss", self.loss)
        _positive("delay", self.delay)


class Network(Struct, frozen=True):
    """What the network between the hosts is like. The default is a LAN without faults."""

    latency: Latency = Exponential()
    loss: Loss | None = None
    links: tuple[Link, ...] = ()
    duplicate: float = 0.0  # probability that a packet arrives twice
    reorder: float = 0.0  # probability that a packet is held up, so that later ones pass it
    reorder_delay: Duration = 10 * MS  # for at most that long
    bandwidth: int = 0  # bits per second that a host can send; 0: no limit
    queue: int = 256 * 1024  # bytes that wait at a host whose bandwidth is used up; more is lost

    def __post_init__(self) -> None:
        _probability("duplicate", self.duplicate)
        _probability("reorder", self.reorder)
        _positive("reorder_delay", self.reorder_delay)
        _positive("bandwidth", self.bandwidth)
        _positive("queue", self.queue)


# --- cuts --------------------------------------------------------------------------------


class Cut(Struct, frozen=True):
    """Hosts on different sides do not reach each other.

    ``one_way``: only what the first side sends to the others is lost.
    """

    name: str
    side: Mapping[int, int]  # host index to side
    one_way: bool = False
    hits: tuple[Carried, ...] = BOTH
    rest: int | None = None  # the side of every host that is on none; None: it reaches everybody

    def severs(self, source: int, target: int) -> bool:
        """Whether a packet from one to the other is lost."""
        here, there = self.side.get(source, self.rest), self.side.get(target, self.rest)
        if here is None or there is None or here == there:
            return False
        return here == 0 or not self.one_way


# --- at work -----------------------------------------------------------------------------


class Fabric:
    """A network at work. Deterministic: one seed, one fate for every packet."""

    def __init__(
        self, network: Network, names: list[str], seed: int, watched: bool = False
    ) -> None:
        self.network = network
        self.watched = watched  # somebody wants to know how large packets are, and their fates
        self.sample = network.latency.sample
        self.placeless = isinstance(
            network.latency, Constant | Uniform | Exponential | LogNormal
        )  # latency is the same between any two hosts
        self.names = names  # by host index
        self.cuts: tuple[Cut, ...] = ()
        self.links: tuple[Link, ...] = network.links  # in force; faults may add some
        self._bad: dict[tuple[int, int], tuple[bool, Micros]] = {}  # chains of bursty loss
        self._busy: dict[int, Micros] = {}  # until when a host's uplink is taken
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Begin new random streams; what is under way stays as it is."""
        purposes = ("latency", "loss", "link loss", "duplication", "reordering")
        self._randoms = [Random(rng.seed(seed, "network", purpose)) for purpose in purposes]
        (self.latency_random, self._loss, self._link_loss, self._twice, self._held_up) = (
            self._randoms
        )
        self._refresh()

    def _refresh(self) -> None:
        network = self.network
        self._links_by_end: dict[tuple[str, str], list[Link]] = {}
        for link in self.links:
            self._links_by_end.setdefault((link.source, link.target), []).append(link)
        self.plain = not (
            self.watched
            or self.cuts
            or network.loss
            or self.links
            or network.duplicate
            or network.reorder
            or network.bandwidth
        )
        """Whether latency is all there is to know, so that a driver may ask for it alone."""

    def cut(self, cut: Cut) -> None:
        """Put a cut in force."""
        self.cuts = (*self.cuts, cut)
        self._refresh()

    def lift(self, cut: Cut) -> None:
        """Lift this very cut, if it is still in force."""
        self.cuts = tuple(other for other in self.cuts if other is not cut)
        self._refresh()

    def heal(self, name: str | None = None) -> None:
        """Lift the cuts of that name, or all of them."""
        self.cuts = tuple(cut for cut in self.cuts if name is not None and cut.name != name)
        self._refresh()

    def relink(self, links: tuple[Link, ...]) -> None:
        """Let these links differ from now on, and no others."""
        self.links = links
        self._refresh()

    def carry(self, now: Micros, source: int, target: int, size: int) -> tuple[Micros, ...]:
        """After which delays the packet of ``size`` bytes arrives: none, one or two times."""
        delay = self._pass("packets", now, source, target, size)
        if delay is None:
            return ()
        network = self.network
        if network.reorder and self._held_up.random() < network.reorder:
            delay += int(self._held_up.random() * network.reorder_delay)
        if network.duplicate and self._twice.random() < network.duplicate:
            return delay, delay + network.latency.sample(self._twice, source, target)
        return (delay,)

    def carry_segment(self, now: Micros, source: int, target: int, size: int) -> Micros | None:
        """After which delay one flight of a stream arrives, or None when it is lost."""
        return self._pass("streams", now, source, target, size)

    def _pass(
        self, carried: Carried, now: Micros, source: int, target: int, size: int
    ) -> Micros | None:
        network = self.network
        for cut in self.cuts:
            if carried in cut.hits and cut.severs(source, target):
                return None
        wait = 0
        if network.bandwidth:
            begin = max(now, self._busy.get(source, 0))
            wait = begin - now
            if wait * network.bandwidth > network.queue * 8 * SECOND:
                return None
            wait += -(-size * 8 * SECOND // network.bandwidth)
            self._busy[source] = now + wait
        loss = network.loss
        if loss is not None and carried in loss.hits and self._is_lost(loss, now, source, target):
            return None
        for link in self._links_between(source, target):
            if carried in link.hits:
                if link.loss and self._link_loss.random() < link.loss:
                    return None
                wait += link.delay
        return wait + network.latency.sample(self.latency_random, source, target)

    def _is_lost(self, loss: Loss, now: Micros, source: int, target: int) -> bool:
        if isinstance(loss, Bernoulli):
            return self._loss.random() < loss.loss
        if loss.scope == "link":
            return self._in_burst(loss.loss, loss.burst, now, (source, target))
        share = 1 - math.sqrt(1 - loss.loss)  # of each access link, so that both make ``loss``
        leaving = self._in_burst(share, loss.burst, now, (source, -1))
        return self._in_burst(share, loss.burst, now, (target, -1)) or leaving

    def _in_burst(self, share: float, burst: Micros, now: Micros, chain: tuple[int, int]) -> bool:
        """Where a two-state chain is now, given where it was when it was last looked at."""
        bad, since = self._bad.get(chain, (None, now))
        chance = share
        if bad is not None:
            fade = math.exp(-(now - since) / (burst * (1 - share))) if burst else 0.0
            chance = share + ((1 - share) if bad else -share) * fade
        is_bad = self._loss.random() < chance
        self._bad[chain] = (is_bad, now)
        return is_bad

    def _links_between(self, source: int, target: int) -> Iterator[Link]:
        """The rules that bear on a directed link."""
        if self.links:
            here, there = self.names[source], self.names[target]
            for ends in ((here, there), (here, "*"), ("*", there), ("*", "*")):
                yield from self._links_by_end.get(ends, ())

    def copy(self) -> Fabric:
        """An independent twin with the same past and, so far, the same future."""
        twin = Fabric(self.network, list(self.names), 0, self.watched)
        twin.cuts, twin.links = self.cuts, self.links
        twin._bad, twin._busy = dict(self._bad), dict(self._busy)
        for mine, its in zip(self._randoms, twin._randoms, strict=True):
            its.setstate(mine.getstate())
        twin._refresh()
        return twin

    def fingerprint(self) -> int:
        """What the random streams have come to: equal after equal runs."""
        return rng.seed(*(repr(random.getstate()) for random in self._randoms))
