"""Decision regions in planes through images and their boundary points."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from geomadv.boundary import BoundaryPoints, boundary_points
from geomadv.classifier import Classifier
from geomadv.errors import InputError
from geomadv.experiments.planes.second import SECONDS, Direction, Second, SecondDirections
from geomadv.keep import Keep, keep_nothing
from geomadv.labels import IMAGE, Schema, described
from geomadv.perturbations.fooling import labels_of
from geomadv.progress import tqdm

# A plane of more is 16 million points, 130 MB of results.
MOST_STEPS = 2000
# Share of the way beyond marked points that a plane shows.
_BEYOND = 1.15
# Sine of the least angle between the axes: below it rounding decides which plane it is.
_LEAST_SINE = 0.01

_PLANE = ("sample", "second")
_GRID = (*_PLANE, "vertical", "horizontal")

SCHEMA: Schema = {
    "second": (("second",), "what the second axis is made of", "1"),
    "class_name": (("label",), "names of the network's classes", "1"),
    "image": (("sample", *IMAGE), "clean image, at the origin of its planes", "image units"),
    "source": (("sample",), "class predicted at the image", "1"),
    "target": (("sample",), "class beyond the boundary point; -1 for none", "1"),
    "distance": (
        ("sample",),
        "distance of the boundary point, its coordinate on the first axis",
        "image units",
    ),
    "first_axis": (("sample", *IMAGE), "unit direction from the image to the point", "1"),
    "second_axis": ((*_PLANE, *IMAGE), "unit direction orthogonal to the first axis", "1"),
    "second_curvature": (_PLANE, "curvature along the second direction", "1 / image units"),
    "second_residual": (_PLANE, "||S v - value v|| / max |value|; above 1 no eigenvector", "1"),
    "mark": ((*_PLANE, "axis"), "what the second axis leads to; NaN for none", "image units"),
    "mark_label": (_PLANE, "class beyond that point, or of that image; -1 for none", "1"),
    "coordinate": ((*_PLANE, "horizontal"), "grid along either axis", "image units"),
    "prediction": (_GRID, "predicted class; -1 for no plane", "1"),
    "margin": (_GRID, "best minus second-best score", "score units"),
}


def decision_plane(
    net: Classifier,
    images: Any,
    second: Sequence[Second] = ("runner-up", "positive", "random"),
    *,
    steps: int = 30,
    reach: float = 3.0,
    seed: int = 0,
    keep: Keep = keep_nothing,
    batch_size: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Predicted classes and margins in planes of each image, its boundary point and a direction.

    The image is at the origin, its boundary point (DeepFool, refined) on the first axis. The second
    axis is what a direction leaves orthogonal to the first: "runner-up", DeepFool's to the class
    with the second-nearest boundary among the ten best-scoring; "positive" or "negative", of most
    positive or most negative principal curvature at the boundary point; "random", uniform; "image",
    to the next of the images that is predicted as another class.

    Args:
        net: the network.
        images: clean images (N, C, H, W) in the bounds, or an ImageSet; planes may leave them.
        second: directions, each for a plane of its own.
        steps: of the grid on either side of the image, along both axes.
        reach: half the side of a plane in distances of the image's boundary point; larger where
            what the second axis leads to lies beyond.
        seed: of the random directions; the image's number is added.
        keep: what keeps finished images; default nothing. See `Keep`.
        batch_size: images per pass; default from memory.
        progress: show a progress bar, in images.

    Returns:
        Dataset over sample, second, vertical and horizontal: `prediction` and `margin` on grids
        of `coordinate`, the axes as images, and the marked points. An image without a boundary
        point, and a plane whose second direction is missing, not curved or parallel to the first,
        is kept with predictions -1 and NaN.

    Raises:
        InputError: unusable images, no direction, one named twice or unknown, steps out of range or
            a reach that is not positive.
    """
    x = net.check_images(images)
    _check(second, steps, reach)
    predicted = net.predict(x, batch_size).cpu()

    def of_image(i: int) -> xr.Dataset:
        point = boundary_points(net, x[i : i + 1], batch_size=batch_size)
        order = (predicted != predicted[i]).roll(-i - 1).nonzero()
        j = (i + 1 + int(order[0])) % len(x) if len(order) else i
        ways = SecondDirections(
            net, x[i : i + 1], point, (x[j], int(predicted[j])), seed + i, batch_size
        )
        return _image_planes(net, x[i], point, ways, second, (steps, reach), batch_size)

    with tqdm(total=len(x), desc="decision planes", unit="image", disable=not progress) as bar:
        computed = {f"image-{i}": partial(of_image, i) for i in range(len(x))}
        parts = keep.each(computed, bar.update)
    values: dict[str, Any] = {
        str(name): np.stack([part[name].to_numpy() for part in parts]) for name in parts[0]
    }
    values |= {"second": list(second), "class_name": list(net.class_names)}
    return described(SCHEMA, values)


