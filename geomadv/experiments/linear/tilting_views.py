"""What a sweep of tilting planes shows beside the planes: adversarial images, the space between."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomadv.experiments.linear.hyperplanes import Hyperplane, orthogonal_part, some_direction
from geomadv.experiments.linear.two_classes import TwoClasses
from geomadv.labels import IMAGE, Schema

Array = NDArray[np.float64]

# Below this length of what is left of a unit vector, the extreme weights and z lie in one plane.
_FLAT = 1e-9

_EXAMPLE, _EXTREME = ("example",), ("extreme",)
_BEGINS = "nearest point of the boundary, where an adversarial image begins"
_BASIS = "orthonormal basis of the space of z and the two extreme weights"
_COORDINATES = "coordinates of the training image, from the midpoint of the centroids"
_NORMAL = "unit weight at the largest and the smallest regularisation"
_DISTANCE = "signed distance of the midpoint of the centroids to that boundary"

VIEWS: Schema = {
    "example_index": (_EXAMPLE, "number of the example among the test images", "1"),
    "example_label": (_EXAMPLE, "class of the example", "1"),
    "example_image": ((*_EXAMPLE, *IMAGE), "test image", "image units"),
    "adversarial_image": (("C", *_EXAMPLE, *IMAGE), _BEGINS, "image units"),
    "space_basis": (("axis", *IMAGE), _BASIS, "1"),
    "space_train": (("train", "axis"), _COORDINATES, "image units"),
    "space_normal": ((*_EXTREME, "axis"), _NORMAL, "1"),
    "space_distance": (_EXTREME, _DISTANCE, "image units"),
    "space_index": (_EXTREME, "position of the extreme along C", "1"),
}


def adversarial_examples(
    planes: Sequence[Hyperplane], reference: Hyperplane, test: TwoClasses, count: int
) -> dict[str, Any]:
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
    return {
        "example_index": chosen,
        "example_label": test.labels[chosen],
        "example_image": x.reshape(-1, *test.shape),
        "adversarial_image": moved.reshape(len(planes), -1, *test.shape),
    }


def extreme_space(
    planes: Sequence[Hyperplane],
    sweep: Sequence[float],
    z: Array,
    n: Array,
    centre: Array,
    train: TwoClasses,
) -> dict[str, Any]:
    """The space of z and the weights at the smallest and largest C; empty where there is none.

    Its axes are z (D,), the n (C, D) at the largest C, and the rest of the weight at the smallest.
    """
    usable = [i for i in np.argsort(sweep, kind="stable") if planes[i].is_usable]
    if len(usable) < 2 or len(z) < 3:
        return {}
    first, last = usable[0], usable[-1]
    basis = np.stack([z, n[last]])
    third = orthogonal_part(planes[first].normal, basis, _FLAT)
    if third is None:
        third = some_direction(basis, train.x, centre)
    basis = np.vstack([basis, third])
    extreme = [planes[first], planes[last]]
    return {
        "space_basis": basis.reshape(3, *train.shape),
        "space_train": train.x @ basis.T - basis @ centre,
        "space_normal": np.stack([plane.normal for plane in extreme]) @ basis.T,
        "space_distance": [float(plane.distances(centre[None])[0]) for plane in extreme],
        "space_index": np.array([first, last]),
    }
