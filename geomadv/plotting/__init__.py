"""One function per figure: a result dataset in, a matplotlib Figure out. Nothing is computed."""

from geomadv.plotting import beside, friends
from geomadv.plotting.confined import confined_deepfool, confined_examples
from geomadv.plotting.curvature import (
    curvature_directions,
    curvature_profile,
    scale_sweep,
    sharedness,
    spectral_density,
)
from geomadv.plotting.data import figure_data
from geomadv.plotting.figure import save_figure
from geomadv.plotting.linear import (
    normal_tilt,
    tilting_images,
    tilting_plane,
    tilting_space,
    tilting_sweep,
    tilting_toy,
)
from geomadv.plotting.lines import (
    direction_sweep,
    direction_sweep_classes,
    score_curve_measures,
    score_curves,
)
from geomadv.plotting.normals import (
    leading_directions,
    normal_spectrum,
    random_subspace_fooling,
)
from geomadv.plotting.overlay import overlaid
from geomadv.plotting.overlay_panels import OVERLAYS
from geomadv.plotting.planes import decision_plane, normal_section
from geomadv.plotting.slider import tilting_slider
from geomadv.plotting.softmax import (
    feature_collisions,
    softmax_boundary_angles,
    softmax_null_space,
)
from geomadv.plotting.style import use_style
from geomadv.plotting.subspaces import (
    first_order_twin,
    norm_fractions,
    resampling,
    subspace_accuracy,
)
from geomadv.plotting.universality import (
    categories,
    finetuning,
    label_graph,
    norm_comparison,
    transfer,
    universal,
)

__all__ = [
    "OVERLAYS",
    "beside",
    "categories",
    "confined_deepfool",
    "confined_examples",
    "curvature_directions",
    "curvature_profile",
    "decision_plane",
    "direction_sweep",
    "direction_sweep_classes",
    "feature_collisions",
    "figure_data",
    "finetuning",
    "first_order_twin",
    "friends",
    "label_graph",
    "leading_directions",
    "norm_comparison",
    "norm_fractions",
    "normal_section",
    "normal_spectrum",
    "normal_tilt",
    "overlaid",
    "random_subspace_fooling",
    "resampling",
    "save_figure",
    "scale_sweep",
    "score_curve_measures",
    "score_curves",
    "sharedness",
    "softmax_boundary_angles",
    "softmax_null_space",
    "spectral_density",
    "subspace_accuracy",
    "tilting_images",
    "tilting_plane",
    "tilting_slider",
    "tilting_space",
    "tilting_sweep",
    "tilting_toy",
    "transfer",
    "universal",
    "use_style",
]
