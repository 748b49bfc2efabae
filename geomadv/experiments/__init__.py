"""The experiments of the literature: plain functions, arrays in, xarray.Dataset out."""

from geomadv.experiments.confined_deepfool import confined_deepfool
from geomadv.experiments.curvature_layout import (
    CurvatureSettings,
    blank_curvature,
    paper_settings,
    paper_step,
)
from geomadv.experiments.families import (
    curvature_families,
    singular_families,
    stored_curvatures,
)
from geomadv.experiments.normal_spectrum import normal_spectrum
from geomadv.experiments.principal_curvature import class_curvature
from geomadv.experiments.projected_accuracy import projected_accuracy
from geomadv.experiments.random_subspace_fooling import random_subspace_fooling
from geomadv.experiments.resampling import resampled, resampling
from geomadv.experiments.uncertainty import random_subspace_angles

__all__ = [
    "CurvatureSettings",
    "blank_curvature",
    "class_curvature",
    "confined_deepfool",
    "curvature_families",
    "normal_spectrum",
    "paper_settings",
    "paper_step",
    "projected_accuracy",
    "random_subspace_angles",
    "random_subspace_fooling",
    "resampled",
    "resampling",
    "singular_families",
    "stored_curvatures",
]
