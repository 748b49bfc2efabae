"""Linear algebra that knows no networks: subspaces, SVD, eigensolvers, random baselines."""

from geomadv.linalg.boundary_angles import (
    BoundaryAngles,
    ParallelBoundaries,
    boundary_angles,
    most_parallel,
)
from geomadv.linalg.eigen import all_eigenpairs, extreme_eigenpairs
from geomadv.linalg.nested import NestedSubspaces
from geomadv.linalg.pairs import EigenPairs, measured_pairs
from geomadv.linalg.random import baseline_spectrum, uniform_directions
from geomadv.linalg.regions import ClassRegions, class_regions
from geomadv.linalg.sign import fix_sign
from geomadv.linalg.slq import SpectralDensity, spectral_density
from geomadv.linalg.softmax_layer import AdversarialSpace, adversarial_space
from geomadv.linalg.subspace import Subspace
from geomadv.linalg.svd import NormalSVD, normal_svd

__all__ = [
    "AdversarialSpace",
    "BoundaryAngles",
    "ClassRegions",
    "EigenPairs",
    "NestedSubspaces",
    "NormalSVD",
    "ParallelBoundaries",
    "SpectralDensity",
    "Subspace",
    "adversarial_space",
    "all_eigenpairs",
    "baseline_spectrum",
    "boundary_angles",
    "class_regions",
    "extreme_eigenpairs",
    "fix_sign",
    "measured_pairs",
    "most_parallel",
    "normal_svd",
    "spectral_density",
    "uniform_directions",
]
