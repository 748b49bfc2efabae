"""The experiments of the literature: plain functions, arrays in, xarray.Dataset out."""

from geomadv.curvature.choice import paper_step
from geomadv.doors import guarded
from geomadv.experiments.linear.normal_tilt import class_centroids, normal_tilt
from geomadv.experiments.linear.tilting_plane import tilting_plane
from geomadv.experiments.linear.tilting_toy import tilting_toy, toy_problem
from geomadv.experiments.linear.two_classes import pair_images
from geomadv.experiments.lines.class_sweeps import (
    class_direction_sweep,
    class_score_curves,
    curved_directions,
    sweep_reach,
)
from geomadv.experiments.lines.direction_sweep import direction_sweep
from geomadv.experiments.lines.score_curves import score_curves
from geomadv.experiments.normals.boundary import boundary
from geomadv.experiments.normals.normal_spectrum import normal_spectrum
from geomadv.experiments.normals.predictions import predictions
from geomadv.experiments.normals.random_subspace_fooling import random_subspace_fooling
from geomadv.experiments.planes.decision_plane import decision_plane
from geomadv.experiments.planes.normal_section import class_normal_section, normal_section
from geomadv.experiments.principal.all_classes import class_numbers, curvature
from geomadv.experiments.principal.doubt import (
    bracketed,
    cancellation,
    class_doubt,
    family_doubt,
    line_doubt,
)
from geomadv.experiments.principal.layout import (
    CurvatureSettings,
    paper_settings,
)
from geomadv.experiments.principal.principal_curvature import class_curvature
from geomadv.experiments.principal.uncertainty import random_subspace_angles
from geomadv.experiments.schemas import SCHEMAS
from geomadv.experiments.softmax.feature_collision import CollisionSettings
from geomadv.experiments.softmax.softmax_directions import softmax_directions
from geomadv.experiments.subspaces.confined_deepfool import confined_deepfool
from geomadv.experiments.subspaces.families import (
    curvature_families,
    image_family,
    random_family,
    singular_families,
    stored_curvatures,
)
from geomadv.experiments.subspaces.norm_fractions import norm_fractions
from geomadv.experiments.subspaces.resampling import resampled, resampling
from geomadv.experiments.subspaces.subspace_accuracy import subspace_accuracy
from geomadv.experiments.subspaces.sweep import sweep_dimensions
from geomadv.experiments.universality.categories import categories
from geomadv.experiments.universality.finetuning import finetuning
from geomadv.experiments.universality.label_graph import label_graph
from geomadv.experiments.universality.norm_comparison import norm_comparison
from geomadv.experiments.universality.transfer import (
    check_networks,
    check_same_task,
    transfer,
)
from geomadv.experiments.universality.universal import universal
from geomadv.keep import Keep, keep_nothing, within
from geomadv.perturbations.balls import farthest

__all__ = [
    "SCHEMAS",
    "CollisionSettings",
    "CurvatureSettings",
    "Keep",
    "boundary",
    "bracketed",
    "cancellation",
    "categories",
    "check_networks",
    "check_same_task",
    "class_centroids",
    "class_curvature",
    "class_direction_sweep",
    "class_doubt",
    "class_normal_section",
    "class_numbers",
    "class_score_curves",
    "confined_deepfool",
    "curvature",
    "curvature_families",
    "curved_directions",
    "decision_plane",
    "direction_sweep",
    "family_doubt",
    "farthest",
    "finetuning",
    "image_family",
    "keep_nothing",
    "label_graph",
    "line_doubt",
    "norm_comparison",
    "norm_fractions",
    "normal_section",
    "normal_spectrum",
    "normal_tilt",
    "pair_images",
    "paper_settings",
    "paper_step",
    "predictions",
    "random_family",
    "random_subspace_angles",
    "random_subspace_fooling",
    "resampled",
    "resampling",
    "score_curves",
    "singular_families",
    "softmax_directions",
    "stored_curvatures",
    "subspace_accuracy",
    "sweep_dimensions",
    "sweep_reach",
    "tilting_plane",
    "tilting_toy",
    "toy_problem",
    "transfer",
    "universal",
    "within",
]

globals().update(guarded({name: globals()[name] for name in __all__}))
