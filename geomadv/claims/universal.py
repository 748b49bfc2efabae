"""Claims about universal perturbations and the geometry behind them.

"Universal adversarial perturbations" (Moosavi-Dezfooli et al., CVPR 2017) and "The geometry of
adversarial perturbations" (the two texts about it that the project started from).
"""

import numpy as np
import xarray as xr

from geomadv.claims.claim import Claim, NotMeasured

_PAPER = "Moosavi-Dezfooli et al. 2017"
# "A few hundred images".
_FEW = 500


def _held_out_gap(ds: xr.Dataset) -> float:
    """Fooling rate on the largest sample set minus that on held-out images."""
    last = int(ds["size"].to_numpy().argmax())
    gap = ds["fooling_rate"] - ds["held_out_fooling_rate"]
    return float(gap.isel(size=last).mean())


def _share_of_few_images(ds: xr.Dataset) -> float:
    """Held-out rate from at most 500 images, as a share of that from the largest sample set."""
    size, rate = ds["size"].to_numpy(), ds["held_out_fooling_rate"].mean("repeat").to_numpy()
    few = np.flatnonzero(size <= _FEW)
    if len(few) == 0 or size.max() <= _FEW:
        raise NotMeasured(f"sample sets both below and above {_FEW} images are needed")
    if rate[size.argmax()] == 0:
        raise NotMeasured("the perturbation from all images fools none")
    return float(rate[few].max() / rate[size.argmax()])


def _over_random(ds: xr.Dataset) -> float:
    """Held-out fooling rate over that of random perturbations of the same norm."""
    universal = float(
        ds["held_out_fooling_rate"].isel(size=int(ds["size"].to_numpy().argmax())).mean()
    )
    random = float(ds["random_fooling_rate"].mean())
    return universal / random if random > 0 else (np.inf if universal > 0 else np.nan)


def _transfer_above_random(ds: xr.Dataset) -> float:
    """Share of ordered pairs of networks on which the perturbation beats random ones."""
    rate = ds["fooling_rate"].to_numpy()
    random = ds["random_fooling_rate"].mean("draw").to_numpy()
    others = ~np.eye(len(rate), dtype=bool)
    return float((rate > random)[others].mean())


def _dominant_labels(ds: xr.Dataset) -> float:
    """Share of the classes that receives 80 % of the fooled images."""
    if int(ds["count"].sum()) == int(np.trace(ds["count"].to_numpy())):
        raise NotMeasured("the perturbation fools no image")
    return float(ds["dominant_labels"].sel(share=0.8)) / ds.sizes["to_class"]


def _rank_ratio(ds: xr.Dataset) -> float:
    """Effective rank of the normals over that of uniform random directions."""
    if "normal_effective_rank" not in ds:
        raise NotMeasured("the spectrum was not computed in full")
    return float(ds["normal_effective_rank"] / ds["baseline_effective_rank"].mean())


def _subspace_over_uniform(ds: xr.Dataset) -> float:
    """Largest ratio over m of the fooling rates at the norm nearest to 10 % of the images'."""
    relative = (ds["norm"] / ds["mean_image_norm"]).to_numpy()
    at = int(np.abs(np.log(relative / 0.1)).argmin())
    inside = float(ds["fooling_rate"].isel(norm=at).mean("draw").max("m"))
    uniform = float(ds["uniform_fooling_rate"].isel(norm=at).mean("draw"))
    return inside / uniform if uniform > 0 else (np.inf if inside > 0 else np.nan)


UNIVERSAL: tuple[Claim, ...] = (
    Claim(
        f"{_PAPER}, §3",
        "held-out images are fooled nearly as often as those of the sample set",
        "universal",
        "difference of the fooling rates",
        _held_out_gap,
        "<=",
        0.05,
    ),
    Claim(
        f"{_PAPER}, §3",
        "a few hundred images suffice for a large share of the fooling rate",
        "universal",
        f"held-out rate from at most {_FEW} images over that from all",
        _share_of_few_images,
        ">=",
        0.7,
    ),
    Claim(
        f"{_PAPER}, §4",
        "universal perturbations fool far more than random ones of the same norm",
        "universal",
        "ratio of the held-out fooling rates",
        _over_random,
        ">=",
        3.0,
    ),
    Claim(
        f"{_PAPER}, §3",
        "universal perturbations transfer between networks better than random ones fool",
        "transfer",
        "share of ordered pairs of networks",
        _transfer_above_random,
        ">=",
        0.9,
    ),
    Claim(
        f"{_PAPER}, §3",
        "few dominant labels receive most of the fooled images",
        "label_graph",
        "share of the classes that receives 80 % of them",
        _dominant_labels,
        "<=",
        0.4,
    ),
    Claim(
        f"{_PAPER}, §4",
        "the normals' spectrum decays faster than that of random directions",
        "normal_svd",
        "ratio of the effective ranks",
        _rank_ratio,
        "<=",
        0.5,
    ),
    Claim(
        f"{_PAPER}, §4",
        "random vectors of the normals' subspace fool more than uniform ones (38 % against 10 %)",
        "random_subspace_fooling",
        "ratio of the fooling rates at a tenth of the images' norm",
        _subspace_over_uniform,
        ">=",
        1.5,
    ),
)
