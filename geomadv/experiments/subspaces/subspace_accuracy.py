"""Accuracy of images projected on growing subspaces of curved, flat or singular directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.classifier.checks import check_known
from geomadv.errors import InputError
from geomadv.experiments.principal import doubt
from geomadv.experiments.subspaces.sweep import (
    Families,
    check_families,
    check_mean,
    draws_of,
    first_draws,
    subspace_sizes,
    sweep_dimensions,
)
from geomadv.images import ImageSet
from geomadv.keep import Keep, keep_nothing
from geomadv.labels import Schema, described
from geomadv.linalg import NestedSubspaces
from geomadv.perturbations.fooling import clean_labels
from geomadv.progress import catching_up, tqdm

Array = NDArray[Any]

_FAMILY, _SPLIT, _SAMPLE, _AT = ("family",), ("split",), ("sample",), ("family", "d")
_CURVE, _NONE = (*_SPLIT, *_AT), "-1 where there is no S_d"

SCHEMA: Schema = {
    **doubt.FAMILIES,
    "split": (_SPLIT, "set of images", "1"),
    "family": (_FAMILY, "family of nested subspaces", "1"),
    "d": (("d",), "number of steps d into the family", "1"),
    "accuracy": (_CURVE, "share of projected images with their true class predicted", "1"),
    "standard_error": (_CURVE, "binomial standard error of the accuracy", "1"),
    "unchanged_share": (_CURVE, "share of projected images predicted as the image itself", "1"),
    "prediction": ((*_AT, *_SAMPLE), f"class predicted at the projected image, {_NONE}", "1"),
    "clean_prediction": (_SAMPLE, "class predicted at the image", "1"),
    "label": (_SAMPLE, "true class", "1"),
    "sample_split": (_SAMPLE, "number of the split that the image belongs to", "1"),
    "draws": (_FAMILY, "draws of the family that the images take in turns", "1"),
    "subspace_dimension": (_AT, "dimension of S_d", "1"),
    "plain_accuracy": (_SPLIT, "accuracy of the images themselves", "1"),
    "constant_accuracy": (_SPLIT, "accuracy of always predicting the most frequent class", "1"),
    "count": (_SPLIT, "images", "1"),
    "description": (_FAMILY, "directions of the family", "1"),
    "directions_per_step": (_FAMILY, "directions that each step of d adds", "1"),
    "image_dimension": ((), "dimension D of image space", "1"),
}


@torch.no_grad()
def subspace_accuracy(
    net: Classifier,
    images: ImageSet | Mapping[str, ImageSet],
    mean: Tensor | NDArray[np.floating],
    families: Families,
    dimensions: Sequence[int] | None = None,
    *,
    keep: Keep = keep_nothing,
    batch_size: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Accuracy on true labels of images projected on S_d, family by family, for growing d.

    "With Friends Like These" (Jetley, Lord and Torr, 2018), §4.2, figure 3 (top) and figure 4. The
    projection acts on mean-centred images, x -> mean + Q Q^T (x - mean); the result may leave the
    bounds.

    The coordinates Q^T (x - mean) are computed once per family, and each d adds to the image of
    the d before it the new coordinates times the new basis vectors: all d together cost one
    product with Q Q^T beside the forward passes. Adding up in steps is one order of summation of
    the r terms of a pixel, so it obeys the bound of any order, r eps ||x - mean|| / 2 (Higham,
    Accuracy and Stability of Numerical Algorithms, 2002, §3.1): rounding does not build up beyond
    that of a projection from scratch.

    Args:
        net: the network.
        images: labelled images, or several sets by name, such as {"train": ..., "test": ...}.
        mean: mean training image (C, H, W), image units.
        families: nested subspaces of image space by name, or several draws of them: then image
            i is projected with number i modulo the `draws` (all splits counted through).
        dimensions: the d to visit, 0 (the mean image alone) to the last step; default: all where
            they are few, else a grid that is fine at both ends.
        keep: what keeps finished families; default nothing. See `Keep`.
        batch_size: images per pass; default from memory.
        progress: show a progress bar.

    Returns:
        Dataset over split, family, d and sample (the images of all splits, one after the other):
        `accuracy`, its binomial `standard_error` and `unchanged_share` (split, family, d);
        `prediction` (family, d, sample), -1 where a family has no S_d (there the shares are NaN);
        `clean_prediction`, `label` and `sample_split` (sample); `subspace_dimension` (family, d);
        `plain_accuracy`, `constant_accuracy` and `count` (split); `description` (family);
        `no_eigenvector_share` (family, d) and `step_distances` (family), the doubt of curved ones.

    Raises:
        InputError: no images, labels missing or beyond the network's classes, a mean image or
            subspaces of another size, d that no family has, or scores that are not finite.
    """
    splits = {images.name: images} if isinstance(images, ImageSet) else dict(images)
    _check_images(splits, net)
    centre = check_mean(torch.as_tensor(mean).to(net.device, net.dtype), net)
    check_families(families, net.dimension)
    visited = sweep_dimensions(families, dimensions)
    sizes = subspace_sizes(families, visited)
    size = net.batch_size(batch_size)
    parts = [part for split in splits.values() for part in split.batches(size)]
    clean = torch.cat([clean_labels(net, net.check_images(part), size).cpu() for part in parts])
    total = len(families) * len(clean)
    with tqdm(total=total, desc="subspace accuracy", unit="image", disable=not progress) as bar:
        computed = {
            name: partial(_family, net, parts, centre, draws_of(family), ends, bar.update)
            for (name, family), ends in zip(families.items(), sizes.tolist(), strict=True)
        }
        kept = keep.each(computed, catching_up(bar, repeat(len(clean))))
    swept = [ds["prediction"].to_numpy() for ds in kept]
    return _dataset(net, splits, families, visited, sizes, clean.numpy(), np.stack(swept))


