"""Second-order geometry: mean Hessians and shape operators, principal curvatures."""

from geomadv.curvature.operators import BoundaryOperator, mean_hessian, mean_shape_operator
from geomadv.curvature.principal import (
    PrincipalCurvatures,
    class_subspace,
    principal_curvatures,
)

__all__ = [
    "BoundaryOperator",
    "PrincipalCurvatures",
    "class_subspace",
    "mean_hessian",
    "mean_shape_operator",
    "principal_curvatures",
]
