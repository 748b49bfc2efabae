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
from geomadv.plotting.sweeps import (
    direction_sweep,
    direction_sweep_classes,
    score_curve_measures,
    score_curves,
)

__all__ = [
    "curvature_directions",
    "curvature_profile",
    "direction_sweep",
    "direction_sweep_classes",
    "leading_directions",
    "normal_spectrum",
    "random_subspace_fooling",
    "scale_sweep",
    "score_curve_measures",
    "score_curves",
    "sharedness",
]
