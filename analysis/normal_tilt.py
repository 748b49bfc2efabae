"""Angles between a network's boundary normals of a class pair and its centroid direction."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import xarray as xr
from common import Flags, compute_once, dataset_name, load_images, load_network, main

import geomadv as ga
from geomadv.networks import ZOO


@dataclass(kw_only=True)
class NormalTilt(Flags):
    """Flags of this script."""

    classes: tuple[int, int] = (2, 3)
    """The two classes, by number."""
    count: int = 500
    """Test images of both classes; all if there are fewer."""
    nearest: bool = True
    """Slide to the nearest boundary points. DeepFool alone ends far from robust networks' nearest
    boundary, far outside the range of pixels."""
    beside: tuple[str, ...] | None = None
    """Networks of the zoo to compare with; default: the robust ones for the same images that this
    machine has weights for."""


def pair(flags: NormalTilt, split: str) -> ga.ImageSet:
    """The images of the two classes, in order."""
    images = load_images(flags, split, None)
    if len(set(flags.classes)) < 2:
        raise ga.InputError(f"--classes {flags.classes} must be two different classes.")
    for c in flags.classes:
        images.of_class(c)  # says so where there are none
    return images[np.isin(images.labels.numpy(), flags.classes)]


def networks(flags: NormalTilt) -> list[ga.Classifier]:
    """The network of the flags and those beside it."""
    nets = [load_network(flags)]
    names = flags.beside
    if names is None:
        names = tuple(n for n in ga.list_networks() if "robust" in n and n != flags.network)
        names = tuple(n for n in names if ZOO[n].dataset == dataset_name(flags))
    for name in names:
        try:
            nets.append(load_network(replace(flags, network=name, weights=None)))
        except ga.InputError as error:
            if flags.beside is not None:
                raise
            print(f"without {name}: {error}")
    return nets


def tilt(
    flags: NormalTilt, net: ga.Classifier, test: ga.ImageSet, train: ga.ImageSet
) -> xr.Dataset:
    """Angles at the boundary between the two classes, from test images of both."""
    i, j = flags.classes
    target = torch.where(net.predict(test.images) == j, i, j)
    points = ga.boundary_points(
        net,
        test.images,
        target=target,
        nearest=flags.nearest,
        batch_size=flags.batch_size,
        progress=True,
    )
    ds = ga.experiments.normal_tilt(points, train, flags.classes, seed=flags.seed)
    return ds.expand_dims(network_name=[net.name])


def run(flags: NormalTilt) -> None:
    """One distribution of angles per network."""
    train, test = pair(flags, "train"), pair(flags, "test")
    nets = networks(flags)
    test = test.sample(min(flags.count, len(test)), flags.seed)
    config = {
        "classes": flags.classes,
        "count": flags.count,
        "train_sha256": train.sha256,
        "nearest": flags.nearest,
        "beside": {net.name: net.weights_sha256 for net in nets[1:]},
        "seed": flags.seed,
    }
    names = [train.class_names[c] for c in flags.classes]

    def compute(keep: ga.experiments.Keep) -> xr.Dataset:
        each = [keep(net.name, partial(tilt, flags, net, test, train)) for net in nets]
        return xr.concat(each, "network_name").assign_attrs(class_names=names)

    ds = compute_once(flags, nets[0], test, "normal_tilt", config, compute)
    for name in ds["network_name"].to_numpy():
        part = ds.sel(network_name=name)
        angles = np.degrees(part["angle"].to_numpy())
        usable = angles[np.isfinite(angles)]
        if len(usable) == 0:
            print(f"{name}: no usable boundary point between the two classes")
            continue
        low, middle, high = np.quantile(usable, (0.1, 0.5, 0.9))
        print(
            f"{name}: median angle {middle:.1f} degrees (10 % to 90 %: {low:.1f} to {high:.1f}), "
            f"median distance {float(part['distance'].median()):.3g}, "
            f"{len(usable)} of {len(angles)} boundary points usable"
        )
    print(f"random directions: median {np.degrees(float(ds['random_angle'].median())):.1f} degrees")


if __name__ == "__main__":
    main(NormalTilt, run)
