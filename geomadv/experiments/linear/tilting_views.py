"""What a sweep of tilting planes shows beside the planes: adversarial images, the space between."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geomadv.experiments.linear.hyperplanes import Hyperplane, orthogonal_part, some_direction
from geomadv.experiments.linear.two_classes import TwoClasses
from geomadv.labels import IMAGE, labelled

Array = NDArray[np.float64]

# Below this length of what is left of a unit vector, the extreme weights and z lie in one plane.
_FLAT = 1e-9


def adversarial_examples(
    planes: Sequence[Hyperplane], reference: Hyperplane, test: TwoClasses, count: int
) -> xr.Dataset:
    """Typical test images and, for each plane, the nearest point of it.

    They come from both classes in turn: of those that most planes get right, those first whose
    distance to the reference plane is nearest to the median.
    """
    right = np.sum([plane.correct(test.x, test.is_second) for plane in planes], axis=0)
    distance = np.abs(reference.distances(test.x))
    best = np.lexsort((np.abs(distance - np.median(distance)), -right))
    turns = [best[test.is_second[best] == second] for second in (False, True)]
    in_turn = [int(i) for both in zip_longest(*turns) for i in both if i is not None]
    chosen = np.array(in_turn[:count])
    x = test.x[chosen]
    moved = np.stack([x + plane.perturbations(x) for plane in planes])
    return labelled(
        example_index=("example", chosen, "number of the example among the test images", "1"),
        example_label=("example", test.labels[chosen], "class of the example", "1"),
        example_image=(
            ("example", *IMAGE),
            x.reshape(-1, *test.shape),
            "test image",
            "image units",
        ),
        adversarial_image=(
            ("C", "example", *IMAGE),
            moved.reshape(len(planes), -1, *test.shape),
            "nearest point of the boundary, where an adversarial image begins",
            "image units",
        ),
    )


def extreme_space(
    planes: Sequence[Hyperplane],
    sweep: Sequence[float],
    z: Array,
    n: Array,
    centre: Array,
    train: TwoClasses,
) -> xr.Dataset:
    """The space of z and the weights at the smallest and largest C; empty where there is none.

    Its axes are z (D,), the n (C, D) at the largest C, and the rest of the weight at the smallest.
    """
    usable = [i for i in np.argsort(sweep, kind="stable") if planes[i].is_usable]
    if len(usable) < 2 or len(z) < 3:
        return xr.Dataset()
    first, last = usable[0], usable[-1]
    basis = np.stack([z, n[last]])
    third = orthogonal_part(planes[first].normal, basis, _FLAT)
    if third is None:
        third = some_direction(basis, train.x, centre)
    basis = np.vstack([basis, third])
    extreme = [planes[first], planes[last]]
    gap = np.array([float(plane.distances(centre[None])[0]) for plane in extreme])
    return labelled(
        space_basis=(
            ("axis", *IMAGE),
            basis.reshape(3, *train.shape),
            "orthonormal basis of the space of z and the two extreme weights",
            "1",
        ),
        space_train=(
            ("train", "axis"),
            train.x @ basis.T - basis @ centre,
            "coordinates of the training image, from the midpoint of the centroids",
            "image units",
        ),
        space_normal=(
            ("extreme", "axis"),
            np.stack([plane.normal for plane in extreme]) @ basis.T,
            "unit weight at the largest and the smallest regularisation",
            "1",
        ),
        space_distance=(
            "extreme",
            gap,
            "signed distance of the midpoint of the centroids to that boundary",
            "image units",
        ),
        space_index=("extreme", np.array([first, last]), "position of the extreme along C", "1"),
    )
