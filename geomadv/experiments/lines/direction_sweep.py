"""Scores and predictions of all images while a component along one direction grows."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geomadv.classifier import Classifier
from geomadv.doors import Numbers
from geomadv.errors import InputError
from geomadv.experiments.lines.lines import (
    LINES,
    LineAnswers,
    check_scales,
    check_target,
    line_answers,
    unit_directions,
)
from geomadv.labels import IMAGE, Schema, described

POPULATIONS = ("other classes", "target class")
_QUANTILES = (0.3, 0.5, 0.7)

_STEPS = ("direction", "scale")
_QUANTILE = ("population", *_STEPS, "quantile")

SCHEMA: Schema = {
    **LINES,
    "population": (("population",), "images by the class predicted when clean", "1"),
    "quantile": (("quantile",), "quantile over the images of the population", "1"),
    "target_score": (_QUANTILE, "score of the target class", "score units"),
    "other_score": (_QUANTILE, "largest score of the other classes", "score units"),
    "target_softmax": (_QUANTILE, "softmax of the target class", "1"),
    "transition": (
        _STEPS,
        "share of images of other classes that are predicted as the target",
        "1",
    ),
    "retention": (_STEPS, "share of images of the target class that stay there", "1"),
    "prediction": ((*_STEPS, "sample"), "predicted class of the perturbed image", "1"),
    "population_size": (("population",), "images of the population", "1"),
    "direction_image": (("direction", *IMAGE), "unit direction", "1"),
}


def direction_sweep(
    net: Classifier,
    images: Any,
    directions: Numbers,
    scales: Numbers,
    target: int,
    *,
    batch_size: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Class scores over a set of images as functions of the movement along directions.

    "With Friends Like These" (Jetley, Lord and Torr, 2018), figure 2. Images belong to the class
    that the network predicts for them when clean, not to their label.

    Args:
        net: the network.
        images: clean images (N, C, H, W) in the bounds, or an ImageSet; the perturbed ones may
            leave the bounds.
        directions: (D, k), one direction a column; they are scaled to unit norm.
        scales: (s,) increasing multiples of the unit directions, both signs and 0, image units.
        target: the class that the directions belong to.
        batch_size: images per pass; default from memory.
        progress: show a progress bar.

    Returns:
        Dataset over population ("other classes": images not predicted as the target, "target
        class": the others), direction, scale, sample and quantile (0.3, 0.5, 0.7):
        `target_score`, `other_score` (largest score of the other classes) and `target_softmax`
        (population, direction, scale, quantile); `transition` and `retention` (direction, scale),
        the share of the first population that is predicted as the target and the share of the
        second that still is; `prediction` (direction, scale, sample); `source` (sample);
        `population_size` (population); `target`; `class_name`;
        `direction_image`. What belongs to an empty target
        population is NaN.

    Raises:
        InputError: unusable images, directions or scales, a target that is no class, no image
            that is predicted as another class, or scores that are not finite.
    """
    x = net.check_images(images)
    rows = unit_directions(net, directions)
    steps = check_scales(scales)
    check_target(net, target)
    source = net.predict(x, batch_size).cpu().numpy()
    inside = source == target
    if inside.all():
        raise InputError(
            f"images: all {len(source)} are predicted as target={target}; expected some of other "
            "classes. Give images of all classes."
        )
    answers = line_answers(
        net,
        x,
        rows,
        steps,
        target,
        batch_size=batch_size,
        progress=progress,
        label="direction sweep",
    )
    hit = answers.prediction == target
    values = {
        **_by_population(answers, inside),
        "transition": _share(hit[..., ~inside]),
        "retention": _share(hit[..., inside]),
        "prediction": answers.prediction,
        "source": source,
        "population_size": [int((~inside).sum()), int(inside.sum())],
        "target": target,
        "class_name": list(net.class_names),
        "direction_image": rows.reshape(-1, *net.input_shape),
        "population": list(POPULATIONS),
        "scale": steps,
        "quantile": list(_QUANTILES),
    }
    return described(SCHEMA, values)


def _by_population(
    answers: LineAnswers, inside: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """Quantiles (population, direction, scale, quantile) of the scores; NaN without images."""
    curves = {}
    for name in ("target", "other", "softmax"):
        values = getattr(answers, name)
        result = np.full((2, *values.shape[:2], len(_QUANTILES)), np.nan)
        for i, members in enumerate((~inside, inside)):
            if members.any():
                quantiles = np.quantile(values[..., members], _QUANTILES, axis=-1)
                result[i] = np.moveaxis(quantiles, 0, -1)
        curves[f"target_{name}" if name == "softmax" else f"{name}_score"] = result
    return curves


def _share(hit: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over the last axis; NaN where it is empty."""
    return hit.mean(axis=-1) if hit.shape[-1] else np.full(hit.shape[:-1], np.nan)
