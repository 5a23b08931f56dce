"""How much R@1 a candidate loses against its reference, and how much it may lose, from queries that both were asked."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

__all__ = ["PairedLoss", "enough_queries", "upper_limit"]

RISK = 0.05  # of calling a loss excluded that is there
Z_95 = 1.6448536269514722  # of the normal distribution, one-sided, at that risk


@dataclass(frozen=True)
class PairedLoss:
    """Queries that one of two networks answers rightly and the other does not.

    Only these tell the two apart: each query is a pair of answers, right or wrong, whose difference is 1, 0 or -1.

    Attributes:
        queries: asked of both, >= 1.
        lost: the reference is right, the candidate is wrong.
        gained: the candidate is right, the reference is wrong.
    """

    queries: int
    lost: int
    gained: int

    @property
    def loss(self) -> float:
        """Reference's recall minus the candidate's, in [-1, 1]; above 0 the candidate is worse."""
        return (self.lost - self.gained) / self.queries

    @property
    def upper(self) -> float:
        """No true loss above this one fits the queries, one-sided at 95 %, in [loss, 1].

        It is the score interval of Tango: the largest difference that a score test, its variance estimated under that
        very difference, does not reject. Where no query differs it would leave z² / (n + z²), 1 point at 268 queries,
        of which a network that loses 1 point and gains none leaves no trace 6.8 times of 100. The exact limit is in its
        place then, 1 - 0.05^(1/n): 1 point at 299. Queries are taken as independent; frames of one drive are less than
        that, and the true interval is then wider.

        Source: Tango, Equivalence test and confidence interval for the difference in proportions for the paired-sample
        design (Statistics in Medicine 17, 1998); recommended by Fagerland, Lydersen and Laake, Recommended tests and
        confidence intervals for paired binomial proportions (Statistics in Medicine 33, 2014).
        """
        if self.lost == self.gained == 0:
            return 1 - math.pow(RISK, 1 / self.queries)
        return upper_limit(self.queries, self.lost, self.gained)

    @property
    def lower(self) -> float:
        """No true loss below this one fits the queries, one-sided at 95 %, in [-1, loss]."""
        return -PairedLoss(self.queries, self.gained, self.lost).upper

    def to_record(self) -> dict[str, float]:
        """The counts, the loss and its limits as plain values."""
        return {**asdict(self), "loss": self.loss, "lower": self.lower, "upper": self.upper}


def enough_queries(measured: PairedLoss, most: float) -> int | None:
    """How many queries would show a loss of no more than `most`, if further ones came out as these did.

    Args:
        measured: what was found so far.
        most: the loss to exclude, in (0, 1).

    Returns:
        The number, at least what it takes when no query differs; None if these lose `most` or more, so that no number
        would.
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
    """Tango's limit: the difference at which the score statistic falls to -z; it falls as the difference grows.

    Where nothing differs it is too low, see `PairedLoss.upper`.
    """
    low, high = (lost - gained) / queries, 1.0
    for _ in range(60):  # halves of an interval of at most 2: to the last bit of a float
        middle = (low + high) / 2
        low, high = (middle, high) if _score(queries, lost, gained, middle) > -z else (low, middle)
    return high


def _score(queries: float, lost: float, gained: float, difference: float) -> float:
    """Tango's statistic: standard normal if `difference` is the true one."""
    # The share of gained queries that is most likely under the difference: the larger root of a x² + b x + c.
    a = 2 * queries
    b = -lost - gained + (2 * queries - lost + gained) * difference
    c = -gained * difference * (1 - difference)
    share = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = queries * (2 * share + difference * (1 - difference))
    excess = lost - gained - queries * difference
    return excess / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, excess) if excess else 0.0
