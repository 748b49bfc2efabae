"""Which way of applying Hessians works for a network; a fast one is checked before it is used."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.classifier.smoothness import responsible
from geomadv.curvature.choice import Choice, no_curvature
from geomadv.curvature.measured import Verdict, measure, probe
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
# Sizes of batches differ between the classes and the halves of their points.
_MOST_TRACES = 12

T = TypeVar("T")


@dataclass(frozen=True)
class Method:
    """How products are computed, and what was done otherwise than asked for."""

    choice: Choice
    stem: Stem
    lineariser: Lineariser
    note: str = ""


def method_for(
    net: Classifier, batches: Sequence[Batch], choice: Choice, verdict: Verdict | None = None
) -> Method:
    """The fastest way that reproduces the plain one, on the first and on the last batch.

    verdict: on exact products of this network, if it was measured already.

    Raises:
        InputError: exact products were asked for, but the network is piecewise linear and bends
            at none of the points, or has no second derivatives.
    """
    if choice.step is not None:
        return _finite_difference(net, batches, choice)
    if verdict is None or choice.kind == "smoothed":
        verdict = measure(net, batches, derivatives_only=choice.kind == "smoothed")
    differences = replace(choice, kind="finite-difference", step=choice.fallback_step)
    if verdict.kind == "linear":
        if choice.fallback_step is None:
            raise no_curvature(net)
        return _finite_difference(net, batches, differences)
    if verdict.kind == "missing":
        if choice.fallback_step is None:
            raise InputError(
                f"hvp={choice.kind!r}: network {net.name!r} has no second derivatives "
                f"({verdict.reason}). Use hvp='finite-difference'."
            )
        reason = f"the network has no second derivatives ({verdict.reason})"
    elif verdict.kind == "smooth":
        return _noted(_exact(net, batches, choice), verdict.note)
    else:
        reason = f"exact products leave out curvature of kinks: {verdict.reason} "
        reason += f"({responsible(net.module, batches[0].x[:1])})"
        if choice.fallback_step is None:
            return _noted(_exact(net, batches, choice), reason, verdict.note)
    found = _finite_difference(net, batches, differences)
    return _noted(found, f"finite differences, as {reason}", verdict.note)


def _noted(method: Method, *notes: str) -> Method:
    return replace(method, note="; ".join(filter(None, (*notes, method.note))))


def _exact(net: Classifier, batches: Sequence[Batch], choice: Choice) -> Method:
    vector, plain = probe(net), DoubleBackward()
    try:
        stem = _stem(net, batches[0])
        traced = _once(net, ("exact", len(batches[0].x)), lambda: Traced(stem, batches[0]))
        for batch in _first_and_last(batches):
            found = stem.pull(traced(stem, batch).apply(stem.push(vector)))
            _check(found, plain(NoStem(net), batch).apply(vector))
    except Exception as error:  # a tracer may raise anything; the plain way remains
        note = f"double backward, as the network could not be traced ({_line(error)})"
        return Method(choice, NoStem(net), plain, note)
    return Method(choice, stem, traced)


def _finite_difference(net: Classifier, batches: Sequence[Batch], choice: Choice) -> Method:
    assert choice.step is not None
    lineariser = FiniteDifference(choice.step)
    vector = probe(net)
    try:
        stem = _stem(net, batches[0])
        for batch in _first_and_last(batches):
            found = stem.pull(lineariser.gradient(stem, stem.enter(batch.x), batch.weights))
            _check(found, lineariser.gradient(NoStem(net), batch.x, batch.weights))
        origin = torch.zeros_like(vector)
        _check(stem.push(vector), stem.enter(vector) - stem.enter(origin))
    except Exception:
        return Method(choice, NoStem(net), lineariser)
    return Method(choice, stem, lineariser)


def _stem(net: Classifier, batch: Batch) -> TracedStem:
    return _once(net, ("stem", len(batch.x)), lambda: _checked_stem(net, batch.x))


def _checked_stem(net: Classifier, x: Tensor) -> TracedStem:
    """One that takes any number of vectors."""
    stem, vector = TracedStem(net, x), probe(net)
    one, two = (stem.pull(stem.push(v)) for v in (vector, torch.cat([vector, vector])))
    _check(two, torch.cat([one, one]))
    return stem


def _once(net: Classifier, key: tuple[str, int], make: Callable[[], T]) -> T:
    """A trace of the network for batches of one size, whatever their points."""
    traces = net.traces
    if key not in traces:
        while len(traces) >= _MOST_TRACES:
            del traces[next(iter(traces))]
        traces[key] = make()
    made: T = traces[key]
    return made


def _first_and_last(batches: Sequence[Batch]) -> Sequence[Batch]:
    return batches if len(batches) == 1 else (batches[0], batches[-1])


def _check(found: Tensor, reference: Tensor) -> None:
    # Where a product is not finite, its use will say so.
    finite = reference.isfinite()
    found, reference = found.where(finite, 0), reference.where(finite, 0)
    largest = reference.abs().amax()
    if not (found - reference).abs().amax() <= _AGREES[found.dtype] * largest:
        raise RuntimeError("the trace gives other numbers")


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
