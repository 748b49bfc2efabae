"""The layout of every experiment's result, by the name of the experiment."""

from geomadv.experiments.linear import normal_tilt, tilting_plane, tilting_toy
from geomadv.experiments.lines import class_sweeps
from geomadv.experiments.normals import (
    boundary,
    normal_spectrum,
    predictions,
    random_subspace_fooling,
)
from geomadv.experiments.planes import decision_plane, normal_section
from geomadv.experiments.principal import layout
from geomadv.experiments.softmax import softmax_directions
from geomadv.experiments.subspaces import (
    confined_deepfool,
    norm_fractions,
    resampling,
    subspace_accuracy,
)
from geomadv.experiments.universality import (
    categories,
    finetuning,
    label_graph,
    norm_comparison,
    transfer,
    universal,
)
from geomadv.labels import Schema

SCHEMAS: dict[str, Schema] = {
    "train": predictions.SCHEMA,
    "boundary": boundary.SCHEMA,
    "normal_svd": normal_spectrum.SCHEMA,
    "direction_svd": normal_spectrum.SCHEMA,
    "random_subspace_fooling": random_subspace_fooling.SCHEMA,
    "curvature": layout.SCHEMA,
    "score_curves": class_sweeps.CURVES_SCHEMA,
    "direction_sweep": class_sweeps.SWEEP_SCHEMA,
    "normal_section": normal_section.CLASS_SCHEMA,
    "decision_plane": decision_plane.SCHEMA,
    "subspace_accuracy": subspace_accuracy.SCHEMA,
    "first_order_twin": subspace_accuracy.SCHEMA,
    "confined_deepfool": confined_deepfool.SCHEMA,
    "resampling": resampling.SCHEMA,
    "universal": universal.SCHEMA,
    "label_graph": label_graph.SCHEMA,
    "norm_fractions": norm_fractions.SCHEMA,
    "norm_comparison": norm_comparison.SCHEMA,
    "transfer": transfer.SCHEMA,
    "finetuning": finetuning.SCHEMA,
    "categories": categories.SCHEMA,
    "tilting_plane": tilting_plane.SCHEMA,
    "tilting_toy": tilting_toy.SCHEMA,
    "normal_tilt": normal_tilt.SCHEMA,
    "softmax_directions": softmax_directions.SCHEMA,
}
