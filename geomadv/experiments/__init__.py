"""The experiments of the literature: plain functions, arrays in, xarray.Dataset out."""

from geomadv.experiments.curvature_layout import (
    CurvatureSettings,
    blank_curvature,
    paper_settings,
    paper_step,
)
from geomadv.experiments.feature_collision import CollisionSettings
from geomadv.experiments.normal_spectrum import normal_spectrum
from geomadv.experiments.principal_curvature import class_curvature
from geomadv.experiments.projected_accuracy import projected_accuracy
from geomadv.experiments.random_subspace_fooling import random_subspace_fooling
from geomadv.experiments.softmax_directions import softmax_directions
from geomadv.experiments.uncertainty import random_subspace_angles

__all__ = [
    "CollisionSettings",
    "CurvatureSettings",
    "blank_curvature",
    "class_curvature",
    "normal_spectrum",
    "paper_settings",
    "paper_step",
    "projected_accuracy",
    "random_subspace_angles",
    "random_subspace_fooling",
    "softmax_directions",
]
