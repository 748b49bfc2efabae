"""Draws every figure for which a network's folder holds the results."""

from pathlib import Path

import curvature_directions
import curvature_profile
import direction_sweep
import direction_sweep_classes
import leading_directions
import normal_spectrum
import random_subspace_fooling
import scale_sweep
import score_curve_measures
import score_curves
import sharedness
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
    score_curves,
    score_curve_measures,
    direction_sweep,
    direction_sweep_classes,
)


def draw_all(folder: Path) -> None:
    """All figures of the network whose results lie in the folder; says which it cannot draw.

    Raises:
        InputError: the folder holds no results at all.
    """
    drawn = 0
    for figure in FIGURES:
        if (folder / f"{figure.EXPERIMENT}.h5").exists():
            figure.draw_figure(folder)
            drawn += 1
        else:
            print(f"{figure.__name__}: no {figure.EXPERIMENT}.h5 yet")
    if drawn == 0:
        raise ga.InputError(f"{folder} holds no results: run analysis/paper.py first.")


if __name__ == "__main__":
    main(draw_all)
