"""The experiments of the literature: plain functions, arrays in, xarray.Dataset out."""

from geomadv.experiments.class_sweeps import (
    class_direction_sweep,
    class_score_curves,
    curved_directions,
    sweep_reach,
)
from geomadv.experiments.curvature_layout import (
    CurvatureSettings,
    blank_curvature,
    paper_settings,
    paper_step,
)
from geomadv.experiments.direction_sweep import direction_sweep
from geomadv.experiments.families import curvature_families, stored_curvatures
from geomadv.experiments.normal_spectrum import normal_spectrum
from geomadv.experiments.principal_curvature import class_curvature
from geomadv.experiments.projected_accuracy import projected_accuracy
from geomadv.experiments.random_subspace_fooling import random_subspace_fooling
from geomadv.experiments.score_curves import score_curves
from geomadv.experiments.uncertainty import random_subspace_angles

__all__ = [
    "CurvatureSettings",
    "blank_curvature",
    "class_curvature",
    "class_direction_sweep",
    "class_score_curves",
    "curvature_families",
    "curved_directions",
    "direction_sweep",
    "normal_spectrum",
    "paper_settings",
    "paper_step",
    "projected_accuracy",
    "random_subspace_angles",
    "random_subspace_fooling",
    "score_curves",
    "stored_curvatures",
    "sweep_reach",
]
