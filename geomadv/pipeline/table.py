"""All experiments, in the order of a whole paper: the one table that everything else reads."""

from dataclasses import replace

from geomadv.experiments import SCHEMAS
from geomadv.pipeline.curvature import CURVATURE
from geomadv.pipeline.experiment import Experiment
from geomadv.pipeline.linear import LINEAR
from geomadv.pipeline.lines import LINES
from geomadv.pipeline.normals import NORMALS
from geomadv.pipeline.softmax import SOFTMAX
from geomadv.pipeline.subspaces import FRACTIONS, SUBSPACES
from geomadv.pipeline.universality import UNIVERSAL, UNIVERSALITY

EXPERIMENTS: tuple[Experiment, ...] = tuple(
    replace(experiment, schema=SCHEMAS.get(experiment.name, {}))
    for experiment in (
        *NORMALS,
        *CURVATURE,
        *LINES,
        *SUBSPACES,
        *UNIVERSAL,
        FRACTIONS,
        *UNIVERSALITY,
        *LINEAR,
        *SOFTMAX,
    )
)
