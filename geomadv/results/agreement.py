"""How far two results of the same computation agree, variable by variable."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

# Of the largest number of a variable: what differs by more is another result. Sums of float32 in
# another order (threads, batches, processors) differ by some 2e-7 of their terms. On digits-cnn
# 1 and 2 threads and batches of 1 and 200 then differ by up to 3e-7 in DeepFool, its points,
# normals and curvatures, and by up to 9e-6 behind the hundred steps to the nearest points.
BOUND = 1e-4
# Ratios, cosines, rates and residuals are parts of one, angles of a radian, however small they are:
# the angle of a point that is the nearest one to rounding is rounding itself.
_OF_ONE = ("1", "radian")

IDENTICAL, ROUNDING, DIFFERENT, DURATION = "identical", "to rounding", "different", "a duration"
# The unit of what no second run repeats.
_SECONDS = "s"
_BLOCK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Agreement:
    """How a variable agrees with that of another computation.

    Attributes:
        name: of the variable.
        verdict: "identical", "to rounding", "different"; or "a duration", which is not compared.
        note: what differs, in words.
        difference: the largest, over the largest number of the variable; NaN for what is not a
            floating-point number or not compared.
    """

    name: str
    verdict: str
    note: str = ""
    difference: float = math.nan

    @property
    def agrees(self) -> bool:
        """Whether it is the same to rounding, or not compared."""
        return self.verdict != DIFFERENT

    def __str__(self) -> str:
        return f"{self.verdict:12} {self.name}{f': {self.note}' if self.note else ''}"


def told(found: Sequence[Agreement]) -> str:
    """How many variables have which verdict."""
    counts = Counter(a.verdict for a in found)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())


def agreements(one: xr.Dataset, other: xr.Dataset, bound: float = BOUND) -> Iterator[Agreement]:
    """Compares two results, coordinates too.

    Whole numbers, truth values and texts agree if they are equal; floating-point numbers, if each
    differs by at most `bound` times the largest of the variable (of pure numbers and angles: or
    times 1, if that is more), and the same ones are missing.

    Args:
        one: the result that is known.
        other: the result that is compared with it.
        bound: of differences, relative to the largest finite number of the variable in `one`.
    """
    for name in dict.fromkeys([*one.variables, *other.variables]):
        if name in one.variables and name in other.variables:
            yield _agreement(str(name), one[name].variable, other[name].variable, bound)
        else:
            which = "old" if name in one.variables else "new"
            yield Agreement(str(name), DIFFERENT, f"only the {which} result has it")


def _agreement(name: str, one: xr.Variable, other: xr.Variable, bound: float) -> Agreement:
    if _SECONDS in (one.attrs.get("units"), other.attrs.get("units")):
        return Agreement(name, DURATION)
    for old, new in ((dict(one.sizes), dict(other.sizes)), (one.dtype.kind, other.dtype.kind)):
        if old != new:
            return Agreement(name, DIFFERENT, f"{old} -> {new}")
    if one.dims != other.dims:
        return Agreement(name, DIFFERENT, f"{one.dims} -> {other.dims}")
    blocks = _blocks(one, other)
    if one.dtype.kind != "f":
        count = sum(int((a != b).sum()) for a, b in blocks)
        note = f"{count} of {one.size} differ" if count else ""
        return Agreement(name, DIFFERENT if count else IDENTICAL, note)
    least = 1.0 if one.attrs.get("units") in _OF_ONE else 0.0
    return _numbers(name, blocks, bound, one.size, least)


def _blocks(one: xr.Variable, other: xr.Variable) -> Iterator[tuple[Any, Any]]:
    """The values, of large variables some rows at a time."""
    if one.nbytes <= _BLOCK_BYTES or not one.ndim:
        yield one.to_numpy(), other.to_numpy()
        return
    step = max(1, _BLOCK_BYTES * len(one) // one.nbytes)
    for start in range(0, len(one), step):
        rows = slice(start, start + step)
        yield one[rows].to_numpy(), other[rows].to_numpy()


def _numbers(
    name: str, blocks: Iterator[tuple[Any, Any]], bound: float, size: int, largest: float
) -> Agreement:
    count, apart = 0, 0.0
    for a, b in blocks:
        differ = ~((a == b) | (np.isnan(a) & np.isnan(b)))
        count += int(differ.sum())
        with np.errstate(invalid="ignore", over="ignore"):
            gap = np.abs(np.subtract(a, b, dtype=np.float64))[differ]
        apart = max(apart, np.where(np.isnan(gap), np.inf, gap).max(initial=0.0))
        largest = max(largest, np.abs(a, dtype=np.float64)[np.isfinite(a)].max(initial=0.0))
    if not count:
        return Agreement(name, IDENTICAL, difference=0.0)
    worst = float(apart / largest) if largest else math.inf
    how = "some are missing or infinite in one" if math.isinf(apart) else f"by up to {apart:.2g}"
    note = f"{count} of {size} differ, {how}: relative {worst:.2g}, bound {bound:g}"
    return Agreement(name, ROUNDING if worst <= bound else DIFFERENT, note, worst)
