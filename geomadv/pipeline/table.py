"""All experiments, in the order of a whole paper: the one table that everything else reads."""

from dataclasses import replace

from geomadv.experiments import SCHEMAS
from geomadv.labels import Schema
from geomadv.pipeline.across import ACROSS
from geomadv.pipeline.confined import CONFINED
from geomadv.pipeline.curvature import CURVATURE
from geomadv.pipeline.experiment import Experiment
from geomadv.pipeline.linear import LINEAR
from geomadv.pipeline.lines import LINES
from geomadv.pipeline.normals import NORMALS
from geomadv.pipeline.planes import PLANES
from geomadv.pipeline.softmax import SOFTMAX
from geomadv.pipeline.subspaces import FRACTIONS, SUBSPACES
from geomadv.pipeline.universality import UNIVERSAL, UNIVERSALITY

# Results of several networks side by side, and the dimension along which they lie.
_ACROSS = {"categories": "network", "normal_tilt": "network_name"}


def _schema(name: str) -> Schema:
    """The layout of an experiment's result, of all networks where it is on several."""
    schema, across = SCHEMAS.get(name, {}), _ACROSS.get(name)
    if across is None:
        return schema
    each = {
        variable: (dims if dims == (variable,) else (across, *dims), *words)
        for variable, (dims, *words) in schema.items()
    }
    return each | {across: ((across,), "network", "1")}  # type: ignore[return-value]


EXPERIMENTS: tuple[Experiment, ...] = tuple(
    replace(experiment, schema=_schema(experiment.name))
    for experiment in (
        *NORMALS,
        *CURVATURE,
        *LINES,
        *PLANES,
        *SUBSPACES,
        *CONFINED,
        *UNIVERSAL,
        FRACTIONS,
        *UNIVERSALITY,
        *ACROSS,
        *LINEAR,
        *SOFTMAX,
    )
)
