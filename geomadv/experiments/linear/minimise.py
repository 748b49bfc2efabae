"""Minimisers of regularised linear classifiers, with a bound on the error of their direction.

The objective minus 1/2 ||w||^2 is convex in w and b together, so its minimum over b, as a function
p of w, is strongly convex with constant 1. Two bounds follow for any w, with w* the minimiser:
||w - w*|| <= ||grad p(w)||, and 1/2 ||w - w*||^2 <= p(w) - p(w*) <= p(w) - d for every value d of
the dual problem. As w* lies in that ball around w, the angle between them is at most
arcsin(||w - w*|| / ||w||).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, LinAlgWarning, cho_factor, cho_solve
from scipy.optimize import brentq

from geomadv.experiments.linear.objectives import Loss, Objective

Array = NDArray[np.float64]

# ||w - w*|| / ||w|| at which the solvers stop; the sine of 0.1 degrees is 1.7e-3.
_ENOUGH = 1e-9
# Below this bound Newton's method converges quadratically: after some steps without a better bound
# only rounding is left.
_NEAR, _STALLED = 1e-2, 5
# The farthest a line search goes, in Newton steps.
_FARTHEST = 2.0**20
# An interior step goes this share of the way to the nearest bound.
_INSIDE = 0.995


@dataclass(frozen=True)
class Minimum:
    """The best w and b found."""

    weight: Array  # (D,)
    bias: float
    angle_bound: float  # on the angle between w and the minimiser, radians; pi says nothing
    finished: bool  # stopped because only rounding is left, not by the number of steps


def minimise(objective: Objective, x: Array, is_second: NDArray[np.bool_], steps: int) -> Minimum:
    """Minimises an objective over the rows of x (N, D) in at most `steps` Newton steps.

    A step costs N m^2 / 2 + m^3 / 6 multiplications and some 8 (N m + 2 m^2) bytes, m = min(N, D).
    The minimiser lies in the span of the images: pixels that are zero in all of them take no part,
    and where there are fewer images than pixels, w is sought in that span.
    """
    used = np.asarray(x.any(axis=0))
    x = x[:, used]
    basis: Array | None = None
    if len(x) < x.shape[1]:
        basis, triangle = np.linalg.qr(x.T)
        x = triangle.T
    problem = _Problem.of(objective, x, np.where(is_second, 1.0, -1.0))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        state = _Interior(problem) if objective.loss is None else _Newton(problem)
        v, relative, finished = _search(state, steps)
    weight: Array = np.zeros(len(used))
    weight[used] = v[: x.shape[1]] if basis is None else basis @ v[: x.shape[1]]
    bias = v[-1] * problem.column if objective.scale > 0 else 0.0
    bound = float(np.arcsin(relative)) if relative < 1 else float(np.pi)
    return Minimum(weight, float(bias), bound, finished)


@dataclass(frozen=True)
class _Problem:
    """1/2 sum_j r_j v_j^2 + sum_i c_i phi(y_i a_i.v); the intercept is the last of v."""

    a: Array  # (N, p)
    y: Array  # (N,) +-1
    c: Array  # (N,)
    r: Array  # (p,) ones; the last is zero for a free intercept
    loss: Loss | None
    column: float  # b = column * v_p
    width: int  # D, numbers of w

    @staticmethod
    def of(objective: Objective, x: Array, y: Array) -> _Problem:
        scale, free = objective.scale, np.isinf(objective.scale)
        column = 1.0 if free else scale
        a, r = x, np.ones(x.shape[1])
        if scale > 0:
            a = np.column_stack([x, np.full(len(x), column)])
            r = np.append(r, 0.0 if free else 1.0)
        return _Problem(a, y, objective.weights, r, objective.loss, column, x.shape[1])

    def matrix(self, weights: Array) -> Array:
        """R + A^T diag(weights) A. (p, p)."""
        used = weights > 0
        rows = np.sqrt(weights[used])[:, None] * self.a[used]
        matrix: Array = rows.T @ rows
        matrix[np.diag_indices(len(matrix))] += self.r
        return matrix

    def size(self, v: Array) -> float:
        """||w||."""
        return float(np.linalg.norm(v[: self.width]))

    def slopes(self, margins: Array) -> Array:
        """c_i phi'(m_i) y_i. (N,)."""
        assert self.loss is not None
        return self.c * self.loss.slope(margins) * self.y


def _solver(matrix: Array) -> Callable[[Array], Array] | None:
    """Solves systems with a positive definite matrix; None where rounding has made it another."""
    # A free intercept that no image acts on at present stays where it is.
    zero = matrix.diagonal() == 0
    matrix[zero, zero] = 1
    scale = 1 / np.sqrt(matrix.diagonal())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", LinAlgWarning)
            factor = cho_factor(matrix * scale * scale[:, None], overwrite_a=True)
    except (LinAlgError, LinAlgWarning, ValueError):
        return None
    return lambda right: scale * cho_solve(factor, scale * right, check_finite=False)


def _search(state: _Newton | _Interior, steps: int) -> tuple[Array, float, bool]:
    """The best v on the way, the bound on its ||w - w*|| / ||w||, and whether it is the end."""
    best, bound, stalled = state.v, np.inf, 0
    for step in range(steps + 1):
        error, size = state.error(), state.problem.size(state.v)
        relative = error / size if size > 0 else np.inf
        stalled += bound < _NEAR
        if relative < bound:
            best, bound, stalled = state.v, float(relative), 0
        if bound <= _ENOUGH or stalled >= _STALLED or step == steps or not state.advance():
            break
    return best, bound, step < steps or bound <= _ENOUGH


