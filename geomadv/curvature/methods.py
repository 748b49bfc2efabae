"""Which way of applying Hessians works for a network; a fast one is checked before it is used."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.curvature.choice import Choice
from geomadv.curvature.products import (
    Batch,
    DoubleBackward,
    FiniteDifference,
    Lineariser,
    NoStem,
    Stem,
)
from geomadv.curvature.stem import TracedStem
from geomadv.curvature.traced import Traced
from geomadv.errors import InputError

# Two orders of the same sums in float32 differ by some 1e-6 of the largest entry; a trace that
# missed something is off by the size of that.
_AGREES = {torch.float32: 1e-3, torch.float64: 1e-8}


# Small against any scale of a smooth network, also of a sharply smoothed one; differences of
# gradients are then off by rounding, some tens of eps / step.
_STEP, _ROUNDINGS = 1e-7, 1e3


@dataclass(frozen=True)
class Method:
    """How products are computed, and what was done otherwise than asked for."""

    choice: Choice
    stem: Stem
    lineariser: Lineariser
    note: str = ""


def method_for(net: Classifier, batch: Batch, choice: Choice) -> Method:
    """The fastest way that reproduces the plain one on a batch of points.

    Raises:
        InputError: exact products were asked for, but the network has no second derivatives.
    """
    if choice.step is not None:
        return _finite_difference(net, batch, choice)
    vector = _probe(net)
    net.settle_second_order(batch.x[:2], batch.weights[:2], vector)
    try:
        _check_derivatives(net, batch)
        reference = DoubleBackward()(NoStem(net), batch).apply(vector)
    except RuntimeError as error:
        if choice.fallback_step is None:
            raise InputError(
                f"hvp={choice.kind!r}: network {net.name!r} has no second derivatives "
                f"({_line(error)}). Use hvp='finite-difference'."
            ) from error
        choice = replace(choice, kind="finite-difference", step=choice.fallback_step)
        note = f"finite differences, as the network has no second derivatives ({_line(error)})"
        return replace(_finite_difference(net, batch, choice), note=note)
    try:
        stem = TracedStem(net, batch.x)
        traced = Traced(stem, batch)
        found = stem.pull(traced(stem, batch).apply(stem.push(vector)))
        _check(found, reference)
    except Exception as error:  # a tracer may raise anything; the plain way remains
        note = f"double backward, as the network could not be traced ({_line(error)})"
        return Method(choice, NoStem(net), DoubleBackward(), note)
    return Method(choice, stem, traced)


def _finite_difference(net: Classifier, batch: Batch, choice: Choice) -> Method:
    assert choice.step is not None
    lineariser = FiniteDifference(choice.step)
    vector = _probe(net)
    try:
        stem = TracedStem(net, batch.x)
        found = stem.pull(lineariser.gradient(stem, stem.enter(batch.x), batch.weights))
        plain = lineariser.gradient(NoStem(net), batch.x, batch.weights)
        _check(found, plain)
        origin = torch.zeros_like(vector)
        _check(stem.push(vector), stem.enter(vector) - stem.enter(origin))
    except Exception:
        return Method(choice, NoStem(net), lineariser)
    return Method(choice, stem, lineariser)


def _check_derivatives(net: Classifier, batch: Batch) -> None:
    """Compares second derivatives with differences of first ones, in float64 at two points.

    Autograd gives zeros, not an error, behind a custom function that is only once differentiable.

    Raises:
        RuntimeError: they disagree.
    """
    try:
        double = net.to(dtype=torch.float64) if net.dtype != torch.float64 else net
        two = Batch(batch.x[:2].double(), batch.weights[:2].double(), slice(0, 2))
        length = _STEP * (net.bounds[1] - net.bounds[0])
        difference, stem = FiniteDifference(length), NoStem(double)
        expected = difference(stem, two).apply(_probe(double))
        slope = difference.gradient(stem, two.x, two.weights).abs().amax()
    except (RuntimeError, TypeError, InputError):  # a network or a device without float64
        return
    found = DoubleBackward()(stem, two).apply(_probe(double))
    rounding = _ROUNDINGS * torch.finfo(torch.float64).eps / length * slope
    if (found - expected).abs().amax() > 0.1 * expected.abs().amax() + rounding:
        raise RuntimeError("they disagree with differences of the gradient")


def _probe(net: Classifier) -> Tensor:
    """A random unit vector (1, C, H, W), always the same."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(1, *net.input_shape, generator=generator, dtype=torch.float64)
    unit: Tensor = v / v.norm()
    return unit.to(device=net.device, dtype=net.dtype)


def _check(found: Tensor, reference: Tensor) -> None:
    largest = reference.abs().amax()
    if not (found - reference).abs().amax() <= _AGREES[found.dtype] * largest:
        raise RuntimeError("the trace gives other numbers")


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
