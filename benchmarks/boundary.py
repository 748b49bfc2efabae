"""Boundary points with their normals, kept on disk, beside DeepFool's perturbations alone."""

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch
import tyro
from timing import interleave, ratio

import geomadv as ga
from geomadv.results import Store

# Share of DeepFool's own throughput that the collection should reach.
GOAL = 0.85


@dataclass
class Flags:
    """Settings of the benchmark."""

    networks: tuple[str, ...] = ("digits-cnn", "lenet-mnist", "resnet20-cifar10")
    """Networks to measure."""
    count: tuple[int, ...] = (500, 1000, 128)
    """Test images per network."""
    repetitions: int = 5
    """Interleaved repetitions."""
    threads: int = 1
    """Threads of torch."""


def collect(net: ga.Classifier, images: ga.ImageSet) -> None:
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "b.h5", {}) as store:
        ga.experiments.boundary(net, images, keep=store)


def main(flags: Flags) -> None:
    """Prints one line per network, in CPU seconds, which a busy machine stretches least."""
    torch.set_num_threads(flags.threads)
    print(f"{'':18}DeepFool s  boundary s  share (goal {GOAL:.0%})")
    for name, count in zip(flags.networks, flags.count, strict=True):
        net = ga.load_network(name)
        images = ga.load_images(ga.networks.ZOO[name].dataset, split="test", limit=count)
        jobs = {
            "bare": partial(ga.deepfool, net, images.images),
            "points": partial(collect, net, images),
        }
        seconds, _ = interleave(jobs, flags.repetitions, time.process_time)
        bare, points = (median(seconds[job]) for job in jobs)
        share = ratio(seconds["bare"], seconds["points"])
        print(f"{name:18}{bare:10.2f}{points:12.2f}  {share:.0%}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Flags))
