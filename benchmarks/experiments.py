"""Experiments that are bound by forward passes, beside the bare passes of the same network."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
import tyro
from timing import interleave, ratio

import geomadv as ga
from geomadv.linalg import NestedSubspaces, uniform_directions

# Share of the bare forward throughput that an experiment should reach.
GOAL = 0.8


@dataclass
class Flags:
    """Settings of the benchmark."""

    networks: tuple[str, ...] = ("digits-cnn", "lenet-mnist", "resnet20-cifar10")
    """Networks to measure."""
    count: tuple[int, ...] = (500, 1000, 128)
    """Test images per network."""
    repetitions: int = 5
    """Interleaved repetitions."""
    threads: int = 2
    """Threads of torch."""
    device: str = "cpu"
    """cpu, cuda, ..."""
    batch_size: int | None = None
    """Images per pass; default: as the experiments choose it."""


Pair = tuple[Callable[[], Any], Callable[[], Any]]


@torch.no_grad()
def forward(net: ga.Classifier, x: torch.Tensor, size: int, passes: int) -> torch.Tensor:
    """Predictions of all images, `passes` times, as the experiments take them."""
    labels = [net.scores(part).argmax(1) for part in x.split(size) for _ in range(passes)]
    return torch.cat(labels).cpu()


def subspace_accuracy(net: ga.Classifier, images: ga.ImageSet, size: int) -> Pair:
    """A default sweep through all of image space: up to about 50 d, one image projection."""
    directions = uniform_directions(net.dimension, net.dimension, seed=0).T
    families = {"random": NestedSubspaces(directions)}
    mean = images.images.mean(0)
    run = partial(ga.experiments.subspace_accuracy, net, images, mean, families, batch_size=size)
    # The sweep's passes, and one on the images themselves.
    passes = run().sizes["d"] + 1
    x = images.images.to(net.device)
    return partial(forward, net, x, size, passes), run


def along_lines(
    experiment: Callable[..., Any], net: ga.Classifier, images: ga.ImageSet, size: int
) -> Pair:
    """41 scales along each of three directions, as analysis/score_curves.py takes them for a class.

    And one pass on the images themselves.
    """
    directions = uniform_directions(3, net.dimension, seed=0).T
    scales = torch.linspace(-1, 1, 41, dtype=torch.float64)
    run = partial(experiment, net, images, directions, scales, 0, batch_size=size)
    x = images.images.to(net.device)
    return partial(forward, net, x, size, 3 * len(scales) + 1), run


EXPERIMENTS = {
    "subspace_accuracy": subspace_accuracy,
    "direction_sweep": partial(along_lines, ga.experiments.direction_sweep),
    "score_curves": partial(along_lines, ga.experiments.score_curves),
}


def main(flags: Flags) -> None:
    """Prints one line per network and experiment."""
    torch.set_num_threads(flags.threads)
    print(f"{'':18}{'experiment':24}bare s  experiment s  throughput share (goal {GOAL:.0%})")
    for name, count in zip(flags.networks, flags.count, strict=True):
        net = ga.load_network(name, device=flags.device)
        images = ga.load_images(ga.networks.ZOO[name].dataset, split="test", limit=count)
        size = net.batch_size(flags.batch_size)
        for experiment, prepare in EXPERIMENTS.items():
            bare, run = prepare(net, images, size)
            seconds, _ = interleave({"bare": bare, "run": run}, flags.repetitions)
            share = ratio(seconds["bare"], seconds["run"])
            print(
                f"{name:18}{experiment:24}{median(seconds['bare']):6.2f}"
                f"{median(seconds['run']):14.2f}  {share:.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Flags))
