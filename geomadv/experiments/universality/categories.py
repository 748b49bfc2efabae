"""Four categories of vulnerability: what it takes to fool a network at a given norm."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from geomadv.boundary import boundary_points
from geomadv.classifier import Classifier
from geomadv.errors import InputError, check_counts
from geomadv.experiments.universality.search import restored_search, search_parts
from geomadv.experiments.universality.universal import random_perturbations
from geomadv.keep import Keep, keep_nothing
from geomadv.labels import Schema, described
from geomadv.perturbations.balls import mean_norm
from geomadv.perturbations.fooling import clean_labels, is_fooled, labels_under
from geomadv.perturbations.universal import check_search
from geomadv.progress import tqdm

NAMES = {
    1: "no adversarial perturbations",
    2: "adversarial perturbations",
    3: "universal perturbations",
    4: "all perturbations are adversarial",
}

_RADIUS, _SOUGHT = ("radius",), "the universal perturbation sought"

SCHEMA: Schema = {
    "radius": (_RADIUS, "Euclidean norm of the perturbation", "image units"),
    "level": (("level",), "share of images q that counts as fooled", "1"),
    "adversarial_share": (_RADIUS, "share fooled by some perturbation up to the norm, A", "1"),
    "universal_share": (_RADIUS, "largest share fooled by one perturbation up to the norm, U", "1"),
    "random_share": (_RADIUS, "mean share fooled by a random direction of the norm, R", "1"),
    "category": (("level", "radius"), "category of vulnerability, 1 to 4", "1"),
    "boundary_distance": (("sample",), "distance to the nearest boundary found", "image units"),
    "random_fooling_rate": (("radius", "draw"), "share fooled by one random direction", "1"),
    "search_rate": (_RADIUS, f"share fooled by {_SOUGHT} at this norm", "1"),
    "prediction": (("sample",), "class predicted at the clean image", "1"),
    "mean_image_norm": ((), "mean Euclidean norm of the images", "image units"),
}


def categories(
    net: Classifier,
    images: Any,
    radii: Sequence[float],
    levels: Sequence[float] = (0.5,),
    draws: int = 20,
    seed: int = 0,
    *,
    nearest: bool = True,
    search: Mapping[str, Any] | None = None,
    keep: Keep = keep_nothing,
    batch_size: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Shares of images fooled by their own, by one common and by a random vector, against norm.

    After "The geometry of adversarial perturbations" (a reading of Moosavi-Dezfooli et al., 2017).
    At Euclidean norm ε and on the same images: A(ε), the share that some perturbation of norm at
    most ε fools; U(ε), the largest share that one perturbation fools; R(ε), the mean share that a
    uniform random direction of norm ε fools. A and U are lower bounds: A counts the images whose
    nearest boundary found lies within ε and those that any vector tried for U or R fools; U is the
    best of all vectors tried up to ε. Hence A ≥ U ≥ R, and A and U do not fall.

    At level q the category is 1 if A < q, 2 if A ≥ q > U, 3 if U ≥ q > R, 4 if R ≥ q.

    Args:
        net: the network.
        images: (N, C, H, W) in the bounds.
        radii: norms ε, image units, ascending.
        levels: shares q in (0, 1].
        draws: random directions; the same ones at every norm.
        seed: of the directions and of the searches.
        nearest: polish the boundary points towards the nearest ones (slower, tighter A).
        search: settings of `universal_perturbation`: passes, method, block and so on; its
            target_rate is 1 here.
        keep: what keeps finished searches; default nothing. See `Keep`.
        batch_size: images per pass; default from memory.
        progress: show a progress bar.

    Returns:
        Dataset over radius, level, draw and sample: `adversarial_share`, `universal_share` and
        `random_share` (radius); `category` (level, radius), 1 to 4; `boundary_distance` (sample),
        infinite where no boundary was found; `random_fooling_rate` (radius, draw); `search_rate`
        (radius), what the search at that radius alone reached; `prediction` (sample);
        `mean_image_norm`.

    Raises:
        InputError: unusable images, radii that are not positive and ascending, levels outside
            (0, 1], draws < 1, search settings that cannot be used.
    """
    x = net.check_images(images)
    _check(radii, levels, draws)
    settings = {"target_rate": 1.0, **check_search(search)}
    size = net.batch_size(batch_size)
    clean = clean_labels(net, x, size)

    def fooled(v: Tensor) -> NDArray[np.bool_]:
        return is_fooled(labels_under(net, x, v.to(x), size), clean).cpu().numpy()

    def others() -> xr.Dataset:
        """What needs no search: the images' own boundaries, and whom random directions fool."""
        points = boundary_points(net, x, nearest=nearest, batch_size=size, progress=progress)
        distance = torch.where(points.converged, points.distance, torch.inf).double().cpu().numpy()
        noise = [
            [fooled(v) for v in random_perturbations(net, draws, radius, 2, seed)]
            for radius in radii
        ]
        values = {"distance": ("sample", distance), "noise": (("radius", "draw", "sample"), noise)}
        return xr.Dataset(values)

    settings |= {"images": x, "seed": seed, "batch_size": size}
    searches = {f"search-{radius!r}": {"radius": radius} for radius in radii}
    parts = {"others": others, **search_parts(keep, net, searches, **settings)}
    with tqdm(total=len(parts), desc="categories", unit="part", disable=not progress) as bar:
        own, *found = keep.each(parts, bar.update)
    common = np.stack([fooled(restored_search(ds, net).delta) for ds in found])
    distance, noise = (own[name].to_numpy() for name in ("distance", "noise"))
    shares = _shares(distance <= np.asarray(radii)[:, None], common, noise)
    level = np.asarray(levels, dtype=np.float64)
    # Each curve that reaches the level moves a network on by one category.
    passed = [curve >= level[:, None] for curve in shares.values()]
    values = {f"{name}_share": curve for name, curve in shares.items()} | {
        "category": 1 + np.sum(passed, axis=0, dtype=np.int64),
        "boundary_distance": distance,
        "random_fooling_rate": noise.mean(2),
        "search_rate": common.mean(1),
        "prediction": clean,
        "mean_image_norm": mean_norm(x),
        "radius": np.asarray(radii, np.float64),
        "level": level,
    }
    ds = described(SCHEMA, values)
    ds["category"].attrs |= {f"category_{k}": name for k, name in NAMES.items()}
    return ds


def _shares(
    near: NDArray[np.bool_], common: NDArray[np.bool_], noise: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """A, U and R at every norm, from who is fooled there.

    near, common: (radius, sample), by its own perturbation and by the one that was searched for.
    noise: (radius, draw, sample).
    """
    rates = noise.mean(2)
    reached = np.logical_or.accumulate(near | common | noise.any(1))
    best = np.maximum.accumulate(np.maximum(common.mean(1), rates.max(1)))
    return {"adversarial": reached.mean(1), "universal": best, "random": rates.mean(1)}


def _check(radii: Sequence[float], levels: Sequence[float], draws: int) -> None:
    ascending = all(a < b for a, b in itertools.pairwise(radii))
    if not radii or not all(np.isfinite(r) and r > 0 for r in radii) or not ascending:
        raise InputError(f"radii={list(radii)} must be positive, finite and ascending.")
    if not levels or not all(0 < q <= 1 for q in levels):
        raise InputError(f"levels={list(levels)} must lie in (0, 1].")
    check_counts(draws=draws)
