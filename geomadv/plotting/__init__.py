"""One function per figure: a result dataset in, a matplotlib Figure out. Nothing is computed."""

from geomadv.plotting.categories import categories
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
from geomadv.plotting.universal import finetuning, label_graph, norm_comparison, transfer, universal

__all__ = [
    "categories",
    "curvature_directions",
    "curvature_profile",
    "finetuning",
    "label_graph",
    "leading_directions",
    "norm_comparison",
    "normal_spectrum",
    "random_subspace_fooling",
    "scale_sweep",
    "sharedness",
    "spectral_density",
    "transfer",
    "universal",
]
