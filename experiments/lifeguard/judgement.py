"""What came of it: tables beside the paper's, and a verdict for every acceptance line of E5.

Members that block in one run are not independent of each other, so intervals come from
resampling runs, not detections; configurations are compared run by run, on the same seeds. Sums
over the interval study's grid are scaled to the paper's repetition of 432 combinations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from msgspec import Struct

from experiments import statistics
from experiments.experiment import Verdict
from experiments.lifeguard.grid import SOME_BLOCKED, quarter
from experiments.lifeguard.published import (
    BLOCKED,
    DURATIONS_MS,
    PAUSES_MS,
    REPETITIONS,
    TABLE,
    TUNING,
)
from experiments.lifeguard.study import PROTOCOLS
from experiments.statistics import ENOUGH, Floats, Interval

GRID = len(BLOCKED) * len(DURATIONS_MS) * len(PAUSES_MS)
SHARES = (0.5, 0.99, 0.999)
RESAMPLES = 1000
Quantity = Literal["first_s", "full_s"]
QUANTITIES: dict[Quantity, str] = {"first_s": "first detection", "full_s": "full dissemination"}
RUN = ["blocked", "duration_ms", "pause_ms", "drain_us", "replicate"]


def part(rows: pd.DataFrame, name: str, protocol: str = "", kind: str = "run") -> pd.DataFrame:
    """The rows of one part of the study."""
    found = rows[(rows.part == name) & (rows.kind == kind)]
    return found[found.protocol == protocol] if protocol else found


def tuned(rows: pd.DataFrame, alpha: int, beta: int) -> pd.DataFrame:
    """Lifeguard's rows with these settings."""
    return rows[(rows.protocol == "lifeguard") & (rows.alpha == alpha) & (rows.beta == beta)]


# --- latencies -------------------------------------------------------------------------------


class Sample(Struct, frozen=True):
    """Times of all detections, sorted, and which run each is of."""

    times: Floats
    runs: np.ndarray  # places in the list of runs that was resampled

    def quantile(self, share: float) -> float:
        """Over all detections alike."""
        return float(np.quantile(self.times, share)) if len(self.times) else float("nan")

    def resampled(self, share: float, weights: Floats) -> Floats:
        """The quantile for each row of ``weights``: how often each run was drawn."""
        counted = np.cumsum(weights[:, self.runs], axis=1)
        places = (counted < share * counted[:, -1:]).sum(axis=1)
        found: Floats = self.times[np.minimum(places, len(self.times) - 1)]
        return found


def _samples(quantity: Quantity, *frames: pd.DataFrame) -> tuple[list[Sample], Floats]:
    """Samples over the same runs, and weights that resample these."""
    keys = [list(map(tuple, frame[RUN].to_numpy())) for frame in frames]
    number = {key: place for place, key in enumerate(sorted(set().union(*keys)))}
    samples = []
    for frame, own in zip(frames, keys, strict=True):
        times = frame[quantity].to_numpy(dtype=np.float64)
        seen = np.flatnonzero(~np.isnan(times))
        order = seen[np.argsort(times[seen], kind="stable")]
        runs = np.array([number[own[place]] for place in order], dtype=np.int64)
        samples.append(Sample(times[order], runs))
    random = np.random.default_rng(1)
    count = max(1, len(number))
    weights = random.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return samples, weights.astype(np.float64)


def _interval(value: float, resampled: Floats) -> Interval:
    low, high = np.nanquantile(resampled, (0.025, 0.975))
    return Interval(value, float(low), float(high))


def latency(frame: pd.DataFrame, quantity: Quantity, share: float) -> Interval:
    """A quantile over all members that were detected."""
    (sample,), weights = _samples(quantity, frame)
    if not len(sample.times):
        return Interval(*[float("nan")] * 3)
    return _interval(sample.quantile(share), sample.resampled(share, weights))


def latency_percent(
    frame: pd.DataFrame, swim: pd.DataFrame, quantity: Quantity, share: float
) -> Interval:
    """A quantile in percent of SWIM's, over the same runs."""
    (ours, theirs), weights = _samples(quantity, frame, swim)
    if not len(ours.times) or not len(theirs.times):
        return Interval(*[float("nan")] * 3)
    value = 100 * ours.quantile(share) / theirs.quantile(share)
    return _interval(value, 100 * ours.resampled(share, weights) / theirs.resampled(share, weights))


