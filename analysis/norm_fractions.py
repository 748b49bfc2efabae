"""Shares of perturbations' norms in the curved and in the flat directions of all classes.

Reads curvature.h5 and universal.h5.
"""

import math
from dataclasses import dataclass

import torch
import xarray as xr
from common import Flags, compute_once, earlier_result, load_images, load_network, main

import geomadv as ga


@dataclass(kw_only=True)
class NormFractions(Flags):
    """Flags of this script."""

    count: int = 1000
    """Test images that are attacked; all if there are fewer."""
    epsilon: float = 0.01
    """Step of FGSM as a share of the pixel range; only its direction counts."""
    dimensions: tuple[int, ...] = ()
    """The d to visit, directions per class; default: all where few, else about 50."""


def run(flags: NormFractions) -> None:
    """DeepFool, FGSM, universal perturbations and saliency maps on S_pos, S_neg, both, S_flat."""
    if not 0 < flags.epsilon < math.inf:
        raise ga.InputError(f"--epsilon {flags.epsilon:g}: expected a finite number > 0.")
    net = load_network(flags)
    train = load_images(flags, "train", None)
    curvature = earlier_result(flags, net, "curvature", train)
    universal = earlier_result(flags, net, "universal", train)
    images = load_images(flags, "test", flags.count)
    config = {
        "count": flags.count,
        "epsilon": flags.epsilon,
        "dimensions": flags.dimensions,
        "seed": flags.seed,
        "curvature": ga.results.digest(curvature.attrs),
        "universal": ga.results.digest(universal.attrs),
    }

    def compute(_: ga.experiments.Keep) -> xr.Dataset:
        curved = ga.experiments.stored_curvatures(curvature)
        families = ga.experiments.curvature_families(curved, flags.seed)
        # Before the attacks: d beyond the families would be refused only after them.
        dimensions = ga.experiments.sweep_dimensions(families, flags.dimensions or None).tolist()
        vectors = perturbations(flags, net, images)
        left_out = [len(images) - len(v) for v in vectors.values()]
        vectors["universal"] = torch.from_numpy(universal["perturbation"].to_numpy())
        labels = {"long_name": "perturbations that did not converge, left out", "units": "1"}
        ds = ga.experiments.norm_fractions(vectors, families, dimensions)
        return ds.assign(unconverged_count=("kind", [*left_out, 0], labels))

    ds = compute_once(flags, net, images, "norm_fractions", config, compute)
    first = ds.sel(d=ds["d"] > 0).isel(d=0)

    def told(family: str) -> str:
        return ga.experiments.bracketed(ga.experiments.family_doubt(ds, family, 1))

    for kind in ds["kind"].to_numpy():
        shares = ", ".join(
            f"{family}{told(family)} "
            f"{float(first['mean_fraction'].sel(kind=kind, family=family)):.2f} "
            f"(random {float(first['random_fraction'].sel(family=family)):.2f})"
            for family in ds["family"].to_numpy()
        )
        print(f"share of the norm of {kind} at d = {int(first['d'])}: {shares}")


def perturbations(
    flags: NormFractions, net: ga.Classifier, images: ga.ImageSet
) -> dict[str, torch.Tensor]:
    """The kinds of figure 3 that each image has its own of; DeepFool's where it converged."""
    low, high = net.bounds
    found = ga.deepfool(net, images, batch_size=flags.batch_size, progress=True)
    delta = found.delta[found.converged]
    if len(delta) == 0:
        raise ga.InputError("DeepFool converged on no image: give more images with --count.")
    step = flags.epsilon * (high - low)
    return {
        "DeepFool": delta,
        "FGSM": ga.fgsm(net, images, step, batch_size=flags.batch_size).delta,
        "saliency": ga.saliency(net, images, batch_size=flags.batch_size),
    }


if __name__ == "__main__":
    main(NormFractions, run)
