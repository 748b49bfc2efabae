"""Where the boundary lies above and below its tangent plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomadv.boundary import BoundaryPoints, boundary_gradient
from geomadv.boundary.points import PIXEL_ROUNDINGS, SCORE_ROUNDINGS, TOLERANCE
from geomadv.boundary.segment import bracketed_root
from geomadv.classifier import Classifier
from geomadv.classifier.boundary_function import BoundaryFunction
from geomadv.experiments.lines.lines import BLOCK_NUMBERS
from geomadv.linalg.vectors import unit_rows
from geomadv.progress import tqdm

# Sine of the least angle between a direction and the normal (half a degree): below it rounding
# decides in which plane a section lies.
_LEAST_SINE = 0.01


@dataclass(frozen=True)
class Offsets:
    """Boundary offsets t(s), arrays (direction, sample, scale), and what they are measured by.

    Attributes:
        offset: t(s) - t(0) in image units; NaN where no root was found, or there is no section.
        side: 1 or -1 where f says on which side of the tangent plane the boundary is, 0 on it; NaN
            where there is no section or f is not finite.
        sine: (direction, sample) of the angle between direction and normal; NaN for no section.
        slope: (sample,) ||grad f||.
        resolution: (sample,) what rounding of f makes of t, image units.
        third: whether a third class is on top at the root.
    """

    offset: NDArray[np.float64]
    side: NDArray[np.float64]
    sine: NDArray[np.float64]
    slope: NDArray[np.float64]
    resolution: NDArray[np.float64]
    third: NDArray[np.bool_]


class _Sections:
    """Points x_i + s u_ij + t n_i, row by row; u_ij is direction j made tangent at x_i."""

    def __init__(
        self, net: Classifier, points: BoundaryPoints, rows: Tensor, size: int, region: bool
    ) -> None:
        self.net, self.size, self.rows = net, size, rows
        self.x, self.normals = points.points.flatten(1), points.normals
        self.pair = torch.stack([points.near, points.target], dim=1)
        self.boundary = BoundaryFunction.of(points.near, points.target, region)
        self.cosine = (rows.double() @ self.normals.double().T).to(self.x)
        self.sine = (1 - self.cosine.double().square()).clamp_min(0).sqrt().to(self.x)

    def place(self, scales: Tensor) -> None:
        """One row for each direction, sample and scale that has a section."""
        usable = self.sine > _LEAST_SINE  # not where it is NaN
        found = usable[:, :, None].expand(-1, -1, len(scales)).nonzero()
        self.direction, self.sample = found[:, 0], found[:, 1]
        self.index, self.s = tuple(found.T), scales[found[:, 2]]
        at = self.direction, self.sample
        self.along = self.s / self.sine[at]
        self.back = self.along * self.cosine[at]

    def scores(self, rows: Tensor, t: Tensor) -> Tensor:
        """Scores (r, classes) at offsets t (r,) of some rows, in full batches."""
        parts = [self.x.new_empty(0, self.net.num_classes)]
        block = self.size * max(1, BLOCK_NUMBERS // (self.size * self.net.dimension))
        for some, offset in zip(rows.split(block), t.split(block), strict=True):
            sample = self.sample[some]
            tangent = self.along[some, None] * self.rows[self.direction[some]]
            moved = self.x[sample] + tangent
            moved += (offset - self.back[some])[:, None] * self.normals[sample]
            images = moved.reshape(-1, *self.net.input_shape)
            parts += [self.net.scores(batch) for batch in images.split(self.size)]
        return torch.cat(parts)

    def margin(self, rows: Tensor, t: Tensor) -> Tensor:
        """The boundary function (r,) there."""
        return self.boundary[self.sample[rows]](self.scores(rows, t)).value

    def third(self, rows: Tensor, t: Tensor) -> Tensor:
        """Whether another class than those that meet at the point is on top there (r,)."""
        scores = self.scores(rows, t)
        own = scores.gather(1, self.pair[self.sample[rows]]).amax(1)
        rounding = SCORE_ROUNDINGS * torch.finfo(own.dtype).eps * own.abs()
        return scores.amax(1) > own + rounding


@torch.no_grad()
def section_offsets(
    net: Classifier,
    points: BoundaryPoints,
    rows: Tensor,
    scales: NDArray[np.float64],
    *,
    region: bool = False,
    batch_size: int | None = None,
    progress: bool = False,
) -> Offsets:
    """Offsets of the boundary from its tangent planes, above and below s u.

    u is the direction's unit projection on the tangent plane, so that t = 0 to first order. The
    sign of f at t = 0 tells the side of the boundary; from the linear estimate |f| / ||grad f|| on,
    steps twice as long are tried until f changes its sign, or the step has reached the largest
    |s|; then a safeguarded secant finds the root in between. Among several roots that is the one
    nearest to the tangent plane, unless two lie within one step.

    Args:
        net: the network.
        points: boundary points; where `converged` is False there is no section.
        rows: unit directions (k, D).
        scales: (s,) increasing, 0 among them, image units.
        region: f of the target's region instead of the pair of classes that meets at the point.
        batch_size: points per pass; default from memory.
        progress: show a progress bar, in roots.
    """
    size = net.batch_size(batch_size)
    reach = float(np.abs(scales).max())
    slope, rounding = _slopes(net, points, reach, size)
    sections = _Sections(net, points, rows, size, region)
    sections.place(torch.as_tensor(scales).to(slope))
    everyone = torch.arange(len(sections.s), device=net.device)
    parts = []
    with tqdm(total=len(everyone), desc="sections", unit="root", disable=not progress) as bar:
        for some in everyone.split(max(size, BLOCK_NUMBERS)):
            parts.append(_roots(sections, some, slope, rounding, reach))
            bar.update(len(some))
    shape = (len(rows), len(points), len(scales))
    offset, side, third = (slope.new_full(shape, torch.nan) for _ in range(3))
    if parts:
        for array, found in zip((offset, side, third), zip(*parts, strict=True), strict=True):
            array[sections.index] = torch.cat(found).to(array)
    offset -= offset[:, :, torch.as_tensor(scales == 0)].clone()
    sine = torch.where(sections.sine > _LEAST_SINE, sections.sine, torch.nan)
    return Offsets(
        _double(offset),
        _double(side),
        _double(sine),
        _double(slope),
        _double(rounding / slope),
        (third == 1).cpu().numpy(),
    )


def _double(t: Tensor) -> NDArray[np.float64]:
    return np.asarray(t.double().cpu().numpy())


def _slopes(
    net: Classifier, points: BoundaryPoints, reach: float, size: int
) -> tuple[Tensor, Tensor]:
    """||grad f|| at the points, and what rounding makes of f up to `reach` from them, both (N,)."""
    slopes, roundings = [], []
    for index in torch.arange(len(points), device=net.device).split(size):
        some = points[index]
        _, gradient, scores = boundary_gradient(net, some.points, some.near, some.target)
        slopes.append(unit_rows(gradient)[1])
        own = scores.gather(1, torch.stack([some.near, some.target], dim=1)).abs().amax(1)
        pixels = some.points.flatten(1).norm(dim=1) + reach
        eps = torch.finfo(own.dtype).eps
        roundings.append(eps * (SCORE_ROUNDINGS * own + PIXEL_ROUNDINGS * pixels * slopes[-1]))
    return torch.cat(slopes), torch.cat(roundings)


def _roots(
    sections: _Sections, some: Tensor, slope: Tensor, rounding: Tensor, reach: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Roots t of the rows `some` (NaN where there is none), the sides they are on, and `third`."""
    sample = sections.sample[some]
    near = torch.zeros_like(sections.s[some])
    f_near = sections.margin(some, near)
    start = f_near.clone()
    tolerance = torch.maximum(TOLERANCE.get(start.dtype, 1e-5) * start.abs(), rounding[sample])
    far, f_far = (-start / slope[sample]).clamp(-reach, reach), f_near.clone()
    active = (start.abs() > tolerance).nonzero().squeeze(1)
    while len(active) > 0:
        f = sections.margin(some[active], far[active])
        f_far[active] = f
        active = active[(f * start[active] > 0) & (far[active].abs() < reach)]
        near[active], f_near[active] = far[active], f_far[active]
        far[active] = (2 * far[active]).clamp(-reach, reach)
    t = torch.zeros_like(start).masked_fill(~(start.abs() <= tolerance), torch.nan)
    crossed = (t.isnan() & (f_far * start <= 0)).nonzero().squeeze(1)
    up = start < 0  # f grows along the normal
    low, f_low = torch.where(up, near, far), torch.where(up, f_near, f_far)
    high, f_high = torch.where(up, far, near), torch.where(up, f_far, f_near)
    ends = (end[crossed] for end in (low, high, f_low, f_high, tolerance))
    t[crossed] = bracketed_root(lambda at, t: sections.margin(some[crossed[at]], t), *ends)
    found = t.isfinite().nonzero().squeeze(1)
    third = torch.zeros_like(up)
    third[found] = sections.third(some[found], t[found])
    return t, -start.sign() * (t != 0), third
