"""Loads a network, training it on first use, and stores what it predicts on the test images."""

from dataclasses import dataclass

import torch
import xarray as xr
from common import Flags, compute_once, load_images, load_network, main

import geomadv as ga


@dataclass(kw_only=True)
class Train(Flags):
    """Flags of this script."""

    count: int | None = None
    """Test images to predict; default: all."""


def run(flags: Train) -> None:
    """Scores of the test images and the accuracy."""
    net = load_network(flags)
    images = load_images(flags, "test", flags.count)
    config = {"count": flags.count, "seed": flags.seed}
    ds = compute_once(flags, net, images, "train", config, lambda _: predictions(net, images))
    print(f"{net.name}: accuracy {100 * float(ds['correct'].mean()):.2f} % on {images.name}")


@torch.no_grad()
def predictions(net: ga.Classifier, images: ga.ImageSet) -> xr.Dataset:
    """Scores, labels and correctness per image."""
    scores = torch.cat([net(part).cpu() for part in images.batches(256)])
    correct = scores.argmax(1) == images.labels
    ds = xr.Dataset(
        {
            "score": (("sample", "class"), scores.numpy()),
            "true_label": ("sample", images.labels.numpy()),
            "correct": ("sample", correct.numpy()),
        },
        coords={"class": list(net.class_names)},
    )
    ds["score"].attrs = {"long_name": "class score (logit)", "units": "1"}
    ds["true_label"].attrs = {"long_name": "true class", "units": "1"}
    ds["correct"].attrs = {"long_name": "predicted class is the true one", "units": "1"}
    return ds


if __name__ == "__main__":
    main(Train, run)