class _Newton:
    """Newton's method with exact line searches."""

    def __init__(self, problem: _Problem) -> None:
        self.problem = problem
        self.v: Array = np.zeros(problem.a.shape[1])

    def error(self) -> float:
        """Bound on ||w - w*||: the gradient's norm."""
        problem = self.problem
        assert problem.loss is not None
        self._margins = problem.y * (problem.a @ self.v)
        self._gradient = problem.r * self.v + problem.a.T @ problem.slopes(self._margins)
        self._matrix = problem.matrix(problem.c * problem.loss.curvature(self._margins))
        return _profile(problem, self._gradient, self._matrix)

    def advance(self) -> bool:
        """One step; False where rounding does not let it."""
        solve = _solver(self._matrix)
        if solve is None:
            return False
        direction = solve(-self._gradient)
        if not np.isfinite(direction).all():
            return False
        step = _line_search(self.problem, self.v, direction, self._margins)
        self.v = self.v + step * direction
        return True


def _profile(problem: _Problem, gradient: Array, matrix: Array) -> float:
    """||grad p(w)||: the gradient where the derivative along a free intercept vanishes.

    To first order in that derivative, which is rounding in the end.
    """
    if problem.r[-1] > 0 or matrix[-1, -1] == 0:
        return float(np.linalg.norm(gradient))
    return float(np.linalg.norm(gradient[:-1] - matrix[:-1, -1] * gradient[-1] / matrix[-1, -1]))


def _line_search(problem: _Problem, v: Array, direction: Array, margins: Array) -> float:
    """The step at which the derivative along the direction vanishes.

    It is a search in the derivative, which rounding spoils later than it does values.
    """
    change = problem.a @ direction
    linear, square = float(problem.r * v @ direction), float(problem.r * direction @ direction)

    def derivative(t: float) -> float:
        sloped = problem.slopes(margins + t * problem.y * change)
        return float(linear + t * square + sloped @ change)

    far = 1.0
    while derivative(far) < 0 and far < _FARTHEST:
        far *= 2
    near = far / 2 if far > 1 else 0.0
    if not derivative(near) < 0 < derivative(far):
        return 1.0
    return float(brentq(derivative, near, far, rtol=1e-6, xtol=1e-12))


class _Interior:
    """The hinge by a primal-dual interior-point method (Mehrotra's predictor and corrector).

    Minimise 1/2 v.Rv + c.e subject to e >= 0, s = y Av - 1 + e >= 0; the duals d of s and c - d of
    e are positive too, with R v = (yA)^T d. The systems are those of Ferris and Munson (SIAM J.
    Optim. 2002), p wide.
    """

    def __init__(self, problem: _Problem) -> None:
        self.problem = problem
        self.v: Array = np.zeros(problem.a.shape[1])
        half, ones = problem.c / 2, np.ones_like(problem.c)
        # Rows: d, c - d, s, e. The second is kept, since the difference would lose small values.
        self._pairs = np.stack([half, half, ones, ones])

    def error(self) -> float:
        """Bound on ||w - w*||, by the duality gap."""
        return float(np.sqrt(2 * _gap(self.problem, self.v, self._pairs[0])))

    def advance(self) -> bool:
        """One step; False where rounding does not let it."""
        d, rest, s, e = pairs = self._pairs
        theta = 1 / (e / rest + s / d)
        solve = _solver(self.problem.matrix(theta))
        if solve is None:
            return False
        _, change = self._move(0.0, 0.0, theta, solve)
        mean = (d @ s + rest @ e) / (2 * len(d))
        after = pairs + _room(pairs, change) * change
        share = (after[0] @ after[2] + after[1] @ after[3]) / (2 * len(d)) / mean
        goal = share**3 * mean
        centred = (goal - change[0] * change[2], goal - change[1] * change[3])
        dv, change = self._move(*centred, theta, solve)
        if not (np.isfinite(dv).all() and np.isfinite(change).all()):
            return False
        far = _INSIDE * _room(pairs, change)
        self.v, self._pairs = self.v + far * dv, pairs + far * change
        return True

    def _move(
        self,
        s_goal: Array | float,
        e_goal: Array | float,
        theta: Array,
        solve: Callable[[Array], Array],
    ) -> tuple[Array, Array]:
        """The step at which d s and (c - d) e become the goals, linearised."""
        a, y, (d, rest, s, e) = self.problem.a, self.problem.y, self._pairs
        missing = y * (a @ self.v) - 1 + e - s
        left, right = s_goal - d * s, e_goal - rest * e
        h = left / d - right / rest - missing
        dual = self.problem.r * self.v - a.T @ (y * d)
        dv = solve(a.T @ (y * theta * h) - dual)
        dd = theta * (h - y * (a @ dv))
        return dv, np.stack([dd, -dd, (left - s * dd) / d, (right + e * dd) / rest])


def _room(values: Array, change: Array) -> float:
    """How much of a step, at most all, leaves values positive."""
    falls = change < 0
    return min(1.0, float((-values[falls] / change[falls]).min(initial=1.0)))


def _gap(problem: _Problem, v: Array, d: Array) -> float:
    """Duality gap of the hinge: the objective at v minus the dual's at d, made feasible.

    Its rounding is added: that of the two values, which cancel.
    """
    a, y, c = problem.a, problem.y, problem.c
    if problem.r[-1] == 0:
        # A free intercept asks for y.d = 0: the heavier class is scaled down, which stays in 0..c.
        sums = np.array([d[y < 0].sum(), d[y > 0].sum()])
        d = d * (sums.min() / sums)[(y > 0).astype(np.int64)]
    squares = (problem.r * v @ v + problem.r @ (a.T @ (y * d)) ** 2) / 2
    hinges, linear = c @ np.maximum(1 - y * (a @ v), 0), d.sum()
    rounding = np.finfo(np.float64).eps * (squares + hinges + linear)
    return float(max(squares + hinges - linear, 0.0) + rounding)
