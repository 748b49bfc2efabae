"""What a claim of the literature is, and how a network's results answer it.

A claim compares an *effect*, a number of the network, with the same number for a *null*: what the
directions, perturbations or labels would do if the paper's idea were not behind them. The answer
comes from the 95 % interval of their contrast, so that chance gives no verdict.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geomadv.errors import InputError, closest
from geomadv.experiments.lines.curve_measures import resample_counts

Array = NDArray[np.float64]
Answer = Literal["holds", "does not hold", "undecided", "not measured"]
Bound = Literal["", "at least", "at most"]

_DRAWS = 1000
_LEVEL = (0.025, 0.975)
# Ends of what is a share, a rate or an accuracy.
SHARE = (0.0, 1.0)
# Units below which a resampled interval is too narrow to be told (a share of 0 of 10 may be 0.31).
_FEWEST = 10


class NotMeasured(Exception):
    """The result cannot tell; the message says why."""


def enough(count: int, least: int = _FEWEST) -> None:
    """Raises `NotMeasured` below so many units (images, draws, points)."""
    if count < least:
        raise NotMeasured(f"{count} of at least {least} units that an interval needs")


class Resamples:
    """The estimate and its resamples, row by row: row 0 is the result itself.

    All are drawn from one seed, so that a table is the same whenever it is made.
    """

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)

    def weights(self, count: int, least: int = _FEWEST) -> Array:
        """(rows, count) how often each of so many units (images, draws) is in a resample.

        Raises:
            NotMeasured: below so many units.
        """
        enough(count, max(least, 1))
        drawn = resample_counts(count, _DRAWS, int(self._random.integers(2**32)))
        return np.concatenate([np.ones((1, count)), drawn])

    def rate(self, rate: float, count: int) -> Array:
        """(rows,) a rate of which only the number of images is known.

        Resamples come from the posterior under Jeffreys' prior, whose interval is about Wilson's
        (Brown, Cai and DasGupta, Statistical Science 16, 2001), and which functions of several
        rates take over.

        Raises:
            NotMeasured: below ten images.
        """
        enough(count)
        hits = rate * count
        return np.append(rate, self._random.beta(hits + 0.5, count - hits + 0.5, _DRAWS))

    def share(self, rows: Array, count: int) -> Array:
        """Shares (rows, ...) of so many images; those of none or of all of them get a spread.

        What all images do, they do in every resample. There the resamples are those of `rate`, the
        same ones for all shares at an end.

        Raises:
            NotMeasured: below ten images, some share being at an end.
        """
        none, whole = rows[0] == 0, rows[0] == 1
        if not (none | whole).any():
            return rows
        drawn = self.rate(0.0, count).reshape(-1, *[1] * (rows.ndim - 1))
        return np.where(none, drawn, np.where(whole, 1 - drawn, rows))

    def paired(self, one: Array, other: Array, count: int) -> Array:
        """A share (rows,) beside another one of the same so many images.

        Where both agree in every resample, no image was seen that is in one of them alone; the
        resamples of the first then have the spread of none seen, either way.

        Raises:
            NotMeasured: below ten images, both being equal.
        """
        if not np.array_equal(one, other):
            return one
        return one + self.rate(0.0, count) - self.rate(0.0, count)


@dataclass(frozen=True)
class Measured:
    """Effect and null of a claim.

    Attributes:
        effect, null: (rows,) of `Resamples`, or a number that is exact.
        count: what the numbers rest on, such as "300 images".
        note: what else is to be said.
        bound: the contrast is "at least" or "at most" what effect and null give, where the result
            ends before one of them.
        ends: as of `Claim`, where this result tells them more closely.
    """

    effect: Array | float
    null: Array | float
    count: str
    note: str = ""
    bound: Bound = ""
    ends: tuple[float, float] | None = None


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper as an inequality between a contrast and a threshold.

    Thresholds were chosen before any network was looked at: unless the paper's words say more, a
    ratio of two ("at least twice"), and a quarter where shares are compared.

    Attributes:
        name: short, of small letters and underscores.
        paper: whose sentence it is, with the section or figure.
        sentence: the claim in words.
        experiment: name of the result file that answers it.
        quantity: what effect and null are, with the unit.
        null: what the null is of.
        measure: effect and null from the result; its docstring is the formula. Raises
            `NotMeasured` where the result cannot tell.
        contrast: effect "over" null, or effect "minus" null.
        relation, threshold: the claim holds if contrast relation threshold.
        of_mathematics: linear algebra promises it: a check, no finding about a network.
        ends: the least and the largest number that effect and null can be.
    """

    name: str
    paper: str
    sentence: str
    experiment: str
    quantity: str
    null: str
    measure: Callable[[xr.Dataset, Resamples], Measured]
    contrast: Literal["over", "minus"]
    relation: Literal[">=", "<="]
    threshold: float
    of_mathematics: bool = False
    ends: tuple[float, float] = (0.0, math.inf)

    @property
    def formula(self) -> str:
        """How effect and null are made."""
        function = self.measure
        words = inspect.getdoc(function.func if isinstance(function, partial) else function)
        return " ".join((words or "").split())

    @property
    def inequality(self) -> str:
        """In signs."""
        return f"effect {self.contrast} null {self.relation} {self.threshold:g}"


