"""Runs every analysis of a network in order, reusing finished results, then draws all figures."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import boundary
import curvature
import normal_svd
import random_subspace_fooling
import train
from common import Flags, load_network, main, result_path

FIGURES = Path(__file__).resolve().parent.parent / "figures" / "all.py"

STEPS: tuple[tuple[type[Any], Callable[[Any], None]], ...] = (
    (train.Train, train.run),
    (boundary.Boundary, boundary.run),
    (normal_svd.NormalSvd, normal_svd.run),
    (random_subspace_fooling.RandomSubspaceFooling, random_subspace_fooling.run),
)

# Pixels up to which the principal curvatures of all classes take a minute or two on a CPU.
SMALL = 256


@dataclass(kw_only=True)
class Paper(Flags):
    """Flags of this script; the single analyses have more, run them first to change theirs."""

    curvature: bool | None = None
    """Principal curvatures too; default: for images of up to 256 pixels. Others take from minutes
    to hours on a CPU: see the --classes, --count and --pairs of curvature.py."""


def run(flags: Paper) -> None:
    """All analyses with their default settings, then all figures."""
    common = {field.name: getattr(flags, field.name) for field in fields(Flags)}
    for settings, step in STEPS:
        print(f"\n== {step.__module__}")
        step(settings(**common))
    net = load_network(flags)
    if net.dimension <= SMALL if flags.curvature is None else flags.curvature:
        print("\n== curvature")
        curvature.run(curvature.Curvature(**common))
    folder = result_path(flags, net, "train").parent
    print("\n== figures", flush=True)
    subprocess.run([sys.executable, str(FIGURES), str(folder)], check=True)
    print(f"\nresults: {folder}\nfigures: {folder / 'figures'}")


if __name__ == "__main__":
    main(Paper, run)
