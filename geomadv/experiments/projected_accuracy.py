"""Accuracy of images projected on curved and on flat directions: a first look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
import xarray as xr

from geomadv.batching import check_batch_size
from geomadv.classifier import Classifier
from geomadv.curvature import PrincipalCurvatures, class_subspace
from geomadv.errors import InputError
from geomadv.images import ImageSet
from geomadv.linalg import Subspace

Which = Literal["positive", "negative", "both", "flat"]


@torch.no_grad()
def projected_accuracy(
    net: Classifier,
    images: ImageSet,
    mean: torch.Tensor,
    curvatures: Sequence[PrincipalCurvatures],
    dimensions: Sequence[int] = (1, 2, 3, 5, 10),
    *,
    batch_size: int | None = None,
) -> xr.Dataset:
    """Accuracy of images projected on S_pos, S_neg, both and S_flat, d directions per class.

    The projection acts on mean-centred images, x -> mean + Q Q^T (x - mean), and the result may
    leave the bounds. "With Friends Like These" (Jetley, Lord and Torr, 2018), figure 3, reports
    that the curved subspaces carry the accuracy and the flat ones nothing.

    Args:
        net: the network.
        images: held-out images with labels.
        mean: mean training image (C, H, W).
        curvatures: principal curvatures, one per class.
        dimensions: directions per class; those that the curvatures have no room for are left out.
        batch_size: images per pass; default from memory.

    Returns:
        Dataset: `accuracy` (which, d), `subspace_dimension` (which, d), `plain_accuracy` (). Where
        the full spectrum is not known, S_flat is a random draw from the complement of the computed
        directions, and the attribute `flat` of the accuracy says so; NaN where it has no room.

    Raises:
        InputError: no curvatures, no images or labels, or no d that fits.
    """
    if not curvatures:
        raise InputError("curvatures: expected those of at least one class, found none.")
    room = min(len(c.values) for c in curvatures) // 2
    kept = [d for d in dimensions if 1 <= d <= room]
    if not kept:
        raise InputError(f"dimensions={list(dimensions)}: expected numbers from 1 to {room}.")
    whiches: tuple[Which, ...] = get_args(Which)
    accuracy = np.full((len(whiches), len(kept)), np.nan)
    sizes = np.zeros(accuracy.shape, dtype=np.int64)
    for i, which in enumerate(whiches):
        for j, d in enumerate(kept):
            subspace = _subspace(curvatures, d, which)
            if subspace is not None:
                sizes[i, j] = subspace.dimension
                accuracy[i, j] = _accuracy(net, images, mean, subspace, batch_size)
    ds = xr.Dataset(
        {
            "accuracy": (("which", "d"), accuracy),
            "subspace_dimension": (("which", "d"), sizes),
            "plain_accuracy": ((), _accuracy(net, images, mean, None, batch_size)),
        },
        coords={"which": list(whiches), "d": kept},
    )
    labels = {
        "accuracy": "accuracy of held-out images projected on the subspace",
        "subspace_dimension": "dimension of the subspace of all classes' directions",
        "plain_accuracy": "accuracy of the same images",
    }
    for name, long_name in labels.items():
        ds[name].attrs = {"long_name": long_name, "units": "1"}
    drawn = "random directions of the complement of the computed ones"
    known = "directions of the smallest |curvature|"
    ds["accuracy"].attrs["flat"] = known if all(c.complete for c in curvatures) else drawn
    ds["d"].attrs = {"long_name": "directions per class", "units": "1"}
    return ds


def _subspace(curvatures: Sequence[PrincipalCurvatures], d: int, which: Which) -> Subspace | None:
    """The subspace; None where the computed directions leave no room for S_flat."""
    if which != "flat" or all(c.complete for c in curvatures):
        return class_subspace(curvatures, d, which)
    computed = min(len(c.values) for c in curvatures) // 2
    curved = class_subspace(curvatures, computed, "both")
    room = curved.ambient_dimension - curved.dimension
    wanted = d * len(curvatures)
    return curved.complement_sample(wanted) if wanted <= room else None


def _accuracy(
    net: Classifier,
    images: ImageSet,
    mean: torch.Tensor,
    subspace: Subspace | None,
    batch_size: int | None,
) -> float:
    correct = 0
    centre = mean.to(net.device, net.dtype)
    for part in images.batches(check_batch_size(batch_size, net)):
        x = part.images.to(net.device, net.dtype)
        if subspace is not None:
            x = centre + subspace.to(net.device).project(x - centre)
        correct += int((net.scores(x.to(net.dtype)).argmax(1).cpu() == part.labels).sum())
    return correct / len(images)