def _family(
    net: Classifier,
    parts: Sequence[ImageSet],
    centre: Tensor,
    draws: Sequence[NestedSubspaces],
    ends: list[int],
    advance: Callable[[int], object],
) -> xr.Dataset:
    """Predicted classes (d, sample) of the projections of all images on one family."""
    used, count = max(0, *ends), sum(map(len, parts))
    found = np.zeros((len(ends), count), np.int8 if net.num_classes <= 128 else np.int16)
    for draw, nested in enumerate(draws):
        basis = nested.basis[:, :used].T.to(net.device, centre.dtype).contiguous()
        start = 0
        for part in parts:
            own = (torch.arange(start, start + len(part)) - draw) % len(draws) == 0
            if own.any():
                x = net.check_images(part)[own.to(net.device)]
                chosen = np.arange(start, start + len(part))[own.numpy()]
                found[:, chosen] = _predictions(net, x, centre, basis, ends).cpu().numpy()
                advance(len(x))
            start += len(part)
    return xr.Dataset({"prediction": (("d", "sample"), found)})


def _predictions(
    net: Classifier, x: Tensor, centre: Tensor, basis: Tensor, ends: list[int]
) -> Tensor:
    """Predicted classes (d, N) of the projections of a batch; `basis` has a vector a row."""
    found = torch.full((len(ends), len(x)), -1, device=net.device)
    # Sums over d stay NaN or infinite once a score was.
    total = torch.zeros(len(x), dtype=x.dtype, device=net.device)
    coordinates = (x - centre).flatten(1) @ basis.T
    projected = centre.flatten().repeat(len(x), 1)
    before: int | None = None
    for i, end in enumerate(ends):
        if end < 0:
            break
        if end == before:
            found[i] = found[i - 1]
            continue
        new = slice(before or 0, end)
        projected.addmm_(coordinates[:, new], basis[new])
        best = net.scores(projected.reshape(x.shape)).max(1)
        found[i] = best.indices
        total += best.values
        before = end
    if not total.isfinite().all():
        raise InputError(
            f"families: network {net.name!r} gives non-finite scores to projected images. Choose "
            "other dimensions, or check the network's behaviour outside the range of pixels."
        )
    return found


def _check_images(splits: Mapping[str, ImageSet], net: Classifier) -> None:
    if not splits:
        raise InputError("images: expected at least one image set, found none.")
    for name, images in splits.items():
        check_known(net, images.labels, f"images[{name!r}]: labels go up to")


def _dataset(
    net: Classifier,
    splits: Mapping[str, ImageSet],
    families: Families,
    visited: NDArray[np.int64],
    sizes: NDArray[np.int64],
    clean: Array,
    swept: Array,
) -> xr.Dataset:
    counts = np.array([len(images) for images in splits.values()])
    split_of = np.repeat(np.arange(len(splits)), counts)
    labels = np.concatenate([images.labels.numpy() for images in splits.values()])
    missing, firsts = sizes < 0, first_draws(families)

    def share(hits: Array) -> Array:
        """(..., sample) -> (split, ...) share of hits among the images of each split."""
        return np.stack([hits[..., split_of == i].mean(-1) for i in range(len(splits))])

    accuracy = np.where(missing, np.nan, share(swept == labels))
    common = [np.bincount(labels[split_of == i]).max() for i in range(len(splits))]
    values = {
        "accuracy": accuracy,
        "standard_error": np.sqrt(accuracy * (1 - accuracy) / counts[:, None, None]),
        "unchanged_share": np.where(missing, np.nan, share(swept == clean)),
        "prediction": swept,
        "clean_prediction": clean.astype(swept.dtype),
        "label": labels.astype(swept.dtype),
        "sample_split": split_of.astype(np.int8),
        "subspace_dimension": np.where(missing, np.nan, sizes),
        "plain_accuracy": share(clean == labels),
        "constant_accuracy": np.array(common) / counts,
        "count": counts,
        "draws": [len(draws_of(family)) for family in families.values()],
        "description": [n.description or name for name, n in firsts.items()],
        "directions_per_step": [n.width for n in firsts.values()],
        **doubt.family_variables(firsts, dict.fromkeys(firsts, visited.tolist())),
        "image_dimension": net.dimension,
        "split": list(splits),
        "family": list(families),
        "d": visited,
    }
    return described(SCHEMA, values)
