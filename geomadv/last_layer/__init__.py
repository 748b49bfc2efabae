"""Mathematics of the softmax layer: what scores W g + b do not see, and where classes meet."""

from geomadv.last_layer.adversarial_space import AdversarialSpace, adversarial_space
from geomadv.last_layer.boundary_angles import (
    BoundaryAngles,
    ParallelBoundaries,
    boundary_angles,
    most_parallel,
)
from geomadv.last_layer.regions import ClassRegions, class_regions

__all__ = [
    "AdversarialSpace",
    "BoundaryAngles",
    "ClassRegions",
    "ParallelBoundaries",
    "adversarial_space",
    "boundary_angles",
    "class_regions",
    "most_parallel",
]
