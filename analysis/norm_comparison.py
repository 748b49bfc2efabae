"""Fooling rates of universal, single-image, summed and random perturbations of the same norms.

Reads universal.h5 and, where they exist, normal_svd.h5 and curvature.h5.
"""

from dataclasses import dataclass

import torch
from common import (
    Flags,
    compute_once,
    earlier_result,
    load_images,
    load_network,
    main,
    result_path,
)

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
    found = earlier_result(flags, net, "universal", images)
    vector = torch.as_tensor(found["perturbation"][0].to_numpy())
    norm = float(torch.linalg.vector_norm(vector))
    subspaces, sources = known_subspaces(flags, net, images)
    config = {
        "count": flags.count,
        "held_out": flags.held_out,
        "held_out_sha256": held_out.sha256,
        "relative_norms": flags.relative_norms,
        "draws": flags.draws,
        "seed": flags.seed,
        "universal": ga.results.digest(found.attrs),
        **sources,
    }
    ds = compute_once(
        flags,
        net,
        images,
        "norm_comparison",
        config,
        lambda keep: ga.experiments.norm_comparison(
            net,
            images,
            held_out,
            vector,
            [share * norm for share in flags.relative_norms],
            subspaces,
            flags.draws,
            flags.seed,
            keep=keep,
            batch_size=flags.batch_size,
            progress=True,
        ),
    )
    at = ds["fooling_rate"].sel(norm=norm, method="nearest").mean("draw")
    share = 100 * norm / float(ds["mean_image_norm"])
    print(f"share of held-out images fooled at norm {norm:.3g} ({share:.0f} % of the images'):")
    for kind, rate in zip(at["kind"].to_numpy(), at.to_numpy(), strict=True):
        print(f"  {kind:24}{100 * rate:5.1f} %")


def known_subspaces(
    flags: NormComparison, net: ga.Classifier, images: ga.ImageSet
) -> tuple[dict[str, ga.Subspace], dict[str, str]]:
    """Subspaces from results that are there, and those results' configurations."""
    subspaces, sources = {}, {}
    if result_path(flags, net, "normal_svd").exists():
        svd = earlier_result(flags, net, "normal_svd", images)
        rows = svd["direction"].to_numpy()[: flags.normals]
        subspaces["leading normals"] = ga.Subspace(rows.reshape(len(rows), -1).T)
        sources["normal_svd"] = f"{flags.normals} of {svd.attrs['config']}"
    if result_path(flags, net, "curvature").exists():
        curvature = earlier_result(flags, net, "curvature", images)
        curvatures = ga.experiments.stored_curvatures(curvature)
        curved = ga.experiments.curvature_families(curvatures, flags.seed)["positive"]
        told = ga.experiments.bracketed(curved.doubt(flags.curved))
        name = f"positive curvature{told}"
        subspaces[name] = ga.class_subspace(curvatures, flags.curved, "positive")
        sources["curvature"] = f"{flags.curved} of {curvature.attrs['config']}"
    return subspaces, sources


if __name__ == "__main__":
    main(NormComparison, run)
