"""What a claim of the literature is, and how a network's results answer it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import xarray as xr

Relation = Literal[">=", "<="]


class NotMeasured(Exception):
    """The result holds what the claim is about only in part; the message says what is missing."""


@dataclass(frozen=True)
class Measured:
    """A number with what is to be said about it.

    Attributes:
        value: the number.
        note: on what it rests, where that is not what the claim says.
        at_least: the result holds only so much of what is asked for that the number is at least
            this: the claim is answered only where this suffices.
    """

    value: float
    note: str = ""
    at_least: bool = False


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper as an inequality between a number of a result and a threshold.

    Thresholds turn words such as "most" or "near" into numbers; they are chosen before any network
    is looked at, and a claim that fails on a network is a finding about that network.

    Attributes:
        paper: whose sentence it is, with the section or figure.
        sentence: the claim in words.
        experiment: name of the result file that answers it.
        quantity: what the number is, with its unit.
        measure: the number from the result; raises `NotMeasured` where the result cannot tell.
        relation, threshold: the claim holds if number relation threshold.
    """

    paper: str
    sentence: str
    experiment: str
    quantity: str
    measure: Callable[[xr.Dataset], float | Measured]
    relation: Relation
    threshold: float


@dataclass(frozen=True)
class Verdict:
    """The answer of one network.

    Attributes:
        claim: the claim.
        value: its number; NaN if it was not measured, infinite if what it counts never happens.
        note: why it was not measured, or on what the number rests; mostly "".
    """

    claim: Claim
    value: float
    note: str = ""

    @property
    def answer(self) -> Literal["holds", "does not hold", "not measured"]:
        """In words."""
        if math.isnan(self.value):
            return "not measured"
        over = self.claim.relation == ">="
        meets = self.value >= self.claim.threshold if over else self.value <= self.claim.threshold
        return "holds" if meets else "does not hold"


def judge(results: Mapping[str, xr.Dataset], claims: Sequence[Claim]) -> list[Verdict]:
    """Every claim's verdict, in order.

    Args:
        results: a network's results by name of the experiment; those that are absent leave their
            claims unmeasured.
        claims: the claims.
    """
    return [_verdict(claim, results.get(claim.experiment)) for claim in claims]


def _verdict(claim: Claim, result: xr.Dataset | None) -> Verdict:
    if result is None:
        return Verdict(claim, math.nan, f"no {claim.experiment}.h5 yet")
    try:
        found = claim.measure(result)
    except NotMeasured as reason:
        return Verdict(claim, math.nan, str(reason))
    one = found if isinstance(found, Measured) else Measured(float(found))
    if math.isnan(one.value):
        return Verdict(claim, math.nan, "the result holds no number")
    if one.at_least and not _suffices(claim, one.value):
        return Verdict(claim, math.nan, f"at least {one.value:.3g}: {one.note}")
    return Verdict(claim, one.value, one.note)


def _suffices(claim: Claim, least: float) -> bool:
    """Whether a number that is at least this answers the claim."""
    return least >= claim.threshold if claim.relation == ">=" else least > claim.threshold
