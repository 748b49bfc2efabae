"""The spectrum of the normal matrix beside that of random directions."""

import math
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from geomadv.doors import Numbers
from geomadv.errors import InputError
from geomadv.labels import IMAGE, Schema, described
from geomadv.linalg import baseline_spectrum, normal_svd

# Normals that are compared with each other: their products are few beside the decomposition.
_POINTS = 1000

_SHARES = np.array([0.5, 0.9, 0.99])
_HOLD = "directions that hold a share of the energy"


def _summary(name: str, *dims: str) -> Schema:
    """What tells how many directions a spectrum has."""
    return {
        f"{name}_effective_rank": (dims, "exponential of the entropy of the energy shares", "1"),
        f"{name}_participation_ratio": (dims, "(sum s^2)^2 / sum s^4", "1"),
        f"{name}_energy_dimension": (("energy_share", *dims), _HOLD, "1"),
    }


SCHEMA: Schema = {
    "energy_share": (("energy_share",), "share of the sum of squared singular values", "1"),
    "singular_value": (("rank",), "leading singular values of the normal matrix", "1"),
    "direction": (("rank", *IMAGE), "right singular vectors as images, unit norm", "1"),
    "error_bound": ((), "bound on the absolute error of a singular value", "1"),
    "rows": ((), "boundary normals decomposed", "1"),
    "squared_cosine": (("point",), "mean squared cosine with the normals of other points", "1"),
    "skipped": ((), "boundary points without a usable normal", "1"),
    "spectrum": (("component",), "all singular values of the normal matrix", "1"),
    "baseline": (("draw", "component"), "singular values of as many uniform unit vectors", "1"),
    **_summary("normal"),
    **_summary("baseline", "draw"),
}


def normal_spectrum(
    normals: Numbers,
    input_shape: tuple[int, int, int],
    rank: int = 100,
    baseline_draws: int = 10,
    seed: int = 0,
    *,
    progress: bool = False,
) -> xr.Dataset:
    """Singular values and leading directions of the normals, with the random baseline.

    The baseline is the spectrum of as many unit vectors drawn uniformly on the sphere, with its
    spread over draws (Universal adversarial perturbations, §4, fig. 9). Directions shared by many
    boundaries show as a spectrum that decays faster than the baseline's.

    Args:
        normals: (N, D) unit rows: tensor, array or h5py dataset; NaN rows are skipped.
        input_shape: (C, H, W) with C H W = D.
        rank: leading directions to keep; fewer where D or the rows without NaN are fewer.
        baseline_draws: random matrices for the baseline.
        seed: of the baseline.
        progress: show progress bars.

    Returns:
        Dataset: `singular_value` and `direction` (rank, channel, row, column); `spectrum` and
        `baseline` (draw, component) in full where they are known; effective rank, participation
        ratio and energy dimensions of both. `squared_cosine` (point), of at most 1,000 normals
        drawn at random: its mean is 1 / D for uniform directions, and the inverse of the mean is
        the number of equally used orthogonal directions that would be as much alike.

    Raises:
        InputError: D does not match the input shape; others from `normal_svd`.
    """
    if normals.shape[1] != np.prod(input_shape):
        raise InputError(
            f"normals have {normals.shape[1]} columns, but images of shape {tuple(input_shape)} "
            f"have {int(np.prod(input_shape))} pixels. Give the shape of the images that they are "
            "normals at."
        )
    svd = normal_svd(normals, rank=rank, seed=seed, progress=progress, fewer=True)
    values: dict[str, Any] = {
        "singular_value": svd.singular_values,
        "direction": svd.directions.T.reshape(-1, *input_shape),
        "error_bound": svd.error_bound,
        "rows": svd.rows,
        "skipped": svd.skipped,
        "squared_cosine": _squared_cosines(normals, seed),
        "energy_share": _SHARES,
    }
    if svd.spectrum is not None:
        random = baseline_spectrum(svd.rows, normals.shape[1], draws=baseline_draws, seed=seed)
        values |= {"spectrum": svd.spectrum, "baseline": random}
        values |= _summarised("normal", svd.spectrum.numpy())
        values |= _summarised("baseline", np.asarray(random))
    return described(SCHEMA, values, {"svd_method": svd.method})


def _squared_cosines(normals: Numbers, seed: int) -> NDArray[np.float64]:
    """(point,) mean squared cosine of each of some normals with the others; NaN for one alone."""
    count = len(normals)
    chosen = np.random.default_rng(seed).choice(count, min(_POINTS, count), replace=False)
    rows = torch.as_tensor(normals[np.sort(chosen)])  # a file is read in ascending order
    rows = torch.nn.functional.normalize(rows[rows.isfinite().all(1)], dim=1)
    squares = (rows @ rows.T).square().double()
    others = squares.sum(1) - squares.diagonal()
    return np.asarray(others / (len(rows) - 1 or math.nan))


def _summarised(name: str, spectrum: NDArray[np.float64]) -> dict[str, Any]:
    """Effective rank, participation ratio and energy dimensions of spectra (..., component)."""
    share = spectrum**2 / (spectrum**2).sum(-1, keepdims=True)
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(-1)
    held = share.cumsum(-1) / share.sum(-1, keepdims=True)
    return {
        f"{name}_effective_rank": np.exp(entropy),
        f"{name}_participation_ratio": 1 / (share**2).sum(-1),
        f"{name}_energy_dimension": np.stack([(held < s).sum(-1) + 1 for s in _SHARES]),
    }