def _check(second: Sequence[str], steps: Any, reach: float) -> None:
    if not second or len({*second}) < len(second) or not {*second} <= {*SECONDS}:
        raise InputError(
            f"second={[*second]}: expected one or more of {', '.join(SECONDS)}, each once."
        )
    whole = isinstance(steps, Integral) and 1 <= int(steps) <= MOST_STEPS
    if not whole or not 0 < reach < np.inf:
        raise InputError(
            f"steps={steps}, reach={reach:g}: expected a whole number of 1 to {MOST_STEPS:,} steps "
            "on either side of the image and a finite reach > 0, in distances of the boundary "
            "point."
        )


def _image_planes(
    net: Classifier,
    x: Tensor,
    point: BoundaryPoints,
    ways: SecondDirections,
    second: Sequence[Second],
    size: tuple[int, float],
    batch_size: int | None,
) -> xr.Dataset:
    """All planes of one image, without the dimension sample."""
    found = bool(point.converged[0])
    distance = float(point.distance[0]) if found else np.nan
    first = (point.points[0] - x).flatten().double() / distance
    planes = [
        _plane(net, x, first, distance, ways.named(name) if found else None, size, batch_size)
        for name in second
    ]
    values: dict[str, Any] = {
        name: np.stack([plane[name] for plane in planes]) for name in planes[0]
    }
    values |= {
        "image": x.cpu().numpy(),
        "source": int(point.source[0]),
        "target": int(point.target[0]) if found else -1,
        "distance": distance,
        "first_axis": first.reshape(net.input_shape).to(x).cpu().numpy(),
    }
    schema = {n: (tuple(d for d in v[0] if d != "sample"), *v[1:]) for n, v in SCHEMA.items()}
    return described(schema, values)


def _plane(
    net: Classifier,
    x: Tensor,
    first: Tensor,
    distance: float,
    way: Direction | None,
    size: tuple[int, float],
    batch_size: int | None,
) -> dict[str, Any]:
    """One plane: its axis, its mark, and the grid with predictions and margins."""
    steps, reach = size
    side = 2 * steps + 1
    way = Direction(torch.full_like(first, torch.nan)) if way is None else way
    vector = way.vector.double()
    rest = vector - (vector @ first) * first
    rest -= (rest @ first) * first  # twice is enough (Parlett, The Symmetric Eigenvalue Problem)
    known = bool(rest.norm() > _LEAST_SINE * vector.norm())  # not where it is NaN
    axis = rest / rest.norm() if known else torch.full_like(first, torch.nan)
    mark = np.full(2, np.nan)
    if known and way.end is not None:
        mark = torch.stack([way.end.double() @ first, way.end.double() @ axis]).cpu().numpy()
    half = max(reach * distance, _BEYOND * float(np.nan_to_num(np.abs(mark)).max()))
    places = half * np.linspace(-1, 1, side)
    label = np.full((side, side), -1)
    margin = np.full((side, side), np.nan)
    if known:
        label, margin = _grid(net, x, torch.stack([first, axis]), places, batch_size)
    kind = np.int16 if net.num_classes <= np.iinfo(np.int16).max else np.int32
    return {
        "second_axis": axis.reshape(net.input_shape).to(x).cpu().numpy(),
        "second_curvature": way.curvature,
        "second_residual": way.residual,
        "mark": mark,
        "mark_label": way.label if known else -1,
        "coordinate": places if known else np.full(side, np.nan),
        "prediction": label.astype(kind),
        "margin": margin.astype(np.float32),
    }


@torch.no_grad()
def _grid(
    net: Classifier,
    x: Tensor,
    axes: Tensor,
    places: NDArray[np.float64],
    batch_size: int | None,
) -> tuple[NDArray[np.signedinteger], NDArray[np.floating]]:
    """Predicted classes and margins (vertical, horizontal) of the plane's points.

    axes (2, D) are orthonormal, float64.
    """
    size, side = net.batch_size(batch_size), len(places)
    at = torch.as_tensor(places, device=x.device)
    labels, margins = [], []
    for index in torch.arange(side**2, device=x.device).split(size):
        weights = torch.stack([at[index % side], at[index // side]], dim=1)
        moved = x.flatten() + (weights.to(x) @ axes.to(x))
        scores = net.scores(moved.reshape(-1, *net.input_shape))
        labels.append(labels_of(scores))
        best = scores.topk(2, dim=1).values
        margins.append(torch.where(labels[-1] < 0, torch.nan, best[:, 0] - best[:, 1]))
    both = (torch.cat(t).reshape(side, side).cpu().numpy() for t in (labels, margins))
    return next(both), next(both)
