"""The spectrum of the normal matrix beside that of random directions."""

from typing import Any

import numpy as np
import xarray as xr

from geomadv.errors import InputError
from geomadv.linalg import baseline_spectrum, normal_svd


def normal_spectrum(
    normals: Any,
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
        ratio and energy dimensions of both.

    Raises:
        InputError: D does not match the input shape; others from `normal_svd`.
    """
    if normals.shape[1] != np.prod(input_shape):
        raise InputError(
            f"normals have {normals.shape[1]} columns, but images of shape {tuple(input_shape)} "
            f"have {int(np.prod(input_shape))} pixels."
        )
    svd = normal_svd(normals, rank=rank, seed=seed, progress=progress, fewer=True)
    k = len(svd.singular_values)
    ds = xr.Dataset(
        {
            "singular_value": ("rank", svd.singular_values.numpy()),
            "direction": (
                ("rank", "channel", "row", "column"),
                svd.directions.T.reshape(k, *input_shape).numpy(),
            ),
            "error_bound": ((), svd.error_bound),
            "rows": ((), svd.rows),
            "skipped": ((), svd.skipped),
        },
        coords={"energy_share": ("energy_share", [0.5, 0.9, 0.99])},
        attrs={"svd_method": svd.method},
    )
    _label(ds, "energy_share", "share of the sum of squared singular values")
    _label(ds, "singular_value", "leading singular values of the normal matrix")
    _label(ds, "direction", "right singular vectors as images, unit norm")
    _label(ds, "error_bound", "bound on the absolute error of a singular value")
    _label(ds, "rows", "boundary normals decomposed")
    _label(ds, "skipped", "boundary points without a usable normal")
    if svd.spectrum is not None:
        random = baseline_spectrum(svd.rows, normals.shape[1], draws=baseline_draws, seed=seed)
        ds["spectrum"] = ("component", svd.spectrum.numpy())
        ds["baseline"] = (("draw", "component"), np.asarray(random))
        _label(ds, "spectrum", "all singular values of the normal matrix")
        _label(ds, "baseline", "singular values of as many uniform unit vectors")
        _summarise(ds, "spectrum", "normal")
        _summarise(ds, "baseline", "baseline")
    return ds


def _label(ds: xr.Dataset, name: str, long_name: str) -> None:
    ds[name].attrs = {"long_name": long_name, "units": "1"}


def _summarise(ds: xr.Dataset, source: str, prefix: str) -> None:
    """Effective rank, participation ratio and energy dimensions of each spectrum."""
    share = ds[source] ** 2 / (ds[source] ** 2).sum("component")
    entropy = -(share * np.log(share.where(share > 0, 1))).sum("component")
    ds[f"{prefix}_effective_rank"] = np.exp(entropy)
    _label(ds, f"{prefix}_effective_rank", "exponential of the entropy of the energy shares")
    ds[f"{prefix}_participation_ratio"] = 1 / (share**2).sum("component")
    _label(ds, f"{prefix}_participation_ratio", "(sum s^2)^2 / sum s^4")
    held = share.cumsum("component") / share.sum("component")
    ds[f"{prefix}_energy_dimension"] = (held < ds["energy_share"]).sum("component") + 1
    _label(ds, f"{prefix}_energy_dimension", "directions that hold a share of the energy")
