"""Confidence limits for the loss of R@1 between two networks that answer the same queries."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

__all__ = ["PairedLoss", "enough_queries", "upper_limit"]

RISK = 0.05  # of wrongly excluding a loss
Z_95 = 1.6448536269514722  # one-sided quantile of the normal distribution at that risk


@dataclass(frozen=True)
class PairedLoss:
    """Counts of the queries that only one of two networks answers correctly.

    Attributes:
        queries: queries that both answer, >= 1.
        lost: only the reference is right.
        gained: only the candidate is right.
    """

    queries: int
    lost: int
    gained: int

    @property
    def loss(self) -> float:
        """The reference's recall minus the candidate's, in [-1, 1]; above 0 the candidate is worse."""
        return (self.lost - self.gained) / self.queries

    @property
    def upper(self) -> float:
        """Upper limit of the true loss, one-sided at 95 %, in [loss, 1].

        This is Tango's score interval: the largest difference that a score test does not reject, with the variance
        estimated under that difference.

        If no query differs, Tango's limit z² / (n + z²) is too low: it is 1 point at 268 queries, but a network that
        loses 1 point and gains none shows no difference on 268 queries in 6.8 % of cases. The exact limit
        1 - 0.05^(1/n) is used instead: 1 point at 299 queries.

        The queries are assumed independent. Frames of one drive are not, so the true interval is wider.

        Source: Tango, Equivalence test and confidence interval for the difference in proportions for the paired-sample
        design (Statistics in Medicine 17, 1998); recommended by Fagerland, Lydersen and Laake, Recommended tests and
        confidence intervals for paired binomial proportions (Statistics in Medicine 33, 2014).
        """
        if self.lost == self.gained == 0:
            return 1 - math.pow(RISK, 1 / self.queries)
        return upper_limit(self.queries, self.lost, self.gained)

    @property
    def lower(self) -> float:
        """Lower limit of the true loss, one-sided at 95 %, in [-1, loss]."""
        return -PairedLoss(self.queries, self.gained, self.lost).upper

    def to_record(self) -> dict[str, float]:
        """The counts, the loss and its limits as plain values."""
        return {**asdict(self), "loss": self.loss, "lower": self.lower, "upper": self.upper}


def enough_queries(measured: PairedLoss, most: float) -> int | None:
    """The number of queries that would show a loss of at most `most`, if more queries gave the same shares.

    Args:
        measured: counts so far.
        most: the loss to exclude, in (0, 1).

    Returns:
        The number, at least the one needed when no query differs; None if `measured` loses `most` or more, so no number
        is enough.
    """
    if measured.loss >= most:
        return None
    lost, gained = measured.lost / measured.queries, measured.gained / measured.queries

    def shows(queries: int) -> bool:
        return upper_limit(queries, lost * queries, gained * queries) <= most

    too_few, enough = 0, 1
    while not shows(enough):
        too_few, enough = enough, 2 * enough
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if shows(middle) else (middle, enough)
    return max(enough, math.ceil(math.log(RISK) / math.log(1 - most)))


def upper_limit(queries: float, lost: float, gained: float, z: float = Z_95) -> float:
    """Tango's limit: the difference at which the score statistic, which falls as the difference grows, reaches -z.

    If no query differs it is too low, see `PairedLoss.upper`.
    """
    low, high = (lost - gained) / queries, 1.0
    for _ in range(60):  # bisects an interval of at most 2 down to the last bit of a float
        middle = (low + high) / 2
        low, high = (middle, high) if _score(queries, lost, gained, middle) > -z else (low, middle)
    return high


def _score(queries: float, lost: float, gained: float, difference: float) -> float:
    """Tango's statistic: standard normal if `difference` is the true one."""
    # Maximum-likelihood share of gained queries under the difference: the larger root of a x² + b x + c.
    a = 2 * queries
    b = -lost - gained + (2 * queries - lost + gained) * difference
    c = -gained * difference * (1 - difference)
    share = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = queries * (2 * share + difference * (1 - difference))
    excess = lost - gained - queries * difference
    return excess / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, excess) if excess else 0.0
