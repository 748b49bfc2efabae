"""Claims about linear boundaries: the tilting plane and the last layer."""

import numpy as np
import xarray as xr
from scipy.stats import spearmanr

from geomadv.claims.claim import Claim, NotMeasured

_TANAY = "Tanay and Griffin 2016"
_ZOU = "Zou et al."
# "Small input perturbations", as a share of the mean image norm.
_SMALL = 0.1


def _usable(ds: xr.Dataset) -> xr.Dataset:
    usable = ds.isel(C=np.flatnonzero(np.isfinite(ds["angle"].to_numpy())))
    if usable.sizes["C"] < 3:
        raise NotMeasured("fewer than three values of C gave a usable boundary")
    if float(usable["angle"].max() - usable["angle"].min()) == 0:
        raise NotMeasured("the classifier is the same at every C: it has no regularisation")
    return usable


def _against_c(ds: xr.Dataset, name: str) -> float:
    """Rank correlation of a quantity with the inverse regularisation C."""
    usable = _usable(ds)
    return float(spearmanr(usable["C"], usable[name]).statistic)


def _flat_decades(ds: xr.Dataset) -> float:
    """Longest run of C, in decades, with a test error within one point of the smallest."""
    usable = _usable(ds).sortby("C")
    decade = np.log10(usable["C"].to_numpy())
    near = usable["test_error"].to_numpy() <= float(usable["test_error"].min()) + 0.01
    best, start = 0.0, None
    for at, good in zip(decade, near, strict=True):
        start = (at if start is None else start) if good else None
        best = max(best, at - start if start is not None else 0.0)
    return best


def _null_space(ds: xr.Dataset) -> float:
    """Dimension of the adversarial directions minus the published bound l - m."""
    return float(ds["adversarial_dimension"] - ds["published_bound"])


def _softmax_change(ds: xr.Dataset) -> float:
    """Largest change of the softmax in units of its rounding bound."""
    if ds.sizes.get("adversarial", 0) == 0:
        raise NotMeasured("there are no adversarial directions")
    return float((ds["softmax_change"] / ds["rounding_bound"]).max())


def _collisions(ds: xr.Dataset) -> float:
    """Share of pairs made to collide at the largest radius up to a tenth of the images' norm."""
    relative = (ds["epsilon"] / ds["mean_image_norm"]).to_numpy()
    # The radii were made from these shares and go back to them by rounding.
    small = np.flatnonzero(relative <= _SMALL * (1 + 1e-6))
    if len(small) == 0:
        raise NotMeasured(f"no radius is at most {_SMALL} of the images' norm")
    return float(ds["collision"].isel(epsilon=small[relative[small].argmax()]).mean())


LINEAR: tuple[Claim, ...] = (
    Claim(
        f"{_TANAY}, tilting",
        "the boundary tilts towards the class means as regularisation grows",
        "tilting_plane",
        "rank correlation of C and the deviation angle",
        lambda ds: _against_c(ds, "angle"),
        ">=",
        0.9,
    ),
    Claim(
        f"{_TANAY}, tilting",
        "adversarial perturbations get larger as regularisation grows",
        "tilting_plane",
        "rank correlation of C and the mean adversarial norm",
        lambda ds: _against_c(ds, "mean_adversarial_norm"),
        "<=",
        -0.9,
    ),
    Claim(
        f"{_TANAY}, tilting",
        "over some decades of regularisation the test error is nearly flat",
        "tilting_plane",
        "decades of C within one point of the smallest error",
        _flat_decades,
        ">=",
        2.0,
    ),
    Claim(
        f"{_ZOU}, theorem 1",
        "the last layer has at least l - m adversarial directions",
        "softmax_directions",
        "their dimension minus (l - m)",
        _null_space,
        ">=",
        0.0,
    ),
    Claim(
        f"{_ZOU}, theorem 1",
        "moving features along an adversarial direction leaves the softmax unchanged",
        "softmax_directions",
        "largest change over its rounding bound",
        _softmax_change,
        "<=",
        1.0,
    ),
    Claim(
        f"{_ZOU}, theorem 2",
        "every class region is unbounded",
        "softmax_directions",
        "share of the classes",
        lambda ds: float(ds["region_unbounded"].mean()),
        ">=",
        1.0,
    ),
    Claim(
        f"{_ZOU}, definition 2",
        "no two boundaries of the layer are parallel",
        "softmax_directions",
        "largest |cos| between two boundaries",
        lambda ds: float(ds["parallel_cosine"].max()),
        "<=",
        1 - 1e-6,
    ),
    Claim(
        f"{_ZOU}, conjecture",
        "small input perturbations reach another image's features up to an adversarial direction",
        "softmax_directions",
        "share of random pairs within a tenth of the images' norm",
        _collisions,
        ">=",
        0.5,
    ),
)
