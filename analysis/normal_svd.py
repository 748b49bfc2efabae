"""Decomposes the boundary normals: spectrum beside the random baseline, leading directions."""

from dataclasses import dataclass
from typing import Literal

import h5py
from common import Flags, StoredImages, compute_once, load_network, main, result_path

import geomadv as ga


@dataclass(kw_only=True)
class NormalSvd(Flags):
    """Flags of this script."""

    rows: Literal["normal", "direction"] = "normal"
    """Decompose the boundary normals, or the unit perturbations (to direction_svd.h5)."""
    rank: int = 100
    """Leading directions to keep; fewer where there are fewer normals or pixels."""
    baseline_draws: int = 10
    """Random matrices behind the baseline's spread."""


def run(flags: NormalSvd) -> None:
    """Spectrum of the normals, or of the perturbations, that boundary.py stored."""
    net = load_network(flags)
    source = result_path(flags, net, "boundary")
    attrs = ga.load(source).attrs
    if not ga.results.is_of_network(attrs, net):
        raise ga.InputError(f"{source} holds normals of other weights: run boundary.py again.")
    config = {
        "rank": flags.rank,
        "baseline_draws": flags.baseline_draws,
        "seed": flags.seed,
        "boundary": ga.results.digest(attrs),
    }
    images = StoredImages(attrs["dataset"], attrs["dataset_sha256"])
    with h5py.File(source) as file:
        rows = file[flags.rows]
        ds = compute_once(
            flags,
            net,
            images,
            f"{flags.rows}_svd",
            config,
            lambda _: ga.experiments.normal_spectrum(
                rows, net.input_shape, flags.rank, flags.baseline_draws, flags.seed
            ),
        )
    print(
        f"effective rank {float(ds['normal_effective_rank']):.1f}, random directions "
        f"{float(ds['baseline_effective_rank'].mean()):.1f}"
        if "spectrum" in ds
        else f"leading {ds.sizes['rank']} directions, method {ds.attrs['svd_method']}"
    )


if __name__ == "__main__":
    main(NormalSvd, run)
