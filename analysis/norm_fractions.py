"""Shares of perturbations' norms in the curved and in the flat directions of all classes."""

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
    """Test images that are attacked, and training images behind a universal perturbation."""
    epsilon: float = 0.01
    """Step of FGSM as a share of the pixel range; only its direction counts."""
    relative_radius: float = 3.0
    """Norm of the universal perturbations in units of DeepFool's median norm."""
    universal: int = 3
    """Universal perturbations, each with a seed of its own."""
    dimensions: tuple[int, ...] = ()
    """The d to visit, directions per class; default: all where few, else about 50."""


def run(flags: NormFractions) -> None:
    """DeepFool, FGSM, universal perturbations and saliency maps on S_pos, S_neg, both, S_flat."""
    _check(flags)
    net = load_network(flags)
    train = load_images(flags, "train", flags.count)
    images = load_images(flags, "test", flags.count)
    curvature = earlier_result(flags, net, "curvature", train)
    settings = ("count", "epsilon", "relative_radius", "universal", "dimensions", "seed")
    config = {name: getattr(flags, name) for name in settings}
    config["curvature"] = curvature.attrs["config"]

    def compute() -> xr.Dataset:
        curved = ga.experiments.stored_curvatures(curvature)
        families = ga.experiments.curvature_families(curved, flags.seed)
        # Before the attacks: d beyond the families would be refused only after them.
        dimensions = ga.experiments.sweep_dimensions(families, flags.dimensions or None).tolist()
        vectors = perturbations(flags, net, train, images)
        ds = ga.experiments.norm_fractions(vectors, families, dimensions)
        tried = {"universal": flags.universal}
        left_out = [tried.get(kind, len(images)) - len(v) for kind, v in vectors.items()]
        labels = {"long_name": "perturbations that did not converge, left out", "units": "1"}
        return ds.assign(unconverged_count=("kind", left_out, labels))

    ds = compute_once(flags, net, images, "norm_fractions", config, compute)
    first = ds.sel(d=ds["d"] > 0).isel(d=0)
    for kind in ds["kind"].to_numpy():
        shares = ", ".join(
            f"{family} {float(first['mean_fraction'].sel(kind=kind, family=family)):.2f} "
            f"(random {float(first['random_fraction'].sel(family=family)):.2f})"
            for family in ds["family"].to_numpy()
        )
        print(f"share of the norm of {kind} at d = {int(first['d'])}: {shares}")


def _check(flags: NormFractions) -> None:
    for name in ("universal", "epsilon", "relative_radius"):
        value = getattr(flags, name)
        if not 0 < value < math.inf:
            raise ga.InputError(
                f"--{name.replace('_', '-')} {value:g}: expected a finite number > 0."
            )


def perturbations(
    flags: NormFractions, net: ga.Classifier, train: ga.ImageSet, images: ga.ImageSet
) -> dict[str, torch.Tensor]:
    """The four kinds of figure 3; DeepFool's that did not converge are left out."""
    low, high = net.bounds
    found = ga.deepfool(net, images, batch_size=flags.batch_size, progress=True)
    delta = found.delta[found.converged]
    if len(delta) == 0:
        raise ga.InputError("DeepFool converged on no image: give more images with --count.")
    radius = flags.relative_radius * float(found.norm[found.converged].median())
    vectors = [
        ga.universal_perturbation(
            net, train, radius, seed=flags.seed + i, batch_size=flags.batch_size, progress=True
        ).delta
        for i in range(flags.universal)
    ]
    step = flags.epsilon * (high - low)
    return {
        "DeepFool": delta,
        "FGSM": ga.fgsm(net, images, step, batch_size=flags.batch_size).delta,
        "universal": torch.stack(vectors),
        "saliency": ga.saliency(net, images, batch_size=flags.batch_size),
    }


if __name__ == "__main__":
    main(NormFractions, run)
