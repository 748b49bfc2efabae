"""A class score along directions image by image, and how simple these curves are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.doors import Numbers
from geomadv.errors import InputError
from geomadv.experiments.lines.curve_measures import (
    best_symmetry,
    fit_additive,
    median_interval,
    monotonicity,
    resample_counts,
)
from geomadv.experiments.lines.direction_sweep import POPULATIONS
from geomadv.experiments.lines.lines import (
    LINES,
    check_scales,
    check_target,
    line_answers,
    unit_directions,
)
from geomadv.labels import IMAGE, Schema, described

_BOUNDS = (0.025, 0.975)
_SIDES = ("below", "above")

# Perturbed images shown along a curve: the ends, the image itself, and two between them each side.
_EXAMPLE_STEPS = 7

_BOOTSTRAP = "bootstrap interval over images"
_RANKS = "interval between order statistics"
_NET, _PERTURBED = "net change over total variation", "perturbed example image"
_ONE = ("direction",)
_EACH, _STEPS, _ENDS, _SHOWN = ((*_ONE, d) for d in ("sample", "scale", "bound", "example"))

SCHEMA: Schema = {
    **LINES,
    "side": (("side",), "side of the centre", "1"),
    "bound": (("bound",), "end of the 95 % interval, as a quantile", "1"),
    "example": (("example",), "class of the example image when clean", "1"),
    "score": ((*_EACH, "scale"), "score of the target class at x + s d", "score units"),
    "prediction": ((*_EACH, "scale"), "predicted class at x + s d", "1"),
    "direction_image": ((*_ONE, *IMAGE), "unit direction d", "1"),
    "coordinate": (_EACH, "coordinate x . d of the image along the direction", "image units"),
    "centre": (_EACH, "scale about which the curve is most symmetric", "image units"),
    "symmetry": (
        _EACH,
        "share of the even part in the variance of the curve about its centre",
        "1",
    ),
    "symmetry_median": (_ONE, "median symmetry over images", "1"),
    "symmetry_interval": (_ENDS, f"{_RANKS} of the median symmetry", "1"),
    "monotonicity": ((*_EACH, "side"), f"{_NET} on either side of the centre", "1"),
    "monotonicity_median": (_ONE, "median monotonicity over images, the less monotonic side", "1"),
    "monotonicity_interval": (_ENDS, f"{_RANKS} of the median monotonicity", "1"),
    "common_coordinate": (_STEPS, "coordinate t = x . d + s of the common curve", "image units"),
    "common_score": (_STEPS, "common curve G(t) of the additive model G(t) + H_n", "score units"),
    "offset": (_EACH, "offset H_n of the image in the additive model", "score units"),
    "separability": (_ONE, "share of variance that the additive model explains", "1"),
    "separability_interval": (_ENDS, f"{_BOOTSTRAP} of the separability", "1"),
    "shape_share": (_ONE, "share of variance within the curves that G(t) explains", "1"),
    "shape_share_interval": (_ENDS, f"{_BOOTSTRAP} of the shape share", "1"),
    "example_sample": (_SHOWN, "number of the example image among the samples; -1 for none", "1"),
    "example_scale": (("step",), "scale s of the perturbed example images", "image units"),
    "example_image": ((*_SHOWN, "step", *IMAGE), f"{_PERTURBED} x + s d", "image units"),
    "example_prediction": (
        (*_SHOWN, "step"),
        f"predicted class of the {_PERTURBED}; -1 for none",
        "1",
    ),
}


@torch.no_grad()
def score_curves(
    net: Classifier,
    images: Any,
    directions: Numbers,
    scales: Numbers,
    target: int,
    *,
    draws: int = 1000,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Response curves F_c(x_n + s d) of every image, and how simple these curves are.

    "With Friends Like These" (Jetley, Lord and Torr, 2018), figure 1, shows that the curves are
    symmetric about some s0, monotonic on either side, and of one shape: F_c(x) = G(x . d) + H, H
    depending on the other components of x alone. Per image and direction:

    - `symmetry` about the best centre s0 in the middle half of the scales: on the largest window
      around s0, the share of the even part in the variance of the curve. Even 1, odd 0.
    - `monotonicity` below and above that centre: |net change| / total variation. Monotonic 1.

    Per direction, of all curves aligned by t = x_n . d + s:

    - `separability`: share of the variance that the least-squares fit G(t) + H_n explains;
    - `shape_share`: the same of the variance within each curve, so that G alone is measured.

    Both take t where at least half of the images have values; G is a cubic spline with a knot at
    every step. `experiments.curve_measures` has the formulas and their errors.

    Args:
        net: the network.
        images: clean images (N, C, H, W) in the bounds, N >= 2, or an ImageSet; the perturbed ones
            may leave the bounds.
        directions: (D, k), one direction a column; they are scaled to unit norm.
        scales: (s,) increasing, equally spaced, both signs and 0, at least 7, image units.
        target: the class c whose score is followed.
        draws: bootstrap resamplings of the images, for the intervals of the shares of variance.
        seed: of the resamplings.
        batch_size: images per pass; default from memory.
        progress: show a progress bar.

    Returns:
        Dataset over direction, sample, scale, side ("below", "above" the centre) and bound: the
        curves `score` (direction, sample, scale) and `prediction`; the measures above, medians over
        images and 95 % intervals (of medians between order statistics, of shares by bootstrap); the
        fit (`common_score`, `common_coordinate`, `offset`); the directions as images. For one image
        of other classes and one of the target class, those whose number of changed predictions is
        the median one, the perturbed images along the curve (`example_image`, `example_prediction`
        over example and step).

    Raises:
        InputError: unusable images, directions or scales, a target that is no class, fewer than
            two images, draws < 1, or scores that are not finite.
    """
    x = net.check_images(images)
    rows = unit_directions(net, directions)
    steps = _equal_steps(scales)
    check_target(net, target)
    if len(x) < 2 or draws < 1:
        raise InputError(
            f"images, draws: found {len(x)} images and {draws} resamplings; expected at least 2 "
            "images, to compare curves, and 1 resampling."
        )
    source = net.predict(x, batch_size).cpu().numpy()
    answers = line_answers(
        net,
        x,
        rows,
        steps,
        target,
        batch_size=batch_size,
        progress=progress,
        label="score curves",
    )
    curves = answers.target.transpose(0, 2, 1)
    prediction = answers.prediction.transpose(0, 2, 1)
    coordinate = (rows.double() @ x.flatten(1).double().T).cpu().numpy()
    counts = resample_counts(len(x), draws, seed)
    measured = [
        _measures(c.astype(np.float64), a, steps, counts)
        for c, a in zip(curves, coordinate, strict=True)
    ]
    values: dict[str, Any] = {
        "score": curves,
        "prediction": prediction,
        "source": source,
        "target": target,
        "class_name": list(net.class_names),
        "direction_image": rows.reshape(-1, *net.input_shape),
        "coordinate": coordinate,
        **{name: np.stack([one[name] for one in measured]) for name in measured[0]},
        **_examples(x, rows, steps, prediction, source, target),
        "scale": steps,
        "side": list(_SIDES),
        "bound": list(_BOUNDS),
        "example": list(POPULATIONS),
    }
    return described(SCHEMA, values)


