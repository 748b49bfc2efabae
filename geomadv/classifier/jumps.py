"""Jumps of a gradient along lines: kinks as they are, whatever made them.

On a line the second difference of the gradient over a segment of length h falls as h^2 where the
function is smooth, as h where the second derivative jumps (ELU: exact products are right there),
as h^(1/2) at |x|^(3/2), and not at all where the gradient itself jumps (ReLU, SELU). Every line is
cut where its second difference is largest until the segment is short, and the power tells.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# (n, C, H, W) -> (n, C, H, W), one function per row.
Gradient = Callable[[Tensor], Tensor]

# Half lengths, in pixel ranges, between which the power is taken. Softplus and its like are smooth
# if they are wider than the middle one. Rounding leaves float32 no finer ones.
SCALES = {torch.float64: (1e-3, 1e-4, 1e-6), torch.float32: (1e-1, 1e-2, 1e-4)}
# First cut of a line; below, every step halves the segment.
_PARTS = 8
# Between the powers 0 of a jump and 1/2 of the least smooth function with continuous gradient.
_POWER = 0.25
# Second differences below this many roundings of the gradient say nothing.
_ROUNDINGS = 1e3
# Jumps below this share of all the gradient's change on the line leave out nothing of note.
_SHARE = 1e-5


@dataclass(frozen=True)
class Change:
    """The gradient's change on n lines, and what of it is left on shorter and shorter segments."""

    variation: Tensor  # (n,) sum of the changes over the first parts
    scales: Sequence[float]  # half lengths of segments, falling, image units
    bends: Sequence[Tensor]  # (n,) second differences on segments of these half lengths
    rounding: Tensor  # (n,)

    @property
    def jumps(self) -> Tensor:
        """(n,) Size of the jump found relative to the variation, 0 where there is none.

        What does not fall between two scales is a jump at the finer one.
        """
        found = torch.zeros_like(self.variation)
        pairs = zip(self.scales, self.scales[1:], self.bends, self.bends[1:], strict=False)
        for coarse, fine, before, after in pairs:
            stays = (after > (fine / coarse) ** _POWER * before) & (after > self.rounding)
            share = after / self.variation
            found = torch.where(stays & (share > _SHARE), torch.maximum(share, found), found)
        return found


def change_on_lines(
    gradient: Gradient, start: Tensor, end: Tensor, scales: Sequence[float], dtype: torch.dtype
) -> Change:
    """Follows the gradient's sharpest change on the lines start -> end, (n, C, H, W) each.

    scales: half lengths of segments between which the power is taken, falling, image units.
    dtype: in which the gradient is computed.
    Costs 9 gradients per line and two per halving down to the last scale, some 40 in all.
    """
    length = float((end - start).flatten(1).norm(dim=1).amax())

    def at(t: Tensor) -> Tensor:
        return gradient(torch.lerp(start, end, t.view(-1, *[1] * (start.ndim - 1)))).flatten(1)

    grid = torch.linspace(0, 1, _PARTS + 1, dtype=start.dtype, device=start.device)
    g = torch.stack([at(t.expand(len(start))) for t in grid])
    rounding = _ROUNDINGS * torch.finfo(dtype).eps * g.norm(dim=2).amax(0)
    spots = [_Spot(t, g[k : k + 3]) for k, t in enumerate(grid[1:-1].split(1))]
    spot, width = _sharpest(spots), 1 / _PARTS
    bends: list[Tensor] = []
    for scale in scales:
        while length * width > scale and bool((spot.bend > rounding).any()):
            width /= 2
            spot = spot.cut(at(spot.t - width), at(spot.t + width), width)
        bends.append(spot.bend)
    return Change((g[1:] - g[:-1]).norm(dim=2).sum(0), scales, bends, rounding)


class _Spot:
    """Segments around t (n,), 0 at the start of a line and 1 at its end, and three gradients."""

    def __init__(self, t: Tensor, gradients: Tensor) -> None:
        self.gradients = gradients  # (3, n, D) at the left end, the middle and the right end
        self.t = t.expand(gradients.shape[1])
        left, middle, right = gradients
        self.bend = (left - 2 * middle + right).norm(dim=1)

    def cut(self, left: Tensor, right: Tensor, width: float) -> "_Spot":
        """The sharpest of three halves, from gradients at the quarter points.

        The middle one keeps what is sharp away from the ends, where second differences miss it.
        """
        a, m, b = self.gradients
        halves = [
            _Spot(self.t + shift, torch.stack(three))
            for shift, three in (
                (-width, (a, left, m)),
                (0.0, (left, m, right)),
                (width, (m, right, b)),
            )
        ]
        return _sharpest(halves)


def _sharpest(spots: Sequence[_Spot]) -> _Spot:
    """Line by line, the spot of the largest second difference."""
    best = torch.stack([s.bend for s in spots]).argmax(0)
    rows = torch.arange(len(best), device=best.device)
    t = torch.stack([s.t for s in spots])[best, rows]
    return _Spot(t, torch.stack([s.gradients for s in spots])[best, :, rows].transpose(0, 1))
