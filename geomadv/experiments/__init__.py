"""The experiments of the literature: plain functions, arrays in, xarray.Dataset out."""

from geomadv.experiments.categories import categories
from geomadv.experiments.curvature_layout import (
    CurvatureSettings,
    blank_curvature,
    paper_settings,
    paper_step,
)
from geomadv.experiments.families import curvature_families, stored_curvatures
from geomadv.experiments.finetuning import finetuning
from geomadv.experiments.label_graph import label_graph
from geomadv.experiments.norm_comparison import norm_comparison
from geomadv.experiments.normal_spectrum import normal_spectrum
from geomadv.experiments.principal_curvature import class_curvature
from geomadv.experiments.projected_accuracy import projected_accuracy
from geomadv.experiments.random_subspace_fooling import random_subspace_fooling
from geomadv.experiments.transfer import transfer
from geomadv.experiments.uncertainty import random_subspace_angles
from geomadv.experiments.universal import universal

__all__ = [
    "CurvatureSettings",
    "blank_curvature",
    "categories",
    "class_curvature",
    "curvature_families",
    "finetuning",
    "label_graph",
    "norm_comparison",
    "normal_spectrum",
    "paper_settings",
    "paper_step",
    "projected_accuracy",
    "random_subspace_angles",
    "random_subspace_fooling",
    "stored_curvatures",
    "transfer",
    "universal",
]
