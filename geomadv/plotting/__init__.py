"""One function per figure: a result dataset in, a matplotlib Figure out. Nothing is computed."""

from geomadv.plotting.first_order import (
    leading_directions,
    normal_spectrum,
    random_subspace_fooling,
)
from geomadv.plotting.second_order import (
    curvature_directions,
    curvature_profile,
    scale_sweep,
    sharedness,
)
from geomadv.plotting.softmax_directions import (
    feature_collisions,
    softmax_boundary_angles,
    softmax_null_space,
)

__all__ = [
    "curvature_directions",
    "curvature_profile",
    "feature_collisions",
    "leading_directions",
    "normal_spectrum",
    "random_subspace_fooling",
    "scale_sweep",
    "sharedness",
    "softmax_boundary_angles",
    "softmax_null_space",
]
