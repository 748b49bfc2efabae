"""One function per figure: a result dataset in, a matplotlib Figure out. Nothing is computed."""

from geomadv.plotting.confined import confined_deepfool, confined_examples, resampling
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
    spectral_density,
)
from geomadv.plotting.subspaces import first_order_twin, norm_fractions, subspace_accuracy

__all__ = [
    "confined_deepfool",
    "confined_examples",
    "curvature_directions",
    "curvature_profile",
    "first_order_twin",
    "leading_directions",
    "norm_fractions",
    "normal_spectrum",
    "random_subspace_fooling",
    "resampling",
    "scale_sweep",
    "sharedness",
    "spectral_density",
    "subspace_accuracy",
]
