"""DeepFool confined to growing subspaces, beside the norms of the images projected on them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from common import (
    Flags,
    compute_once,
    earlier_result,
    load_images,
    load_network,
    main,
    mean_image,
    result_path,
)

import geomadv as ga
from geomadv.linalg import NestedSubspaces

# Images and d by default: (largest number of pixel values, images, d).
_EFFORT = ((100, 200, 16), (1024, 200, 12), (np.inf, 100, 10))

# Largest d by default on images too large for a basis of all of image space.
_MOST = 4096


@dataclass(kw_only=True)
class ConfinedDeepfool(Flags):
    """Flags of this script."""

    count: int | None = None
    """Test images; default: 200, 100 for images of over 1,024 numbers."""
    dimensions: tuple[int, ...] = ()
    """Dimensions d of the subspaces; default: 10 to 16 up to D, evenly on a logarithmic axis."""
    draws: int = 5
    """Random subspaces of each dimension; each image is attacked in one of them."""
    curved: bool = True
    """Curved and flat directions too, where curvature.py has been run."""


def run(flags: ConfinedDeepfool) -> None:
    """Norms inside S_hi and S_lo of the perturbations, curved, flat and random subspaces."""
    net = load_network(flags)
    train = load_images(flags, "train", None)
    earlier = {"boundary": earlier_result(flags, net, "boundary", train)}
    if flags.curved and result_path(flags, net, "curvature").exists():
        earlier["curvature"] = earlier_result(flags, net, "curvature", train)
    count, steps = next((n, k) for most, n, k in _EFFORT if net.dimension <= most)
    images = load_images(flags, "test", count if flags.count is None else flags.count)
    grid = np.geomspace(1, min(net.dimension, _MOST), steps).round().astype(int)
    config: dict[str, Any] = {
        "train_sha256": train.sha256,
        "count": len(images),
        "dimensions": sorted(set(flags.dimensions or grid.tolist())),
        "draws": flags.draws,
        "seed": flags.seed,
        **{name: ga.results.digest(ds.attrs) for name, ds in earlier.items()},
    }

    def compute(keep: ga.experiments.Keep) -> xr.Dataset:
        rows = earlier["boundary"]["direction"].to_numpy()
        singular = ga.experiments.singular_families(rows, flags.seed)
        families: dict[str, NestedSubspaces] = {name: singular[name] for name in singular}
        if "curvature" in earlier:
            curvatures = ga.experiments.stored_curvatures(earlier["curvature"])
            curved = ga.experiments.curvature_families(curvatures, flags.seed)
            families |= {str(name): curved[name] for name in curved}
        return ga.experiments.confined_deepfool(
            net,
            images,
            families,
            config["dimensions"],
            mean_image(train),
            draws=flags.draws,
            seed=flags.seed,
            keep=keep,
            batch_size=flags.batch_size,
            progress=True,
        )

    tell(compute_once(flags, net, images, "confined_deepfool", config, compute))


def tell(ds: xr.Dataset) -> None:
    """Mean norms at a middle dimension, family by family."""
    plain = float(ds["plain_norm"].where(ds["plain_converged"]).mean())
    print(f"unconfined: mean norm {plain:.3g} image units")
    middle = ds.isel(d=ds.sizes["d"] // 2)
    for family in ds["family"].to_numpy():
        one = middle.sel(family=family)
        if one["subspace_dimension"] == 0:
            continue
        norm = float(one["norm"].where(one["converged"]).mean())
        told = ga.experiments.bracketed(
            ga.experiments.family_doubt(ds, str(family), ds.sizes["d"] // 2)
        )
        print(
            f"{family}{told}, {int(one['subspace_dimension'])} dimensions: mean norm {norm:.3g}, "
            f"projected images {float(one['projected_norm'].mean()):.3g}, label changed for "
            f"{100 * float(one['converged_share']):.0f} % of {ds.sizes['sample']} images"
        )


if __name__ == "__main__":
    main(ConfinedDeepfool, run)
