"""Points on the decision boundary, and the boundary's normals there."""

from geomadv.boundary.points import BoundaryPoints, boundary_gradient, boundary_points

__all__ = ["BoundaryPoints", "boundary_gradient", "boundary_points"]