def _measures(
    curves: NDArray[np.float64],
    coordinate: NDArray[np.float64],
    scales: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> dict[str, Any]:
    """The measures of one direction; curves (n, s), counts (draws, n) of the resamplings."""
    symmetry, centre = best_symmetry(curves)
    sides = monotonicity(curves, centre)
    fit = fit_additive(curves, coordinate, scales)
    whole = fit.separability()
    intervals = np.quantile(fit.separability(counts), _BOUNDS, axis=0)
    worse = sides.min(axis=1)
    step = (scales[-1] - scales[0]) / (len(scales) - 1)
    return {
        "centre": scales[0] + centre * step / 2,
        "symmetry": symmetry,
        "symmetry_median": np.median(symmetry),
        "symmetry_interval": median_interval(symmetry),
        "monotonicity": sides,
        "monotonicity_median": np.median(worse),
        "monotonicity_interval": median_interval(worse),
        "common_coordinate": fit.knots,
        "common_score": fit.common,
        "offset": fit.offset,
        "separability": whole[0],
        "separability_interval": intervals[:, 0],
        "shape_share": whole[1],
        "shape_share_interval": intervals[:, 1],
    }


def _examples(
    x: Tensor,
    rows: Tensor,
    scales: NDArray[np.float64],
    prediction: NDArray[np.signedinteger],
    source: NDArray[np.signedinteger],
    target: int,
) -> dict[str, Any]:
    """Perturbed images of a typical sample of either population; NaN and -1 where it is empty."""
    zero = int(np.flatnonzero(scales == 0)[0])
    half = _EXAMPLE_STEPS // 2 + 1
    below, above = np.linspace(0, zero, half), np.linspace(zero, len(scales) - 1, half)
    chosen = np.concatenate([below, above[1:]]).round().astype(int)
    shape = (len(rows), len(POPULATIONS))
    sample = np.full(shape, -1, dtype=np.int64)
    label = np.full((*shape, len(chosen)), -1, dtype=prediction.dtype)
    images = torch.full((*shape, len(chosen), *x.shape[1:]), torch.nan, dtype=x.dtype)
    changed = ((prediction == target) != (source == target)[:, None]).sum(axis=-1)
    steps = torch.as_tensor(scales[chosen]).to(x)[:, None, None, None]
    for i, row in enumerate(rows):
        for j, members in enumerate((source != target, source == target)):
            if members.any():
                n = _middle(changed[i], np.flatnonzero(members))
                sample[i, j], label[i, j] = n, prediction[i, n, chosen]
                images[i, j] = (x[n] + steps * row.reshape(x.shape[1:])).cpu()
    return {
        "example_sample": sample,
        "example_scale": scales[chosen],
        "example_image": images,
        "example_prediction": label,
    }


def _middle(changed: NDArray[np.int64], members: NDArray[np.int64]) -> int:
    """The member with the (upper) median number of changes."""
    order = members[np.argsort(changed[members], kind="stable")]
    return int(order[len(order) // 2])


def _equal_steps(scales: Any) -> NDArray[np.float64]:
    array = check_scales(scales)
    step = np.diff(array)
    # Reflections and knots need one step; np.linspace keeps it to a few roundings.
    if len(array) < _EXAMPLE_STEPS or np.ptp(step) > 1e-6 * step[0]:
        raise InputError(
            f"scales: found {len(array)} with steps from {step.min():g} to {step.max():g}; "
            f"expected at least {_EXAMPLE_STEPS}, equally spaced, for example "
            "numpy.linspace(-4, 4, 41)."
        )
    return array
