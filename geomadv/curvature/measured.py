"""Whether exact Hessian-vector products hold all of a network's curvature: measured, not named.

At a sample of the boundary points, exact products are compared with central differences of the
gradient at 1e-3 and 1e-4 of the pixel range, and the gradient is followed along lines through the
points, over the length of the default finite difference. What is left out shows in three ways.

Many kinks. In a step h there are some K ~ h of them, whose jumps J add up to a gap of K J / 2h for
jumps of one sign and sqrt(K) J / 2h for random ones: it goes as h^0 or h^(-1/2). Where only the
second derivative jumps (ELU) the gap goes as K ~ h or sqrt(K) ~ h^(1/2), in smooth networks as h^2.
The power 1/4 parts them. Medians over the points are taken, one per direction.

Few kinks, which a step rarely meets: the gradient's jumps along lines tell (see `jumps`).

Derivatives that autograd does not have, or has wrong: the gap stays at 1e-7 of the pixel range,
a step in which even networks of millions of units rarely meet a kink.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.classifier.jumps import SCALES, change_on_lines
from geomadv.classifier.smoothness import change_and_rounding
from geomadv.curvature.attention import plain_attention
from geomadv.curvature.choice import paper_step
from geomadv.curvature.products import Batch, DoubleBackward, FiniteDifference, NoStem
from geomadv.errors import InputError

_ROWS = 8
_POWER = 0.25
# Share of the product that exact products may leave out at the points themselves.
_SHARE = 1e-3
# Second derivatives that are off by more are not those of this gradient; by less, if they are off
# alike, to a factor, at all three steps.
_WRONG, _ALIKE = 0.1, 1.5
_ROUNDINGS = 1e3


@dataclass(frozen=True)
class _Steps:
    """Steps in pixel ranges that rounding of differences, some eps / step, allows."""

    coarse: float
    fine: float
    local: float


# Float32 has no step in which a network rarely meets a kink.
_STEPS = {
    torch.float64: _Steps(1e-3, 1e-4, 1e-7),
    torch.float32: _Steps(1e-1, 1e-2, 1e-2),
}


@dataclass(frozen=True)
class Verdict:
    """What was measured.

    kind: "smooth": exact products hold all curvature; "kinked": they leave some out; "missing":
        autograd has no second derivatives, or wrong ones; "linear": the network was found
        piecewise linear, and these points do not contradict.
    reason: what was found, a clause; "" for smooth and linear networks.
    note: a clause on how it was measured, if otherwise than in float64; else "".
    """

    kind: Literal["smooth", "kinked", "missing", "linear"]
    reason: str = ""
    note: str = ""


def measure(net: Classifier, batches: Sequence[Batch], derivatives_only: bool = False) -> Verdict:
    """The verdict on exact products at a sample of the batches' points; always the same one.

    derivatives_only: whether autograd's second derivatives are right and no more, at two points.
    Costs some 70 to 90 gradients at 8 points, in float64 where the network runs in it; one product
    where they confirm that the network is piecewise linear.
    """
    sample = _sample(batches, 2 if derivatives_only else _ROWS)
    chunk = min(_ROWS, len(batches[0].x))
    probed = not derivatives_only and net.is_piecewise_linear
    if probed and _Measurement(net, sample, net.dtype, chunk).hessian_vanishes():
        return Verdict("linear")
    with plain_attention():
        net.settle_second_order(batches[0].x[:2], batches[0].weights[:2], probe(net))
    double = _in_float64(net, sample)
    if double is not None:
        return _Measurement(double, sample, torch.float64, chunk).verdict("", derivatives_only)
    note = f"smoothness was measured in float32, at steps of {_STEPS[torch.float32].coarse:g} and "
    note += f"{_STEPS[torch.float32].fine:g} pixel ranges"
    return _Measurement(net, sample, torch.float32, chunk).verdict(note, derivatives_only)


def probe(net: Classifier) -> Tensor:
    """A random unit vector (1, C, H, W), always the same."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(1, *net.input_shape, generator=generator, dtype=torch.float64)
    unit: Tensor = v / v.norm()
    return unit.to(device=net.device, dtype=net.dtype)


