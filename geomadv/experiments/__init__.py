"""The experiments of the literature: plain functions, arrays in, xarray.Dataset out."""

from geomadv.experiments.curvature_layout import (
    CurvatureSettings,
    blank_curvature,
    paper_settings,
    paper_step,
)
from geomadv.experiments.normal_spectrum import normal_spectrum
from geomadv.experiments.normal_tilt import class_centroids, normal_tilt
from geomadv.experiments.principal_curvature import class_curvature
from geomadv.experiments.projected_accuracy import projected_accuracy
from geomadv.experiments.random_subspace_fooling import random_subspace_fooling
from geomadv.experiments.tilting_plane import tilting_plane
from geomadv.experiments.tilting_toy import tilting_toy, toy_problem
from geomadv.experiments.uncertainty import random_subspace_angles

__all__ = [
    "CurvatureSettings",
    "blank_curvature",
    "class_centroids",
    "class_curvature",
    "normal_spectrum",
    "normal_tilt",
    "paper_settings",
    "paper_step",
    "projected_accuracy",
    "random_subspace_angles",
    "random_subspace_fooling",
    "tilting_plane",
    "tilting_toy",
    "toy_problem",
]
