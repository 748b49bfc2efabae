"""Boundary points of any number of images, collected to disk chunk by chunk."""

import inspect
import os
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from tqdm.auto import tqdm

from geomadv.boundary import BoundaryPoints, boundary_points
from geomadv.classifier import Classifier
from geomadv.errors import InputError
from geomadv.images import ImageSet
from geomadv.perturbations import DeepFoolSettings
from geomadv.results import ChunkStore, check_writable, identity, load, provenance, reuse

EXPERIMENT = "boundary"

_CHUNK_BYTES, _CHUNK_IMAGES = 2**26, 512

_PIXELS = ("sample", "pixel")
_SCHEMA: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "point": (
        ("sample", "channel", "row", "column"),
        {"long_name": "boundary point", "units": "image units"},
    ),
    "normal": (_PIXELS, {"long_name": "unit boundary normal into the target class", "units": "1"}),
    "direction": (
        _PIXELS,
        {"long_name": "unit perturbation, boundary point minus image", "units": "1"},
    ),
    "true_label": (("sample",), {"long_name": "true class of the image", "units": "1"}),
    "source": (("sample",), {"long_name": "class predicted at the image", "units": "1"}),
    "target": (("sample",), {"long_name": "class across the boundary", "units": "1"}),
    "near": (("sample",), {"long_name": "class that meets the target at the point", "units": "1"}),
    "third": (("sample",), {"long_name": "a third class is on top at the point", "units": "1"}),
    "distance": (
        ("sample",),
        {"long_name": "distance from image to boundary point", "units": "image units"},
    ),
    "residual": (("sample",), {"long_name": "|f| at the boundary point", "units": "score units"}),
    "angle": (
        ("sample",),
        {"long_name": "angle between perturbation and boundary normal", "units": "radian"},
    ),
    "converged": (("sample",), {"long_name": "is a usable boundary point", "units": "1"}),
    "iterations": (("sample",), {"long_name": "DeepFool steps", "units": "1"}),
}


def collect_boundary_points(
    net: Classifier,
    images: ImageSet,
    path: str | os.PathLike[str],
    *,
    settings: dict[str, Any] | None = None,
    chunk_size: int | None = None,
    batch_size: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> xr.Dataset:
    """Boundary points and normals of all images in one HDF5 file, computed resumably.

    Every finished chunk is kept in `<path>.partial/`; a run killed at any moment continues where
    it stood and ends with the same numbers as one that was never killed. A finished file of the
    same network, images and settings is reused.

    Args:
        net: the network.
        images: clean images; folders are read chunk by chunk.
        path: the result file.
        settings: keyword arguments of `boundary_points` that can change the numbers (target,
            position, nearest, boundary, tolerance, nearest_steps, fields of DeepFoolSettings).
        chunk_size: images per chunk; default: at most 512 images or 64 MB.
        batch_size: images per pass through the network; default from memory.
        overwrite: replace a result of another configuration.
        progress: show a progress bar over all images.

    Returns:
        Dataset with dimensions sample, pixel (D) and channel, row, column: see `_SCHEMA` for the
        variables; `sample` counts the images. Rows without a usable boundary point have
        `converged` False, a NaN normal and a NaN direction. The perturbation is direction times
        distance. Large files are read lazily.

    Raises:
        InputError: settings that `boundary_points` does not take, an existing result of another
            configuration, or a disk that is read-only or too full.
    """
    target = Path(path)
    settings = dict(settings or {})
    _check_settings(settings)
    ready = reuse(
        target, settings, experiment=EXPERIMENT, net=net, images=images, overwrite=overwrite
    )
    if ready is not None:
        return ready
    image_bytes = 4 * net.dimension
    size = chunk_size or max(1, min(_CHUNK_IMAGES, _CHUNK_BYTES // (3 * image_bytes)))
    starts = range(0, len(images), size)
    # Three image-sized arrays a sample, once in chunks and once assembled.
    check_writable(target.parent, 2 * 3 * image_bytes * len(images))
    started = time.perf_counter()
    config = identity(EXPERIMENT, net=net, images=images, config=settings)
    with (
        ChunkStore(target, config, chunks=len(starts), overwrite=overwrite) as store,
        tqdm(total=len(images), desc="boundary points", unit="image", disable=not progress) as bar,
    ):
        done = store.done()
        for i, start in enumerate(starts):
            part = images[start : start + size]
            if i not in done:
                points = boundary_points(net, part.images, batch_size=batch_size, **settings)
                store.write(i, _arrays(points, part))
            bar.update(len(part))
        attrs = provenance(
            EXPERIMENT,
            net=net,
            images=images,
            config=settings,
            wall_time_s=time.perf_counter() - started,
        )
        store.assemble(_SCHEMA, attrs)
    return load(target)


def stored_points(ds: xr.Dataset) -> BoundaryPoints:
    """The boundary points of a result file, as `boundary_points` returned them."""
    names = {"points": "point", "normals": "normal"}
    stored = {name: names.get(name, name) for name in BoundaryPoints.__dataclass_fields__}
    # Files of 0.1.0 have neither `near` nor `third`: theirs are points of pairs.
    return BoundaryPoints(
        **{name: torch.as_tensor(ds[key].to_numpy()) for name, key in stored.items() if key in ds}
    )


def _arrays(points: BoundaryPoints, part: ImageSet) -> dict[str, np.ndarray[Any, Any]]:
    step = (points.points - part.images.to(points.points)).flatten(1)
    direction = torch.where(points.converged[:, None], step / points.distance[:, None], torch.nan)
    arrays = {
        "point": points.points,
        "normal": points.normals,
        "direction": direction,
        "true_label": part.labels,
        "source": points.source,
        "target": points.target,
        "near": points.near,
        "third": points.third,
        "distance": points.distance,
        "residual": points.residual,
        "angle": points.angle,
        "converged": points.converged,
        "iterations": points.iterations,
    }
    return {name: value.cpu().numpy() for name, value in arrays.items()}


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