def _sample(batches: Sequence[Batch], rows: int) -> Batch:
    """Some points with f = F_target - F_source; fewer points are taken several times."""
    x = torch.cat([b.x[: b.size] for b in batches])
    # The shape operator scales each point's function.
    weights = torch.cat([b.weights[: b.size] for b in batches]).sign()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    chosen = order[torch.arange(rows) % len(x)].to(x.device)
    return Batch(x[chosen], weights[chosen], slice(0, rows))


def _in_float64(net: Classifier, sample: Batch) -> Classifier | None:
    """The network in float64; None where it does not run in that."""
    try:
        double = net if net.dtype == torch.float64 else net.to(dtype=torch.float64, fast=False)
        with torch.no_grad():
            scores = double.scores(sample.x[:1].double())
    except (RuntimeError, TypeError, InputError):  # TypeError: devices without float64
        return None
    return double if scores.dtype == torch.float64 else None


class _Measurement:
    """Gradients and products at the sample, row by row."""

    def __init__(self, net: Classifier, sample: Batch, dtype: torch.dtype, chunk: int) -> None:
        self.x, self.weights = sample.x.to(net.dtype), sample.weights.to(net.dtype)
        self.stem, self.chunk = NoStem(net), chunk
        self.bounds, self.unit = net.bounds, net.bounds[1] - net.bounds[0]
        self.reach = paper_step(net)
        self.dtype, self.steps = dtype, _STEPS[dtype]
        self.rounding = _ROUNDINGS * torch.finfo(dtype).eps
        self.generator = torch.Generator().manual_seed(0)

    def verdict(self, note: str, derivatives_only: bool) -> Verdict:
        try:
            gaps = self._gaps()
        except RuntimeError as error:
            return Verdict("missing", str(error).strip().split("\n")[0], note)
        if any(gap.is_wrong for gap in gaps):
            return Verdict("missing", "they disagree with differences of the gradient", note)
        if derivatives_only:
            return Verdict("smooth", note=note)
        worst = max(gaps, key=lambda gap: gap.fine)
        reasons = []
        if any(gap.is_of_kinks for gap in gaps):
            reasons.append(
                f"they differ from central differences by {worst.coarse:.2g} and {worst.fine:.2g} "
                f"of the product at steps of {self.steps.coarse:g} and {self.steps.fine:g} pixel "
                "ranges"
            )
        jump = float(self._jumps().max()) if not reasons else 0.0
        if jump:
            reasons.append(f"a jump of the gradient makes {jump:.2g} of its change along a line")
        return Verdict("kinked" if reasons else "smooth", "; ".join(reasons), note)

    def hessian_vanishes(self) -> bool:
        """Whether exact products are rounding of the two gradients that f subtracts."""
        try:
            (product,) = self._exact([self._random()])
        except Exception:  # a foreign backward may raise anything; there is no other evidence
            return True
        both = self._gradient(self.x), self._gradient(self.x, self.weights.abs())
        change, rounding = change_and_rounding(product, both, self.bounds)
        return bool((change <= rounding).all())

    def _gaps(self) -> list["_Gap"]:
        """Along the gradient and along two random vectors."""
        normal = self._gradient(self.x)
        vectors = [_unit(normal), self._random(), self._random()]
        exact = self._exact(vectors)
        slope = _norms(normal)
        return [self._gap(v, e, slope) for v, e in zip(vectors, exact, strict=True)]

    def _gap(self, v: Tensor, exact: Tensor, slope: Tensor) -> "_Gap":
        s = self.steps
        found = {h: self._difference(v, h * self.unit) for h in {s.coarse, s.fine, s.local}}
        scale = torch.maximum(_norms(exact), _norms(found[s.fine]))
        shares = {h: _median(_norms(d - exact) / scale) for h, d in found.items()}
        floors = {h: _median(self.rounding * slope / (h * self.unit) / scale) for h in found}
        return _Gap(
            steps=s,
            coarse=shares[s.coarse],
            fine=shares[s.fine],
            local=shares[s.local],
            floors=(floors[s.fine], floors[s.local]),
        )

    def _jumps(self) -> Tensor:
        """Jumps on lines through the points: some along the gradient, some to another point."""
        chords = self.x.roll(1, 0) - self.x
        chords = torch.where(_rows(_norms(chords)) > 0, chords, self._random())
        normals = _unit(_unit(self._gradient(self.x)) + self._random() / 2)
        along = torch.arange(len(self.x), device=self.x.device) % 2 == 0
        v = self.reach * torch.where(_rows(along), normals, _unit(chords))
        scales = [self.unit * h for h in SCALES[self.dtype]]
        change = change_on_lines(self._gradient, self.x - v, self.x + v, scales, self.dtype)
        return change.jumps

    def _random(self) -> Tensor:
        v = torch.randn(self.x.shape, generator=self.generator, dtype=torch.float64)
        return _unit(v).to(self.x)

    def _difference(self, v: Tensor, h: float) -> Tensor:
        return (self._gradient(self.x + h * v) - self._gradient(self.x - h * v)) / (2 * h)

    def _gradient(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        weights = self.weights if weights is None else weights
        pairs = zip(x.split(self.chunk), weights.split(self.chunk), strict=True)
        difference = FiniteDifference(1.0)
        with plain_attention():
            return torch.cat([difference.gradient(self.stem, z, w) for z, w in pairs])

    def _exact(self, vectors: list[Tensor]) -> list[Tensor]:
        parts = []
        for rows in torch.arange(len(self.x), device=self.x.device).split(self.chunk):
            batch = Batch(self.x[rows], self.weights[rows], slice(0, len(rows)))
            apply = DoubleBackward()(self.stem, batch).apply
            parts.append([apply(v[rows]) for v in vectors])
        return [torch.cat(column) for column in zip(*parts, strict=True)]


@dataclass(frozen=True)
class _Gap:
    """Median shares of the product by which differences of three steps leave exact ones."""

    steps: _Steps
    coarse: float
    fine: float
    local: float
    floors: tuple[float, float]  # of rounding, at the fine and at the local step

    @property
    def is_of_kinks(self) -> bool:
        """The gap is worth mention and does not fall with the step."""
        falls = (self.steps.coarse / self.steps.fine) ** _POWER
        return self.fine > max(_SHARE, self.floors[0]) and self.coarse < falls * self.fine

    @property
    def is_wrong(self) -> bool:
        """The gap stays where no kink is near. A kink in the point itself makes it grow as 1/h."""
        grows = math.sqrt(self.steps.fine / self.steps.local)
        stays = self.steps.local < self.steps.fine and self.local < grows * self.fine
        shares = (self.coarse, self.fine, self.local)
        alike = max(shares) < _ALIKE * min(shares)
        return stays and self.local > max(_SHARE if alike else _WRONG, self.floors[1])


def _norms(rows: Tensor) -> Tensor:
    norms: Tensor = rows.flatten(1).norm(dim=1)
    return norms


def _rows(values: Tensor) -> Tensor:
    """(n,) -> (n, 1, 1, 1)."""
    return values[:, None, None, None]


def _unit(rows: Tensor) -> Tensor:
    """Unit vectors; zeros stay zeros."""
    norms = _norms(rows)
    return rows / _rows(torch.where(norms > 0, norms, 1.0))


def _median(values: Tensor) -> float:
    """Over the points at which there is a number; 0 if there is none."""
    finite = values[values.isfinite()]
    return float(finite.median()) if len(finite) else 0.0
