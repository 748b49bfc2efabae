"""How symmetric, monotonic and additively separable response curves are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.stats import binom

Array = NDArray[np.float64]

_DEGREE = 3


def best_symmetry(curves: Array) -> tuple[Array, NDArray[np.int64]]:
    """Symmetry of curves on an equally spaced grid about the centre where it is largest.

    About a centre, a curve on the largest window that fits has an even part e and an odd part o.
    As these are orthogonal, the variance in the window is that of e plus the mean of o². Symmetry
    is the share of e, 1 - mean(o²) / variance: 1 for an even function, 0 for an odd one. A constant
    is even. Centres are grid points and midpoints in the middle half of the grid, so that every
    window covers at least half of it. A true centre between them lies at most h / 4 off, which
    takes at most 15 (h / 4w)² from a parabola's symmetry (h grid step, w half width of the window).

    Args:
        curves: (n, s), s >= 3.

    Returns:
        Symmetry (n,) and the position (n,) of its centre in half steps from the first point.
    """
    n, s = curves.shape
    quarter = -(-(s - 1) // 2)
    best, centre = np.full(n, -np.inf), np.zeros(n, dtype=np.int64)
    # From the middle outwards: of equally good centres the one nearest to it stays.
    for twice in sorted(range(quarter, 2 * (s - 1) - quarter + 1), key=lambda p: abs(p - (s - 1))):
        first = max(0, twice - (s - 1))
        window = curves[:, first : twice - first + 1]
        odd = (window - window[:, ::-1]) / 2
        variance = window.var(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(variance > 0, 1 - (odd**2).mean(axis=1) / variance, 1.0)
        better = value > best
        best[better], centre[better] = value[better], twice
    return best, centre


def monotonicity(curves: Array, centre: NDArray[np.int64]) -> Array:
    """Net change over total variation of curves on either side of their centres.

    |F(end) - F(centre)| / Σ|F(i + 1) - F(i)|: 1 if and only if the curve is monotonic there on the
    grid, near 0 where it comes back to where it started. A constant is monotonic.

    Args:
        curves: (n, s).
        centre: (n,) in half steps from the first point; a midpoint's own step counts for no side.

    Returns:
        (n, 2), below and above the centre.
    """
    steps = np.diff(curves, axis=1)
    index = np.arange(steps.shape[1])
    sides = (index < centre[:, None] // 2, index >= (centre[:, None] + 1) // 2)
    result = np.ones((len(curves), 2))
    for i, side in enumerate(sides):
        total = np.where(side, np.abs(steps), 0).sum(axis=1)
        net = np.abs(np.where(side, steps, 0).sum(axis=1))
        np.divide(net, total, out=result[:, i], where=total > 0)
    return result


@dataclass(frozen=True)
class AdditiveFit:
    """Least-squares fit of F_n(s) = G(a_n + s) + H_n, see `fit_additive`.

    Attributes:
        knots: (s,) coordinates t at which G is given.
        common: (s,) G there, of mean zero over the points of the fit.
        offset: (n,) H_n; NaN for a curve with fewer than two points on the common range.
        points: (n,) points of each curve on the common range.
        total: (n,) their sums, and `squares` (n,) the sums of their squares.
        within: (n,) sums of squares about each curve's mean.
        residual: (n,) sums of squared residuals.
    """

    knots: Array
    common: Array
    offset: Array
    points: Array
    total: Array
    squares: Array
    within: Array
    residual: Array

    def separability(self, weights: Array | None = None) -> Array:
        """Shares of the variance that the model explains, of all curves or of resamplings.

        weights (draws, n) -> (draws, 2), without (2,). First 1 - residual / variance about the
        grand mean. Second 1 - residual / variance within curves: what G alone explains of the
        movement along the direction, without the credit for the offsets H_n. Without variance
        both are 1: the model is exact. G is held fixed under resampling: fitting it anew changes
        the residuals in second order only.
        """
        w = np.ones((1, len(self.points))) if weights is None else weights
        # One pass over the weights for all sums.
        each = np.stack([self.residual, self.points, self.total, self.squares, self.within], -1)
        residual, points, sums, squares, within = (w @ each).T
        total = np.stack([squares - sums**2 / np.maximum(points, 1), within], -1)
        # Below the rounding of the sums there is no variance to explain.
        floor = (np.finfo(np.float64).eps * squares)[:, None]
        shares = np.ones_like(total)
        np.divide(residual[:, None], total, out=shares, where=total > floor)
        shares = np.where(total > floor, 1 - shares, 1.0)
        return shares[0] if weights is None else shares


def fit_additive(curves: Array, offsets: Array, scales: Array) -> AdditiveFit:
    """Aligns curves by t = offset + s and fits one common function plus one constant per curve.

    G is a cubic spline with a knot every grid step, fitted to the values where they lie: nothing
    is interpolated. The fit is exact for every G that is a cubic polynomial, and within O(h^4) for
    a smooth one. It takes the t from m + s_1 to m + s_last, m the (upper) median of the offsets:
    there at least half of the curves have values, so that no few of them shape G at the ends.

    Args:
        curves: (n, s) values F_n(s).
        offsets: (n,) a_n, the coordinates of the images along the direction.
        scales: (s,) equally spaced, s >= 3.
    """
    step = (scales[-1] - scales[0]) / (len(scales) - 1)
    # The median as one of the offsets: its curve has values on the whole range.
    knots = np.sort(offsets)[len(offsets) // 2] + scales
    t = offsets[:, None] + scales
    # A point on the edge belongs to the range however its sum was rounded.
    slack = 1e-6 * step
    used = (t >= knots[0] - slack) & (t <= knots[-1] + slack)
    used &= used.sum(axis=1, keepdims=True) > 1
    # The points in a row, curve after curve: `which` curve each is of.
    rows = np.nonzero(used)[0]
    present = np.flatnonzero(used.any(axis=1))
    count = used.sum(axis=1)[present]
    starts, which = count.cumsum() - count, np.repeat(np.arange(len(present)), count)
    values, basis = curves[used], _splines(t[used], knots, step)

    # Without the curves' own means the constants H_n drop out of the problem.
    means = np.add.reduceat(values, starts) / count
    basis_means = np.add.reduceat(basis, starts, axis=0) / count[:, None]
    system = np.column_stack([basis, values])
    system -= np.column_stack([basis_means, means])[which]
    centred, target = system[:, :-1], system[:, -1]
    coefficients = _least_squares(system)
    level = basis.mean(axis=0) @ coefficients
    offset = np.full(len(curves), np.nan)
    offset[present] = means - basis_means @ coefficients + level

    def sums(points: Array) -> Array:
        return np.bincount(rows, points, minlength=len(curves)).astype(np.float64)

    return AdditiveFit(
        knots=knots,
        common=_splines(knots, knots, step) @ coefficients - level,
        offset=offset,
        points=sums(np.ones_like(values)),
        total=sums(values),
        squares=sums(values**2),
        within=sums(target**2),
        residual=sums((target - centred @ coefficients) ** 2),
    )


def _least_squares(system: Array) -> Array:
    """The shortest least-squares solution of a tall system, the right side its last column.

    By its triangular factor, which has the same solutions. Torch computes it with the threads that
    the network ran on; NumPy's own would wait for these.
    """
    factor = torch.linalg.qr(torch.from_numpy(system), mode="r").R.numpy()
    cutoff = np.finfo(np.float64).eps * max(system.shape)
    return np.asarray(np.linalg.lstsq(factor[:, :-1], factor[:, -1], rcond=cutoff)[0])


def _splines(t: Array, knots: Array, step: float) -> Array:
    """Cubic B-splines (points, s + 2) on equally spaced knots at points t within them."""
    outer = step * np.arange(1, _DEGREE + 1)
    padded = np.concatenate([knots[0] - outer[::-1], knots, knots[-1] + outer])
    inside = np.clip(t, knots[0], knots[-1])
    return np.asarray(BSpline.design_matrix(inside, padded, _DEGREE).toarray())


def resample_counts(n: int, draws: int, seed: int) -> Array:
    """How often each of n curves is drawn in each bootstrap resampling, (draws, n)."""
    drawn = np.random.default_rng(seed).integers(n, size=(draws, n))
    # One count over all resamplings, each with its own numbers, is far faster than multinomial().
    flat = np.bincount((drawn + n * np.arange(draws)[:, None]).ravel(), minlength=draws * n)
    return flat.reshape(draws, n).astype(np.float64)


def median_interval(values: Array) -> Array:
    """Interval (2,) for the median of the population that values (n,) are drawn from.

    Between two order statistics; as each value lies below the median with probability 1/2, their
    ranks are binomial quantiles, and the interval holds the median with at least 95 % whatever the
    distribution (below six values only with 1 - 2^(1 - n)).
    """
    n = len(values)
    rank = max(int(binom.ppf(0.025, n, 0.5)), 1)
    return np.sort(values)[[rank - 1, n - rank]]
