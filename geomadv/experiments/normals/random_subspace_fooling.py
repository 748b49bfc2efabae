"""Random vectors from the normals' leading subspace as universal perturbations."""

from collections.abc import Sequence
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.doors import Numbers
from geomadv.errors import InputError, check_counts
from geomadv.keep import Keep, keep_nothing
from geomadv.labels import Schema, described
from geomadv.linalg import Subspace, uniform_directions
from geomadv.perturbations.balls import mean_norm
from geomadv.perturbations.fooling import check_norms, clean_labels, fooled_and_lost
from geomadv.progress import catching_up, tqdm

_RATE, _PER_IMAGE = "fooling rate of one perturbation", "share of draws that fool the image"
_NONE = "share of images whose scores are not finite"
_INSIDE, _UNIFORM = "normal subspace", "uniform in image space"

SCHEMA: Schema = {
    "m": (("m",), "dimension of the leading normal subspace", "1"),
    "norm": (("norm",), "Euclidean norm of the perturbation", "image units"),
    "fooling_rate": (("m", "norm", "draw"), f"{_RATE} from the {_INSIDE}", "1"),
    "uniform_fooling_rate": (("norm", "draw"), f"{_RATE} {_UNIFORM}", "1"),
    "fooled_share": (("m", "norm", "sample"), f"{_PER_IMAGE}, {_INSIDE}", "1"),
    "uniform_fooled_share": (("norm", "sample"), f"{_PER_IMAGE}, {_UNIFORM}", "1"),
    "unlabelled_share": (("m", "norm", "draw"), f"{_NONE}, {_INSIDE}", "1"),
    "uniform_unlabelled_share": (("norm", "draw"), f"{_NONE}, {_UNIFORM}", "1"),
    "energy_share": (("m",), f"share of the normals' energy in the {_INSIDE}", "1"),
    "prediction": (("sample",), "class predicted at the clean image", "1"),
    "mean_image_norm": ((), "mean Euclidean norm of the images", "image units"),
}


@torch.no_grad()
def random_subspace_fooling(
    net: Classifier,
    images: Any,
    directions: Numbers,
    dimensions: Sequence[int],
    norms: Sequence[float],
    draws: int = 10,
    seed: int = 0,
    *,
    energy: Numbers | None = None,
    keep: Keep = keep_nothing,
    batch_size: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Fooling rates of random vectors in leading normal subspaces, beside uniform ones.

    The experiment of "Universal adversarial perturbations" (Moosavi-Dezfooli et al., CVPR 2017),
    §4. Each draw is one unit vector, uniform on the sphere of the span of the first m directions;
    it is scaled to every norm and added to all images. Published for CaffeNet, m = 100: 38 % of
    the predicted labels change, against 10 % for vectors uniform in all of image space.

    Args:
        net: the network.
        images: held-out images (N, C, H, W) in the bounds, not those the directions come from.
        directions: (D, k) singular vectors of the normal matrix, leading first.
        dimensions: the m to try, each at most k.
        norms: Euclidean norms of the perturbation, image units.
        draws: vectors per m, and uniform vectors.
        seed: of the draws.
        energy: (k,) share of the normals' energy along each direction, where it is known: squared
            singular values over the number of unit normals.
        keep: what keeps finished m; default nothing. See `Keep`.
        batch_size: images per pass; default from memory.
        progress: show a progress bar.

    Returns:
        Dataset over m, norm, draw and sample: `fooling_rate` (m, norm, draw) and
        `uniform_fooling_rate` (norm, draw); `fooled_share` (m, norm, sample) and
        `uniform_fooled_share` (norm, sample), the share of draws that change an image's label;
        `unlabelled_share` (m, norm, draw) and `uniform_unlabelled_share` (norm, draw), the images
        whose scores are not finite there: they do not count as fooled; `prediction` (sample);
        `mean_image_norm`; with `energy`, the `energy_share` (m) of the first m directions.

    Raises:
        InputError: unusable images, clean ones whose scores are not finite, m outside 1..k,
            norms that are not positive, draws < 1, or directions of another dimension than the
            images.
    """
    x = net.check_images(images)
    basis = torch.as_tensor(directions).to(device=net.device, dtype=x.dtype)
    _check(net, basis, dimensions, norms, draws)
    if energy is not None and np.shape(energy) != (basis.shape[1],):
        raise InputError(
            f"energy has shape {np.shape(energy)}, expected one share for each of the "
            f"{basis.shape[1]} directions."
        )
    size = net.batch_size(batch_size)
    clean = clean_labels(net, x, size)
    with tqdm(
        total=(len(dimensions) + 1) * len(norms) * draws,
        desc="random subspace fooling",
        unit="perturbation",
        disable=not progress,
    ) as bar:
        span = Subspace(basis)

        def fooled(vectors: Tensor) -> xr.Dataset:
            found = fooled_and_lost(net, x, clean, norms, size, bar.update, vectors)
            dims = ("norm", "draw", "sample")
            return xr.Dataset({"fooled": (dims, found[0]), "lost": (dims, found[1])})

        def within(m: int) -> xr.Dataset:
            return fooled(span.leading(m).random_unit(draws, seed=seed + m))

        def everywhere() -> xr.Dataset:
            return fooled(uniform_directions(draws, net.dimension, seed=seed).to(x))

        parts = {f"m-{m}": partial(within, m) for m in dimensions} | {"uniform": everywhere}
        done = catching_up(bar, repeat(len(norms) * draws))
        *found, uniform = keep.each(parts, done)
    inside = xr.concat(found, dim="m")
    values: dict[str, Any] = {
        "fooling_rate": inside["fooled"].mean("sample"),
        "uniform_fooling_rate": uniform["fooled"].mean("sample"),
        "fooled_share": inside["fooled"].mean("draw"),
        "uniform_fooled_share": uniform["fooled"].mean("draw"),
        "unlabelled_share": inside["lost"].mean("sample"),
        "uniform_unlabelled_share": uniform["lost"].mean("sample"),
        "prediction": clean,
        "mean_image_norm": mean_norm(x),
        "m": np.asarray(dimensions, dtype=np.int64),
        "norm": np.asarray(norms, dtype=np.float64),
    }
    if energy is not None:
        values["energy_share"] = np.cumsum(energy)[np.asarray(dimensions) - 1]
    return described(SCHEMA, values)


def _check(
    net: Classifier,
    basis: Tensor,
    dimensions: Sequence[int],
    norms: Sequence[float],
    draws: int,
) -> None:
    if basis.ndim != 2 or basis.shape[0] != net.dimension:
        raise InputError(
            f"directions have shape {tuple(basis.shape)}; images of network {net.name!r} have "
            f"{net.dimension} dimensions: give one direction a column, ({net.dimension}, k)."
        )
    if not dimensions or min(dimensions) < 1 or max(dimensions) > basis.shape[1]:
        raise InputError(
            f"dimensions={list(dimensions)} must lie between 1 and the {basis.shape[1]} directions."
        )
    check_norms(norms)
    check_counts(draws=draws)
