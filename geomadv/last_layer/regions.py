"""Which decision regions of a softmax layer reach to infinity: rank and linear programmes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from geomadv.errors import InputError
from geomadv.last_layer.adversarial_space import AdversarialSpace, Array, check_weight
from geomadv.progress import tqdm

# How a class's recession cone was decided, in the order of `ClassRegions.test`.
TESTS = ("rank", "centre-direction", "linear-programme")

# An inscribed ball of less than this, relative to the distances of the boundaries, is rounding.
_INTERIOR = 1e-9


@dataclass(frozen=True)
class ClassRegions:
    """Shape of the region {h : class i scores highest} of every class.

    A region is a polyhedron; it is unbounded if and only if its recession cone
    {d : (w_j - w_i) d <= 0 for all j} holds more than zero. Where there are adversarial directions
    the cone holds them and every region is unbounded; the cone within the visible directions tells
    whether it would be so without them.

    Attributes:
        empty: (m,) bool, the region has no inner points: the class is never predicted.
        unbounded: (m,) bool; False for an empty region.
        unbounded_visible: (m,) bool, unbounded within the visible directions (the row space of
            the centred weights); False for an empty region.
        test: (m,) index in `TESTS` of what decided `unbounded_visible`.
    """

    empty: NDArray[np.bool_]
    unbounded: NDArray[np.bool_]
    unbounded_visible: NDArray[np.bool_]
    test: NDArray[np.int8]


def class_regions(
    weight: Any, bias: Any, space: AdversarialSpace, progress: bool = False
) -> ClassRegions:
    """Decides for every class whether its region is empty, bounded or unbounded.

    Zou et al., "Geometric Universality of Adversarial Examples in Deep Learning", theorem 2.

    Three tests, the cheapest first: with rank m - 1 every pattern of score differences occurs, so
    no region is empty or bounded; a region whose class wins strictly along its own centred
    weights w_i - mean w is unbounded; else two linear programmes in the visible coordinates.

    Args:
        weight: (m, l), one row per class.
        bias: (m,).
        space: of these weights.
        progress: show a progress bar.

    Raises:
        InputError: shapes that do not fit.
        RuntimeError: the solver (HiGHS) gave up on a linear programme.
    """
    w = check_weight(weight)
    b = np.asarray(bias, dtype=np.float64)
    if b.shape != (len(w),) or space.visible.shape[0] != w.shape[1]:
        raise InputError(
            f"bias has shape {b.shape} and the space {space.visible.shape[0]} features, but weight "
            f"has shape {w.shape}: expected one bias per class and the space of these weights."
        )
    m = len(w)
    empty, visible = np.zeros(m, dtype=bool), np.ones(m, dtype=bool)
    test = np.full(m, TESTS.index("rank"), dtype=np.int8)
    if space.rank < m - 1:
        seen = (w - w.mean(axis=0)) @ space.visible
        easy = _wins_along_its_weights(seen)
        test[:] = TESTS.index("centre-direction")
        for i in tqdm(np.flatnonzero(~easy), desc="regions", unit="class", disable=not progress):
            test[i] = TESTS.index("linear-programme")
            rows, gaps, hidden = _half_spaces(seen, b, int(i))
            empty[i] = hidden or _is_empty(rows, gaps)
            visible[i] = not empty[i] and _has_direction(rows)
    unbounded = visible | (~empty & (space.adversarial.shape[1] > 0))
    return ClassRegions(empty, unbounded, visible, test)


def _wins_along_its_weights(seen: Array) -> NDArray[np.bool_]:
    """Whether class i scores strictly highest far along its centred weights (m,)."""
    gram = seen @ seen.T
    rounding = len(gram) * np.finfo(np.float64).eps * gram.diagonal().max()
    np.fill_diagonal(rival := gram.copy(), -np.inf)
    return np.asarray(rival.max(axis=1) < gram.diagonal() - rounding)


def _half_spaces(seen: Array, b: Array, i: int) -> tuple[Array, Array, bool]:
    """The region of class i as rows y <= gaps with unit rows, and whether a twin always beats it.

    Distances are in feature units. A class with the very same weights has no boundary with i: the
    larger bias decides.
    """
    rows, gaps = np.delete(seen - seen[i], i, axis=0), np.delete(b[i] - b, i)
    lengths = np.linalg.norm(rows, axis=1)
    real = lengths > seen.shape[0] * np.finfo(np.float64).eps * np.abs(seen).max()
    hidden = bool((gaps[~real] < 0).any())
    return rows[real] / lengths[real, None], gaps[real] / lengths[real], hidden


def _is_empty(rows: Array, gaps: Array) -> bool:
    """No ball fits: the largest t <= limit with rows y + t <= gaps is not positive.

    Sought on the scale of the largest gap and on that of the smallest: a masked class is 1e9 away
    from classes that lie side by side.
    """
    sizes = np.abs(gaps[gaps != 0])
    scales = dict.fromkeys((sizes.max(), sizes.min())) if len(sizes) else (1.0,)
    return not any(_has_interior(rows, gaps / scale) for scale in scales)


def _has_interior(rows: Array, gaps: Array) -> bool:
    """Some y has rows y < gaps, beyond rounding; the solver's word is not enough."""
    count, rank = rows.shape
    solved = linprog(
        np.append(np.zeros(rank), -1.0),
        A_ub=np.column_stack([rows, np.ones(count)]),
        b_ub=gaps,
        bounds=[*[(None, None)] * rank, (None, 1.0)],
        method="highs",
    )
    _check_solved(solved)
    y = solved.x[:-1]
    rounding = rank * np.finfo(np.float64).eps * float(np.abs(y).max(initial=0.0))
    return bool((gaps - rows @ y).min() > max(_INTERIOR, rounding))


def _has_direction(rows: Array) -> bool:
    """Some y has rows y <= 0, not all of them zero (the rows span the whole space).

    Maximise the sum of s = -rows y with 0 <= s <= 1. The feasible set scales until one s is 1: the
    optimum is zero or at least one, which leaves no doubt about rounding.
    """
    count, rank = rows.shape
    solved = linprog(
        np.append(np.zeros(rank), np.full(count, -1.0)),
        A_eq=np.column_stack([rows, np.eye(count)]),
        b_eq=np.zeros(count),
        bounds=[*[(None, None)] * rank, *[(0.0, 1.0)] * count],
        method="highs",
    )
    _check_solved(solved)
    return bool(-solved.fun > 0.5)


def _check_solved(solved: Any) -> None:
    if solved.status != 0:
        raise RuntimeError(f"linear programme of a class region not solved: {solved.message}")