def same_replicates(swim: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """As many repetitions as there are of the other, so that runs come in pairs."""
    return swim[swim.replicate.isin(other.replicate.unique())]


# --- sums ------------------------------------------------------------------------------------


def percent(
    frame: pd.DataFrame, reference: pd.DataFrame, column: str
) -> tuple[Interval, pd.DataFrame]:
    """A sum in percent of the reference's over the combinations that both have."""
    both = frame.merge(reference, on=RUN, suffixes=("", "_reference"))
    mine = both[column].to_numpy(dtype=np.float64)
    its = both[f"{column}_reference"].to_numpy(dtype=np.float64)
    if not its.sum():
        return Interval(*[float("nan")] * 3), both
    if not mine.any():
        return Interval(0.0, 0.0, 0.0), both
    found = statistics.ratio(mine, its, np.sum)
    return Interval(100 * found.value, 100 * found.low, 100 * found.high), both


def repetition(frame: pd.DataFrame, column: str) -> float:
    """A sum, scaled to one repetition of the paper's grid."""
    return float(frame[column].sum()) * GRID / max(1, len(frame))


def is_whole(frame: pd.DataFrame, blocked: Sequence[int] = BLOCKED) -> bool:
    """Whether all of the combinations that stand for the grid are there."""
    wanted = {(c, d, i) for c in blocked for d, i in quarter(0)}
    return wanted <= set(map(tuple, frame[["blocked", "duration_ms", "pause_ms"]].to_numpy()))


# --- tables ----------------------------------------------------------------------------------


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Tables IV, V and VI: ours, and the paper's (a tenth of its counts) in brackets."""
    swim = part(rows, "interval", "swim")
    lines = []
    for protocol in PROTOCOLS:
        paper = TABLE[protocol]
        runs = part(rows, "interval", protocol)
        found = part(rows, "threshold", protocol, "detection")
        found = found[(found.alpha == 5) & (found.beta == 6)]
        line: dict[str, object] = {
            "configuration": protocol,
            "detected": len(found.first_s.dropna()),
        }
        for quantity, name, its in (
            ("first_s", "first", paper.first),
            ("full_s", "full", paper.full),
        ):
            ours = [latency(found, quantity, share).value for share in SHARES]  # type: ignore[arg-type]
            line[f"{name} p50/99/99.9 s"] = _beside(
                "/".join(f"{value:.2f}" for value in ours), "/".join(f"{v:.2f}" for v in its)
            )
        for column, name, its_share, its_count in (
            ("false_positives", "FP", paper.false_positives, TABLE["swim"].false_positives),
            ("at_healthy", "FP-", paper.at_healthy, TABLE["swim"].at_healthy),
            ("messages", "messages", paper.messages_millions, TABLE["swim"].messages_millions),
            ("bytes", "bytes", paper.gibibytes, TABLE["swim"].gibibytes),
        ):
            share, both = percent(runs, swim, column)
            line[f"{name} % of SWIM"] = _beside(
                f"{share.value:.2f}", f"{100 * its_share / its_count:.2f}"
            )
            if protocol == "swim":
                line["combinations"] = len(both)
        line["combinations"] = len(runs)
        lines.append(line)
    return pd.DataFrame(lines)


def _beside(ours: str, theirs: str) -> str:
    return f"{ours} ({theirs})"


def tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Sums for one repetition, Table VII, the drain rates, and an older group."""
    return {
        "repetition": _sums(rows),
        "tuning": _tuning(rows),
        "drains": _drains(rows),
        "old-group": _old_group(rows),
    }


def _sums(rows: pd.DataFrame) -> pd.DataFrame:
    lines = []
    for protocol in PROTOCOLS:
        runs, paper = part(rows, "interval", protocol), TABLE[protocol]
        if not len(runs):
            continue
        lines.append(
            {
                "configuration": protocol,
                "combinations": len(runs),
                "messages_M": repetition(runs, "messages") / 1e6,
                "paper_messages_M": paper.messages_millions / REPETITIONS,
                "GiB": repetition(runs, "bytes") / 2**30,
                "paper_GiB": paper.gibibytes / REPETITIONS,
                "FP": repetition(runs, "false_positives"),
                "paper_FP": paper.false_positives / REPETITIONS,
                "FP-": repetition(runs, "at_healthy"),
                "paper_FP-": paper.at_healthy / REPETITIONS,
                "refutations": repetition(runs, "refutations"),
                "worst_health": int(runs.worst_health.max()),
            }
        )
    return pd.DataFrame(lines)


def _tuning(rows: pd.DataFrame) -> pd.DataFrame:
    found = part(rows, "threshold", kind="detection")
    swim, slandered = part(rows, "threshold", "swim", "detection"), part(rows, "tuning")
    lines = []
    for (alpha, beta), paper in TUNING.items():
        ours = tuned(found, alpha, beta)
        line: dict[str, object] = {"alpha": alpha, "beta": beta}
        base = same_replicates(swim, ours)
        for quantity, name, its in (
            ("first_s", "first", paper.first),
            ("full_s", "full", paper.full),
        ):
            for share, theirs in zip(SHARES, its, strict=True):
                value = latency_percent(ours, base, quantity, share).value  # type: ignore[arg-type]
                line[f"{name} p{share * 100:g} %"] = _beside(f"{value:.1f}", f"{theirs:.1f}")
        runs = tuned(slandered, alpha, beta)
        reference = slandered[slandered.protocol == "swim"]
        for column, name, its_percent in (
            ("false_positives", "FP %", paper.false_positives),
            ("at_healthy", "FP- %", paper.at_healthy),
        ):
            value = percent(runs, reference, column)[0].value
            line[name] = _beside(f"{value:.2f}", f"{its_percent:.2f}")
        lines.append(line)
    return pd.DataFrame(lines)


def _drains(rows: pd.DataFrame) -> pd.DataFrame:
    lines = []
    for drain, group in part(rows, "drains").groupby("drain_us"):
        swim, ours = group[group.protocol == "swim"], group[group.protocol == "lifeguard"]
        lines.append(
            {
                "drain_us": drain,
                "combinations": len(swim),
                "SWIM FP": int(swim.false_positives.sum()),
                "SWIM FP-": int(swim.at_healthy.sum()),
                "Lifeguard FP": int(ours.false_positives.sum()),
                "Lifeguard FP-": int(ours.at_healthy.sum()),
                "FP %": percent(ours, swim, "false_positives")[0].value,
                "SWIM messages": int(swim.messages.sum()),
                "messages %": percent(ours, swim, "messages")[0].value,
            }
        )
    return pd.DataFrame(lines)


def _old_group(rows: pd.DataFrame) -> pd.DataFrame:
    """The same combinations in a group that has just formed and in one that is old."""
    lines = []
    old = part(rows, "old group")
    for name, whole in (("just formed", part(rows, "interval")), ("old", old)):
        group = whole[whole.blocked.isin(old.blocked.unique())]
        swim, ours = group[group.protocol == "swim"], group[group.protocol == "lifeguard"]
        share, both = percent(ours, swim, "messages")
        lines.append(
            {
                "group": name,
                "combinations": len(both),
                "SWIM messages": int(both.messages_reference.sum()),
                "messages %": share.value,
                "SWIM FP": int(both.false_positives_reference.sum()),
                "SWIM FP-": int(both.at_healthy_reference.sum()),
                "FP %": percent(ours, swim, "false_positives")[0].value,
            }
        )
    return pd.DataFrame(lines)


# --- verdicts --------------------------------------------------------------------------------


def verdicts(rows: pd.DataFrame) -> list[Verdict]:
    """The acceptance lines of E5: the binding ones, then those that inform."""
    return [
        *_judge_latency(rows),
        *_judge_tuned_latency(rows),
        *_judge_messages(rows),
        *_judge_slander(rows),
        *_judge_growth(rows),
        *_judge_tuned_slander(rows),
        *_judge_drains(rows),
        *_inform(rows),
    ]


def _judge_latency(rows: pd.DataFrame) -> Iterator[Verdict]:
    """SWIM's percentiles are those of Table V."""
    found = part(rows, "threshold", "swim", "detection")
    paper = TABLE["swim"]
    for quantity, words in QUANTITIES.items():
        published = paper.first if quantity == "first_s" else paper.full
        for share, tolerance, theirs in zip(SHARES, (0.03, 0.06, 0.15), published, strict=True):
            ours = latency(found, quantity, share)
            times = found[quantity].notna()
            enough = times.sum() if times.sum() * (1 - share) >= 2 else 0
            yield Verdict(
                f"SWIM: {words}, p{share * 100:g}",
                f"{theirs} s (Table V) within {tolerance:.0%}",
                f"{ours.value:.2f} s [{ours.low:.2f}, {ours.high:.2f}], {times.sum()} of "
                f"{len(times)} blocks detected",
                _judged(ours, theirs * (1 - tolerance), theirs * (1 + tolerance), int(enough)),
            )


def _judged(found: Interval, low: float, high: float, enough: int) -> bool | None:
    return None if np.isnan(found.value) else statistics.judge(found, low, high, enough)


def _judge_tuned_latency(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Lifeguard's percentiles for each alpha and beta, against SWIM's, are those of Table VII."""
    found = part(rows, "threshold", kind="detection")
    swim = found[found.protocol == "swim"]
    for (alpha, beta), paper in TUNING.items():
        ours = tuned(found, alpha, beta)
        if not len(ours):
            continue
        base = same_replicates(swim, ours)
        for quantity, words in QUANTITIES.items():
            published = paper.first if quantity == "first_s" else paper.full
            told, bounds, passed = [], [], []
            for share, points, theirs in zip(SHARES, (3, 6, 15), published, strict=True):
                value = latency_percent(ours, base, quantity, share)
                times = ours[quantity].notna().sum()
                enough = int(times) if times * (1 - share) >= 2 else 0
                told.append(f"{value.value:.1f} [{value.low:.1f}, {value.high:.1f}]")
                bounds.append(f"{theirs:.1f} +- {points}")
                passed.append(_judged(value, theirs - points, theirs + points, enough))
            yield Verdict(
                f"alpha {alpha}, beta {beta}: {words}, p50, p99, p99.9 in % of SWIM",
                f"{', '.join(bounds)} (Table VII)",
                f"{', '.join(told)}, {len(ours)} blocks",
                False if False in passed else None if None in passed else True,
            )


MESSAGES_EXPLAINED = (
    "What push/pull adds is the same for both, so the ratio depends on how much of a run has any: "
    "the group that has just formed has none for 90 s. In an old group, on the same "
    "combinations, see the table old-group."
)


def _judge_messages(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Messages against SWIM's are those of Table VI, and SWIM's are as many."""
    swim = part(rows, "interval", "swim")
    for protocol in PROTOCOLS[1:]:
        runs = part(rows, "interval", protocol)
        theirs = 100 * TABLE[protocol].messages_millions / TABLE["swim"].messages_millions
        ours, both = percent(runs, swim, "messages")
        whole = is_whole(runs, SOME_BLOCKED)
        yield Verdict(
            f"{protocol}: messages in % of SWIM",
            f"{theirs:.1f} +- 6 (Table VI)",
            f"{ours.value:.1f} [{ours.low:.1f}, {ours.high:.1f}], {len(both)} combinations",
            _judged(ours, theirs - 6, theirs + 6, len(both)) if whole else None,
            MESSAGES_EXPLAINED,
        )
    ours_m = repetition(swim, "messages") / 1e6
    theirs_m = TABLE["swim"].messages_millions / REPETITIONS
    yield Verdict(
        "SWIM: messages of one repetition",
        f"{theirs_m:.1f} M within 10 % (Table VI)",
        f"{ours_m:.1f} M, from {len(swim)} of {GRID} combinations",
        abs(ours_m / theirs_m - 1) <= 0.1 if is_whole(swim) else None,
    )


def _judge_slander(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Who slanders whom how much less than SWIM."""
    swim = part(rows, "interval", "swim")
    for protocol, column, low, high in (
        ("lifeguard", "false_positives", 0.0, 5.0),
        ("lha-suspicion", "false_positives", 0.0, 10.0),
        ("buddy", "false_positives", 85.0, 115.0),
        ("lifeguard", "at_healthy", 0.0, 10.0),
    ):
        runs = part(rows, "interval", protocol)
        ours, both = percent(runs, swim, column)
        name = "false positives" if column == "false_positives" else "those at healthy members"
        count = f"{column}_reference"
        total = int(both[count].sum()) if len(both) else 0
        yield Verdict(
            f"{protocol}: {name} in % of SWIM",
            f"at most {high:g}" if not low else f"{low:g} to {high:g}",
            f"{ours.value:.2f} [{ours.low:.2f}, {ours.high:.2f}], {int(both[column].sum())} "
            f"against {total}",
            _judged(ours, low, high, total) if total >= ENOUGH else None,
        )


def _judge_growth(rows: pd.DataFrame) -> Iterator[Verdict]:
    """The more members block, the more are slandered."""
    swim = part(rows, "interval", "swim")
    sums = swim.groupby("blocked").false_positives.sum()
    if len(sums) < 3:
        return
    rank = statistics.spearman(sums.index.to_numpy(), sums.to_numpy())
    yield Verdict(
        "SWIM: false positives rise with the number of blocked members",
        f"Spearman at least 0.9 over the {len(BLOCKED)} values of C",
        f"{rank:.3f} over {len(sums)}: {', '.join(map(str, map(int, sums)))}",
        rank >= 0.9 if len(sums) == len(BLOCKED) else None,
    )


def _judge_tuned_slander(rows: pd.DataFrame) -> Iterator[Verdict]:
    """A longer suspicion slanders less: false positives fall with alpha and with beta."""
    runs = part(rows, "tuning")
    counts = {key: tuned(runs, *key) for key in TUNING if len(tuned(runs, *key))}
    if len(counts) < 2:
        return
    alphas, betas = (sorted({key[place] for key in counts}) for place in (0, 1))
    for name, lines in (
        ("alpha", [[(a, b) for a in alphas if (a, b) in counts] for b in betas]),
        ("beta", [[(a, b) for b in betas if (a, b) in counts] for a in alphas]),
    ):
        steps = [pair for line in lines for pair in pairwise(line)]
        wrong = [
            (less, more)
            for less, more in steps
            if counts[more].false_positives.sum() > counts[less].false_positives.sum()
        ]
        unsure = all(
            percent(counts[more], counts[less], "false_positives")[0].low <= 100
            for less, more in wrong
        )
        told = ", ".join(f"{a}/{b}: {int(counts[a, b].false_positives.sum())}" for a, b in counts)
        if steps:
            yield Verdict(
                f"Lifeguard: false positives fall with {name}",
                f"in each of {len(steps)} steps",
                f"in {len(steps) - len(wrong)}; alpha/beta: {told}",
                not wrong or (None if unsure else False),
            )


def _judge_drains(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Whatever the drain rate, Lifeguard slanders far less."""
    for drain, group in part(rows, "drains").groupby("drain_us"):
        swim, ours = group[group.protocol == "swim"], group[group.protocol == "lifeguard"]
        share, _ = percent(ours, swim, "false_positives")
        total = int(swim.false_positives.sum())
        yield Verdict(
            f"drain {drain} us a packet: Lifeguard's false positives in % of SWIM",
            "at most 5",
            f"{share.value:.2f} [{share.low:.2f}, {share.high:.2f}], "
            f"{int(ours.false_positives.sum())} against {total}",
            _judged(share, 0.0, 5.0, total) if total >= ENOUGH else None,
        )


def _inform(rows: pd.DataFrame) -> Iterator[Verdict]:
    """What depends on details that the paper does not give."""
    swim = part(rows, "interval", "swim")
    for protocol in ("swim", "lifeguard"):
        runs = part(rows, "interval", protocol)
        ours = repetition(runs, "false_positives")
        theirs = TABLE[protocol].false_positives / REPETITIONS
        yield Verdict(
            f"{protocol}: false positives of one repetition",
            f"{theirs:,.0f} (Table IV) within a factor of 3",
            f"{ours:,.0f}, from {len(runs)} of {GRID} combinations",
            theirs / 3 <= ours <= theirs * 3 if is_whole(runs) else None,
            binding=False,
        )
    runs = part(rows, "interval", "lha-probe")
    share, both = percent(runs, swim, "false_positives")
    yield Verdict(
        "lha-probe: false positives in % of SWIM",
        "67.7 (Table IV), 101 (reference model)",
        f"{share.value:.1f} [{share.low:.1f}, {share.high:.1f}]",
        50 <= share.value <= 115 if is_whole(runs, SOME_BLOCKED) else None,
        binding=False,
    )
    for protocol in PROTOCOLS[1:]:
        runs = part(rows, "interval", protocol)
        theirs = 100 * TABLE[protocol].gibibytes / TABLE["swim"].gibibytes
        share, both = percent(runs, swim, "bytes")
        yield Verdict(
            f"{protocol}: bytes in % of SWIM",
            f"{theirs:.1f} +- 15 (Table VI)",
            f"{share.value:.1f} [{share.low:.1f}, {share.high:.1f}], {len(both)} combinations",
            abs(share.value - theirs) <= 15 if is_whole(runs, SOME_BLOCKED) else None,
            binding=False,
        )
