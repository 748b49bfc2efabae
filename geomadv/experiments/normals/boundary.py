"""Boundary points and normals of any number of images."""

import inspect
from dataclasses import fields
from functools import partial
from typing import Any

import torch
import xarray as xr

from geomadv.boundary import BoundaryPoints, boundary_points
from geomadv.classifier import Classifier
from geomadv.errors import InputError
from geomadv.images import ImageSet
from geomadv.keep import Keep, keep_nothing
from geomadv.labels import GIVES, IMAGE, Schema, derived, described
from geomadv.perturbations import DeepFoolSettings
from geomadv.progress import tqdm

_CHUNK_BYTES, _CHUNK_IMAGES = 2**26, 512

_EACH, _PIXELS = ("sample",), ("sample", "pixel")
SCHEMA: Schema = {
    "image": (("sample", *IMAGE), "clean image", "image units"),
    "point": (("sample", *IMAGE), "boundary point", "image units"),
    "normal": (_PIXELS, "unit boundary normal into the target class", "1"),
    "direction": (_PIXELS, "unit perturbation, boundary point minus image", "1"),
    "true_label": (_EACH, "true class of the image", "1"),
    "source": (_EACH, "class predicted at the image", "1"),
    "target": (_EACH, "class across the boundary", "1"),
    "near": (_EACH, "class that meets the target at the point", "1"),
    "third": (_EACH, "a third class is on top at the point", "1"),
    "distance": (_EACH, "distance from image to boundary point", "image units"),
    "residual": (_EACH, "|f| at the boundary point", "score units"),
    "angle": (_EACH, "angle between perturbation and boundary normal", "radian"),
    "converged": (_EACH, "is a usable boundary point", "1"),
    "iterations": (_EACH, "DeepFool steps", "1"),
}

_POINT = "boundary point: point = image + distance * direction"

# Fields of BoundaryPoints, and under which names they are stored.
_FIELDS = {f.name: f.name for f in fields(BoundaryPoints)} | {
    "points": "point",
    "normals": "normal",
}


def boundary(
    net: Classifier,
    images: ImageSet,
    *,
    keep: Keep = keep_nothing,
    chunk_size: int | None = None,
    batch_size: int | None = None,
    progress: bool = False,
    points: bool = True,
    **settings: Any,
) -> xr.Dataset:
    """One boundary point for each image, with its normal.

    Args:
        net: the network.
        images: clean images with labels; folders are read chunk by chunk.
        keep: what keeps finished chunks; default nothing. See `Keep`.
        chunk_size: images per chunk; default: at most 512 images or 64 MB. It changes results by
            rounding only.
        batch_size: images per pass through the network; default from memory.
        progress: show a progress bar over all images.
        points: keep the images, from which the points follow; without, a third less is on disk.
        settings: keyword arguments of `boundary_points` that can change the numbers (target,
            position, nearest, boundary, tolerance, nearest_steps, fields of DeepFoolSettings).

    Returns:
        Dataset with dimensions sample, pixel (D) and channel, row, column: see `SCHEMA` for the
        variables; `sample` counts the images. Rows without a usable boundary point have
        `converged` False and are NaN in normal, direction and point; of an image on the boundary
        itself the direction is NaN as well. The perturbation is direction times distance. A store
        reads the variables when they are used; `point`, image plus perturbation, is on no disk and
        computed then.

    Raises:
        InputError: settings that `boundary_points` does not take.
    """
    _check_settings(settings)
    size = chunk_size or max(1, min(_CHUNK_IMAGES, _CHUNK_BYTES // (12 * net.dimension)))
    with tqdm(total=len(images), desc="boundary points", unit="image", disable=not progress) as bar:

        def chunk(start: int, stop: int) -> xr.Dataset:
            bar.update(start - bar.n)  # chunks that are kept already
            part = images[start:stop]
            found = boundary_points(net, part.images, batch_size=batch_size, **settings)
            bar.update(len(part))
            return _described(found, part, points)

        parts = {}
        for start in range(0, len(images), size):
            stop = min(start + size, len(images))
            # Named by both ends: with another size of chunks none is taken for another.
            parts[f"rows-{start:06d}-{stop:06d}"] = partial(chunk, start, stop)
        return derived(keep.rows(parts, "sample"))


def _described(found: BoundaryPoints, part: ImageSet, points: bool) -> xr.Dataset:
    images = part.images.to(found.points)
    step = (found.points - images).flatten(1)
    direction = torch.where(found.converged[:, None], step / found.distance[:, None], torch.nan)
    own = {key: getattr(found, name) for name, key in _FIELDS.items() if key != "point"}
    values = {"direction": direction, "true_label": part.labels, **own}
    ds = described(SCHEMA, values | ({"image": images} if points else {}))
    if points:
        ds["image"].attrs[GIVES] = _POINT
    return ds


def _check_settings(settings: dict[str, Any]) -> None:
    known = set(inspect.signature(boundary_points).parameters)
    known |= {field.name for field in fields(DeepFoolSettings)}
    known -= {"net", "images", "batch_size", "progress", "deepfool", "changes"}
    unknown = settings.keys() - known
    if unknown:
        raise InputError(
            f"settings: boundary_points does not take {', '.join(sorted(unknown))}; it takes "
            f"{', '.join(sorted(known))}."
        )
