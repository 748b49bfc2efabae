"""Linear algebra that knows no networks: subspaces, SVD, eigensolvers, random baselines."""

from geomadv.linalg.eigen import all_eigenpairs, extreme_eigenpairs
from geomadv.linalg.nested import NestedSubspaces
from geomadv.linalg.pairs import EigenPairs, measured_pairs
from geomadv.linalg.random import baseline_spectrum, uniform_directions
from geomadv.linalg.slq import SpectralDensity, spectral_density
from geomadv.linalg.subspace import Subspace
from geomadv.linalg.svd import NormalSVD, normal_svd
from geomadv.linalg.vectors import fix_sign

__all__ = [
    "EigenPairs",
    "NestedSubspaces",
    "NormalSVD",
    "SpectralDensity",
    "Subspace",
    "all_eigenpairs",
    "baseline_spectrum",
    "extreme_eigenpairs",
    "fix_sign",
    "measured_pairs",
    "normal_svd",
    "spectral_density",
    "uniform_directions",
]
