"""Where a segment crosses a boundary."""

from collections.abc import Callable

import torch
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.classifier.boundary_function import BoundaryFunction

_MAX_EVALUATIONS = 80


@torch.no_grad()
def crossing(
    net: Classifier,
    x: Tensor,
    delta: Tensor,
    boundary: BoundaryFunction,
    tolerance: Tensor,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Shares t in [0, 1] of delta at which the boundary function f vanishes.

    By `bracketed_root`, to |f| <= tolerance (n,). An image that lies on the boundary exactly
    crosses it at t = 0. start: f (n,) at the images, if it is known.

    Returns:
        t (n,), and whether the segment crosses the boundary at all (n,); where it does not, t = 1.
    """

    def margin(rows: Tensor, t: Tensor) -> Tensor:
        points = x[rows] + t.reshape(-1, 1, 1, 1) * delta[rows]
        return boundary[rows](net.scores(points)).value

    everyone = torch.arange(len(x), device=x.device)
    low, high = x.new_zeros(len(x)), x.new_ones(len(x))
    f_low = margin(everyone, low) if start is None else start.clone()
    f_high = margin(everyone, high)
    crossed = (f_low <= 0) & (f_high >= 0)
    at_start = crossed & (f_low == 0)
    rows = everyone[crossed & ~at_start]
    ends = (low[rows], high[rows], f_low[rows], f_high[rows])
    t = torch.where(at_start, low, high)
    t[rows] = bracketed_root(lambda at, t: margin(rows[at], t), *ends, tolerance[rows])
    return t, crossed


@torch.no_grad()
def bracketed_root(
    margin: Callable[[Tensor, Tensor], Tensor],
    low: Tensor,
    high: Tensor,
    f_low: Tensor,
    f_high: Tensor,
    tolerance: Tensor,
) -> Tensor:
    """Roots t (n,) of n functions between low, where they are <= 0, and high, where they are >= 0.

    Regula falsi (Illinois variant), with a bisection every third evaluation so that the bracket
    shrinks whatever the shape of the function. Stops at |f| <= tolerance, first looked at in high,
    or where low and high are neighbouring numbers.

    Args:
        margin: (numbers of the functions (k,), t (k,)) -> values (k,).
        low: (n,) below `high`.
        high: (n,).
        f_low: (n,) values there.
        f_high: (n,) values there.
        tolerance: (n,).
    """
    low, high, f_low, f_high = low.clone(), high.clone(), f_low.clone(), f_high.clone()
    everyone = torch.arange(len(low), device=low.device)
    best, f_best = high.clone(), f_high.clone()
    active = everyone[f_best > tolerance]
    side = torch.zeros_like(everyone)
    for evaluation in range(_MAX_EVALUATIONS):
        if len(active) == 0:
            break
        a, b, fa, fb = low[active], high[active], f_low[active], f_high[active]
        middle = (a + b) / 2
        t = middle if evaluation % 3 == 2 else a + (b - a) * fa / (fa - fb)
        # Very unequal values round the secant to an end of a bracket that is still wide.
        t = torch.where((t > a) & (t < b), t, middle)
        f = margin(active, t)
        closer = f.abs() < f_best[active].abs()
        best[active[closer]], f_best[active[closer]] = t[closer], f[closer]
        beyond = f >= 0
        # Illinois: an end that stays put twice counts half, or regula falsi would creep.
        now = torch.where(beyond, 1, -1)
        weight = torch.where(side[active] == now, 0.5, 1.0).to(f.dtype)
        side[active] = now
        low[active] = torch.where(beyond, a, t)
        high[active] = torch.where(beyond, t, b)
        f_low[active] = torch.where(beyond, weight * fa, f)
        f_high[active] = torch.where(beyond, f, weight * fb)
        active = active[(f_best[active].abs() > tolerance[active]) & (t != a) & (t != b)]
    return best
