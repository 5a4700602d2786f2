"""What the Lifeguard paper printed, and how close one must come (spec experiments.md, 4.2 and E5).

Tables IV to VII and Figs. 2 and 3 of arXiv 1707.00788v2. The counts are of ten repetitions of
the whole grid. A configuration is named as in ``experiments.lifeguard.study``.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

REPETITIONS = 10

BLOCKED = (1, 4, 8, 12, 16, 20, 24, 28, 32)
"""C, how many members block."""

DURATIONS_MS = (128, 512, 2048, 8192, 16384, 32768)
"""D, how long they do."""

PAUSES_MS = (1, 4, 16, 64, 256, 1024, 4096, 16384)
"""I, how long they run between two blocks."""


class Row(Struct, frozen=True):
    """One line of Tables IV to VI. Times are seconds at the 50th, 99th and 99.9th percentile."""

    false_positives: int
    at_healthy: int
    first: tuple[float, float, float]
    full: tuple[float, float, float]
    messages_millions: float
    gibibytes: float


TABLE: Mapping[str, Row] = {
    "swim": Row(339_002, 1326, (12.44, 16.96, 19.40), (12.90, 16.93, 20.17), 435.33, 149.15),
    "lha-probe": Row(229_574, 436, (12.42, 17.75, 20.10), (12.90, 17.98, 20.56), 428.62, 134.28),
    "lha-suspicion": Row(10_174, 89, (12.42, 17.47, 25.41), (12.89, 17.33, 23.80), 484.55, 158.87),
    "buddy": Row(318_935, 591, (12.45, 17.12, 19.16), (12.92, 17.18, 19.81), 435.62, 147.67),
    "lifeguard": Row(5_193, 25, (12.45, 17.90, 21.20), (12.91, 18.05, 21.68), 481.42, 146.13),
}
"""Tables IV (false positives), V (latency) and VI (messages), alpha 5, beta 6."""


class Tuning(Struct, frozen=True):
    """One column of Table VII: percent of SWIM (alpha 5, beta 1)."""

    first: tuple[float, float, float]
    full: tuple[float, float, float]
    false_positives: float
    at_healthy: float


TUNING: Mapping[tuple[int, int], Tuning] = {
    (2, 2): Tuning((53.14, 69.81, 76.08), (55.12, 73.07, 76.20), 98.37, 31.15),
    (2, 4): Tuning((54.10, 72.88, 75.41), (56.28, 76.96, 75.11), 43.64, 22.47),
    (2, 6): Tuning((54.34, 75.53, 80.36), (56.74, 79.15, 78.58), 24.16, 13.65),
    (4, 2): Tuning((82.96, 94.28, 99.07), (84.42, 97.05, 92.17), 37.72, 20.29),
    (4, 4): Tuning((83.04, 96.17, 93.71), (84.03, 96.69, 95.14), 8.04, 9.50),
    (4, 6): Tuning((83.12, 96.82, 94.69), (84.42, 96.52, 92.71), 3.18, 4.83),
    (5, 2): Tuning((99.76, 104.95, 112.32), (99.92, 105.73, 107.64), 26.61, 15.38),
    (5, 4): Tuning((99.52, 102.71, 111.44), (99.61, 105.08, 107.93), 5.43, 5.05),
    (5, 6): Tuning((100.08, 105.54, 109.28), (100.08, 106.62, 107.49), 1.53, 1.89),
}
"""Lifeguard by (alpha, beta)."""

FALSE_POSITIVES: Mapping[str, tuple[int, ...]] = {
    "swim": (906, 5979, 11299, 23180, 34554, 45560, 59067, 77209, 81820),
    "lha-probe": (512, 3210, 7233, 15218, 21953, 36533, 41900, 50358, 53015),
    "lha-suspicion": (49, 311, 142, 581, 1342, 1119, 1763, 2894, 1978),
    "buddy": (950, 6394, 8485, 20215, 34791, 46523, 58542, 71869, 71698),
    "lifeguard": (18, 143, 110, 224, 573, 751, 842, 1336, 1198),
}
"""Fig. 2: by ``BLOCKED``, digitised."""

AT_HEALTHY: Mapping[str, tuple[int, ...]] = {
    "swim": (24, 9, 43, 40, 90, 204, 183, 276, 457),
    "lha-probe": (2, 1, 3, 7, 57, 43, 57, 157, 109),
    "lha-suspicion": (0, 1, 2, 4, 9, 10, 11, 18, 34),
    "buddy": (1, 5, 12, 24, 45, 63, 96, 159, 186),
    "lifeguard": (0, 1, 4, 2, 0, 6, 4, 3, 5),
}
"""Fig. 3: the same, counted at members that do not block."""