@dataclass(frozen=True)
class Verdict:
    """The answer of one network.

    Attributes:
        claim: the claim, with the threshold used.
        answer: what the interval says; "undecided" where it holds the threshold.
        effect, null: the two numbers; NaN where they were not measured.
        value: their contrast, and `low`, `high` its 95 % interval.
        count: what the numbers rest on.
        note: why it was not measured, or what is to be said about it; mostly "".
        bound: as of `Measured`.
    """

    claim: Claim
    answer: Answer
    effect: float = math.nan
    null: float = math.nan
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    count: str = ""
    note: str = ""
    bound: Bound = ""


def judge(
    results: Mapping[str, xr.Dataset],
    claims: Sequence[Claim],
    thresholds: Mapping[str, float] | None = None,
) -> list[Verdict]:
    """Every claim's verdict, in order.

    Args:
        results: a network's results by name of the experiment; those that are absent leave their
            claims unmeasured.
        claims: the claims.
        thresholds: others than the claims' own, by the claim's name.

    Raises:
        InputError: a threshold for no claim, or one that is not finite.
    """
    names = [claim.name for claim in claims]
    for name, threshold in (thresholds or {}).items():
        if name not in names or not math.isfinite(threshold):
            raise InputError(
                f"thresholds: {name}={threshold}: expected a finite number for one of the claims "
                f"{', '.join(names)}.{closest(name, names)}"
            )
    given = thresholds or {}
    changed = [replace(c, threshold=float(given.get(c.name, c.threshold))) for c in claims]
    return [_verdict(claim, results.get(claim.experiment)) for claim in changed]


def _verdict(claim: Claim, result: xr.Dataset | None) -> Verdict:
    if result is None:
        return Verdict(claim, "not measured", note=f"no {claim.experiment}.h5 yet")
    try:
        return _answered(claim, claim.measure(result, Resamples()))
    except NotMeasured as reason:
        return Verdict(claim, "not measured", note=str(reason))
    except KeyError as error:
        missing = "".join(re.findall(r"'(\w+)'", str(error))[:1]) or str(error)
        note = f"{claim.experiment}.h5 lacks {missing}: run it again with --refresh"
        return Verdict(claim, "not measured", note=note)
    except Exception as error:  # a result that was changed by hand may raise anything
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        note = f"{claim.experiment}.h5 does not hold what it needs ({words})"
        return Verdict(claim, "not measured", note=f"{note}: run it again with --refresh")


def _answered(claim: Claim, found: Measured) -> Verdict:
    effect, null = np.broadcast_arrays(np.atleast_1d(found.effect), np.atleast_1d(found.null))
    with np.errstate(divide="ignore", invalid="ignore"):
        contrast = effect / null if claim.contrast == "over" else effect - null
    value, resamples = contrast[0], contrast[1:] if len(contrast) > 1 else contrast
    if np.isnan(value):
        return Verdict(claim, "not measured", note="the result holds no number")
    # Resamples without a number might be anything.
    lost = np.isnan(resamples)
    low = float(np.quantile(np.where(lost, -np.inf, resamples), _LEVEL[0], method="lower"))
    high = float(np.quantile(np.where(lost, np.inf, resamples), _LEVEL[1], method="higher"))
    low, high = min(low, float(value)), max(high, float(value))  # of a share at its end
    low = -math.inf if found.bound == "at most" else low
    high = math.inf if found.bound == "at least" else high
    numbers = (float(effect[0]), float(null[0]), float(value), low, high)
    answer = _answer(claim, low, high)
    note = f"{found.bound} {value:.3g}: {found.note}" if found.bound else found.note
    if found.bound and answer == "undecided":
        return Verdict(claim, "not measured", note=note)
    end = (found.ends or claim.ends)[claim.relation == ">="]
    if answer == "does not hold" and not _has_room(claim, end, numbers[1], (low, high)):
        words = f"the null leaves no room: {numbers[0]:.3g} against {numbers[1]:.3g}, end {end:.3g}"
        answer, note = "not measured", f"{words}; {note}" if note else words
    return Verdict(claim, answer, *numbers, found.count, note, found.bound)


def _has_room(claim: Claim, end: float, null: float, interval: tuple[float, float]) -> bool:
    """Whether the claim could hold beside this null, or the effect is the opposite of it.

    Where 95 % of images leave a class along random directions, along no direction 25 percentage
    points more do: that is no finding about the network, unless its effect lies surely on the other
    side of the null.

    end: of what the quantity can be, on the claim's side; interval: of the contrast.
    """
    none, sign = (1.0 if claim.contrast == "over" else 0.0), (1 if claim.relation == ">=" else -1)
    best = end - null if claim.contrast == "minus" else end / null if null > 0 else math.nan
    opposite = max(sign * e for e in interval) < sign * none
    return opposite or not sign * best < sign * claim.threshold


def _answer(claim: Claim, low: float, high: float) -> Answer:
    ends: Any = (low, high) if claim.relation == ">=" else (-high, -low)
    least = claim.threshold if claim.relation == ">=" else -claim.threshold
    if ends[0] >= least:
        return "holds"
    return "does not hold" if ends[1] < least else "undecided"
