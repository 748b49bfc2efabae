"""Draws every figure for which a network's folder holds the results."""

from pathlib import Path

import curvature_directions
import curvature_profile
import leading_directions
import normal_spectrum
import normal_tilt
import random_subspace_fooling
import scale_sweep
import sharedness
import tilting_images
import tilting_plane
import tilting_slider
import tilting_space
import tilting_sweep
import tilting_toy
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
    tilting_plane,
    tilting_sweep,
    tilting_images,
    tilting_space,
    tilting_slider,
    tilting_toy,
    normal_tilt,
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
