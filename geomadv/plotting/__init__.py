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
from geomadv.plotting.tilting import (
    normal_tilt,
    tilting_images,
    tilting_plane,
    tilting_space,
    tilting_sweep,
    tilting_toy,
)
from geomadv.plotting.tilting_slider import tilting_slider

__all__ = [
    "curvature_directions",
    "curvature_profile",
    "leading_directions",
    "normal_spectrum",
    "normal_tilt",
    "random_subspace_fooling",
    "scale_sweep",
    "sharedness",
    "tilting_images",
    "tilting_plane",
    "tilting_slider",
    "tilting_space",
    "tilting_sweep",
    "tilting_toy",
]
