"""Draws every figure for which a network's folder holds the results."""

from pathlib import Path

import categories
import curvature_directions
import curvature_profile
import finetuning
import label_graph
import leading_directions
import norm_comparison
import normal_spectrum
import random_subspace_fooling
import scale_sweep
import sharedness
import spectral_density
import transfer
import universal
from drawing import main

import geomadv as ga

FIGURES = (
    normal_spectrum,
    leading_directions,
    random_subspace_fooling,
    curvature_profile,
    curvature_directions,
    sharedness,
    scale_sweep,
    spectral_density,
    universal,
    label_graph,
    norm_comparison,
    transfer,
    finetuning,
    categories,
)


def draw_all(folder: Path) -> None:
    """All figures of the network whose results lie in the folder; says which it cannot draw.

    Raises:
        InputError: the folder holds no results at all.
    """
    drawn = 0
    for figure in FIGURES:
        path, variable = folder / f"{figure.EXPERIMENT}.h5", getattr(figure, "VARIABLE", None)
        if not path.exists():
            print(f"{figure.__name__}: no {path.name} yet")
        elif variable is not None and variable not in ga.load(path):
            print(f"{figure.__name__}: {path.name} holds no {variable}")
        else:
            figure.draw_figure(folder)
            drawn += 1
    if drawn == 0:
        raise ga.InputError(f"{folder} holds no results: run analysis/paper.py first.")


if __name__ == "__main__":
    main(draw_all)
