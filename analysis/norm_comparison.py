"""Fooling rates of universal, single-image, summed and random perturbations of the same norms.

Reads universal.h5 and, where they exist, normal_svd.h5 and curvature.h5.
"""

from dataclasses import dataclass

import torch
import xarray as xr
from common import Flags, compute_once, load_images, load_network, main, result_path

import geomadv as ga


@dataclass(kw_only=True)
class NormComparison(Flags):
    """Flags of this script."""

    count: int = 500
    """Training images that DeepFool, FGSM and the mean image are taken on."""
    held_out: int = 1000
    """Test images; all if there are fewer."""
    relative_norms: tuple[float, ...] = (0.25, 0.5, 1, 1.5, 2, 3)
    """Norms, in units of the universal perturbation's."""
    normals: int = 10
    """Leading normal directions whose span is drawn from."""
    curved: int = 2
    """Most positively curved directions per class whose span is drawn from."""
    draws: int = 10
    """Random vectors of each kind, and images whose own perturbation is tried."""


def run(flags: NormComparison) -> None:
    """All kinds of vectors at all norms."""
    net = load_network(flags)
    images = load_images(flags, "train", flags.count)
    held_out = load_images(flags, "test", flags.held_out)
    found = stored(flags, net, "universal")
    vector = torch.as_tensor(found["perturbation"][0].to_numpy())
    norm = float(torch.linalg.vector_norm(vector))
    subspaces, sources = known_subspaces(flags, net)
    config = {
        "count": flags.count,
        "held_out": flags.held_out,
        "relative_norms": flags.relative_norms,
        "draws": flags.draws,
        "seed": flags.seed,
        "universal": found.attrs["config"],
        **sources,
    }
    ds = compute_once(
        flags,
        net,
        images,
        "norm_comparison",
        config,
        lambda: ga.experiments.norm_comparison(
            net,
            images,
            held_out,
            vector,
            [share * norm for share in flags.relative_norms],
            subspaces,
            flags.draws,
            flags.seed,
            batch_size=flags.batch_size,
            progress=True,
        ),
    )
    at = ds["fooling_rate"].sel(norm=norm, method="nearest").mean("draw")
    share = 100 * norm / float(ds["mean_image_norm"])
    print(f"share of held-out images fooled at norm {norm:.3g} ({share:.0f} % of the images'):")
    for kind, rate in zip(at["kind"].to_numpy(), at.to_numpy(), strict=True):
        print(f"  {kind:24}{100 * rate:5.1f} %")


def stored(flags: NormComparison, net: ga.Classifier, experiment: str) -> xr.Dataset:
    """An earlier result of the same weights."""
    path = result_path(flags, net, experiment)
    ds = ga.load(path)
    if ds.attrs["weights_sha256"] != net.weights_sha256:
        raise ga.InputError(f"{path} is of other weights: run analysis/{experiment}.py again.")
    return ds


def known_subspaces(
    flags: NormComparison, net: ga.Classifier
) -> tuple[dict[str, ga.Subspace], dict[str, str]]:
    """Subspaces from results that are there, and those results' configurations."""
    subspaces, sources = {}, {}
    if result_path(flags, net, "normal_svd").exists():
        svd = stored(flags, net, "normal_svd")
        rows = svd["direction"].to_numpy()[: flags.normals]
        subspaces["leading normals"] = ga.Subspace(rows.reshape(len(rows), -1).T)
        sources["normal_svd"] = f"{flags.normals} of {svd.attrs['config']}"
    if result_path(flags, net, "curvature").exists():
        curvature = stored(flags, net, "curvature")
        curvatures = ga.experiments.stored_curvatures(curvature)
        subspaces["positive curvature"] = ga.class_subspace(curvatures, flags.curved, "positive")
        sources["curvature"] = f"{flags.curved} of {curvature.attrs['config']}"
    return subspaces, sources


if __name__ == "__main__":
    main(NormComparison, run)
