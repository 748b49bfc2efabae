"""Draws every figure for which a network's folder holds the results."""

from pathlib import Path

import categories
import confined_deepfool
import confined_examples
import curvature_directions
import curvature_profile
import direction_sweep
import direction_sweep_classes
import feature_collisions
import finetuning
import first_order_twin
import label_graph
import leading_directions
import norm_comparison
import norm_fractions
import normal_spectrum
import normal_tilt
import random_subspace_fooling
import resampling
import scale_sweep
import score_curve_measures
import score_curves
import sharedness
import softmax_boundary_angles
import softmax_null_space
import spectral_density
import subspace_accuracy
import tilting_images
import tilting_plane
import tilting_slider
import tilting_space
import tilting_sweep
import tilting_toy
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
    score_curves,
    score_curve_measures,
    direction_sweep,
    direction_sweep_classes,
    subspace_accuracy,
    norm_fractions,
    first_order_twin,
    confined_deepfool,
    confined_examples,
    resampling,
    universal,
    label_graph,
    norm_comparison,
    transfer,
    finetuning,
    categories,
    tilting_plane,
    tilting_sweep,
    tilting_images,
    tilting_space,
    tilting_slider,
    tilting_toy,
    normal_tilt,
    softmax_null_space,
    softmax_boundary_angles,
    feature_collisions,
)


def draw_all(folder: Path) -> None:
    """All figures of the network whose results lie in the folder; says which it cannot draw.

    Raises:
        InputError: the folder holds no results at all, or some that cannot be drawn; the others
            then are.
    """
    drawn, failed = 0, []
    for figure in FIGURES:
        path, variable = folder / f"{figure.EXPERIMENT}.h5", getattr(figure, "VARIABLE", None)
        if not path.exists():
            print(f"{figure.__name__}: no {path.name} yet")
        elif variable is not None and not _holds(path, variable):
            print(f"{figure.__name__}: {path.name} holds no {variable}")
        else:
            try:
                figure.draw_figure(folder)
                drawn += 1
            except ga.InputError as error:
                failed.append(f"{figure.__name__}: {error}")
    if failed:
        raise ga.InputError("; ".join(failed))
    if drawn == 0:
        raise ga.InputError(f"{folder} holds no results: run analysis/paper.py first.")


def _holds(path: Path, variable: str) -> bool:
    ds = ga.load(path)
    return variable in ds and bool(ds[variable].notnull().any())


if __name__ == "__main__":
    main(draw_all)
