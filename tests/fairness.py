"""Whether what was drawn fell evenly."""

from collections.abc import Iterable

from scipy.stats import chisquare


def p_uniform(counts: Iterable[int]) -> float:
    """The chance that equally likely outcomes differ in number at least as much as these."""
    return float(chisquare(list(counts)).pvalue)
