"""geomadv: the geometry of neural networks' decision boundaries.

A network and images go in; boundary points come out; from them come directions; experiments ask
what the directions do; every answer is one HDF5 file; every figure is drawn from files alone.
"""

from importlib.metadata import version

from geomadv import experiments, plotting, results
from geomadv.boundary import BoundaryPoints, boundary_points
from geomadv.classifier import Classifier
from geomadv.curvature import (
    PrincipalCurvatures,
    class_subspace,
    mean_hessian,
    mean_shape_operator,
    principal_curvatures,
)
from geomadv.errors import InputError
from geomadv.images import ImageSet, list_images, load_images
from geomadv.linalg import NormalSVD, Subspace, normal_svd
from geomadv.networks import accuracy, list_networks, load_network
from geomadv.perturbations import (
    DeepFoolResult,
    DeepFoolSettings,
    Perturbations,
    UniversalPerturbation,
    deepfool,
    fgsm,
    saliency,
    universal_perturbation,
)
from geomadv.results import load, save

__version__ = version("geomadv")

__all__ = [
    "BoundaryPoints",
    "Classifier",
    "DeepFoolResult",
    "DeepFoolSettings",
    "ImageSet",
    "InputError",
    "NormalSVD",
    "Perturbations",
    "PrincipalCurvatures",
    "Subspace",
    "UniversalPerturbation",
    "accuracy",
    "boundary_points",
    "class_subspace",
    "deepfool",
    "experiments",
    "fgsm",
    "list_images",
    "list_networks",
    "load",
    "load_images",
    "load_network",
    "mean_hessian",
    "mean_shape_operator",
    "normal_svd",
    "plotting",
    "principal_curvatures",
    "results",
    "saliency",
    "save",
    "universal_perturbation",
]
