"""geomadv: the geometry of neural networks' decision boundaries.

A network and images go in; boundary points come out; from them come directions; experiments ask
what the directions do; every answer is one HDF5 file; every figure is drawn from files alone.
"""

from importlib import import_module
from importlib.metadata import version
from types import FunctionType
from typing import TYPE_CHECKING, Any

# Modules are imported when a name is first used: `geomadv --help` needs none of them.
_MODULES = {
    "geomadv.boundary": ("BoundaryPoints", "boundary_points"),
    "geomadv.classifier": ("Classifier",),
    "geomadv.curvature": (
        "PrincipalCurvatures",
        "class_subspace",
        "mean_hessian",
        "mean_shape_operator",
        "principal_curvatures",
    ),
    "geomadv.errors": ("InputError",),
    "geomadv.images": ("ImageSet", "list_images", "load_images"),
    "geomadv.linalg": ("NormalSVD", "Subspace", "normal_svd"),
    "geomadv.networks": ("accuracy", "list_networks", "load_network", "wrap"),
    "geomadv.perturbations": (
        "DeepFoolResult",
        "DeepFoolSettings",
        "Perturbations",
        "UniversalPerturbation",
        "deepfool",
        "fgsm",
        "saliency",
        "universal_perturbation",
    ),
    "geomadv.pipeline": ("Comparison", "Experiment", "compare", "reproduce", "run"),
    "geomadv.pipeline.report": ("Report", "report"),
    "geomadv.results": ("export_perturbation", "load", "save", "to_dataframe"),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}
_ROOMS = ("claims", "experiments", "pipeline", "plotting", "results")

__version__ = version("geomadv")

__all__ = sorted([*_WHERE, *_ROOMS])

if TYPE_CHECKING:
    from geomadv import claims as claims
    from geomadv import experiments as experiments
    from geomadv import pipeline as pipeline
    from geomadv import plotting as plotting
    from geomadv import results as results
    from geomadv.boundary import BoundaryPoints as BoundaryPoints
    from geomadv.boundary import boundary_points as boundary_points
    from geomadv.classifier import Classifier as Classifier
    from geomadv.curvature import PrincipalCurvatures as PrincipalCurvatures
    from geomadv.curvature import class_subspace as class_subspace
    from geomadv.curvature import mean_hessian as mean_hessian
    from geomadv.curvature import mean_shape_operator as mean_shape_operator
    from geomadv.curvature import principal_curvatures as principal_curvatures
    from geomadv.errors import InputError as InputError
    from geomadv.images import ImageSet as ImageSet
    from geomadv.images import list_images as list_images
    from geomadv.images import load_images as load_images
    from geomadv.linalg import NormalSVD as NormalSVD
    from geomadv.linalg import Subspace as Subspace
    from geomadv.linalg import normal_svd as normal_svd
    from geomadv.networks import accuracy as accuracy
    from geomadv.networks import list_networks as list_networks
    from geomadv.networks import load_network as load_network
    from geomadv.networks import wrap as wrap
    from geomadv.perturbations import DeepFoolResult as DeepFoolResult
    from geomadv.perturbations import DeepFoolSettings as DeepFoolSettings
    from geomadv.perturbations import Perturbations as Perturbations
    from geomadv.perturbations import UniversalPerturbation as UniversalPerturbation
    from geomadv.perturbations import deepfool as deepfool
    from geomadv.perturbations import fgsm as fgsm
    from geomadv.perturbations import saliency as saliency
    from geomadv.perturbations import universal_perturbation as universal_perturbation
    from geomadv.pipeline import Comparison as Comparison
    from geomadv.pipeline import Experiment as Experiment
    from geomadv.pipeline import compare as compare
    from geomadv.pipeline import reproduce as reproduce
    from geomadv.pipeline import run as run
    from geomadv.pipeline.report import Report as Report
    from geomadv.pipeline.report import report as report
    from geomadv.results import export_perturbation as export_perturbation
    from geomadv.results import load as load
    from geomadv.results import save as save
    from geomadv.results import to_dataframe as to_dataframe


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(import_module(_WHERE[name]), name)
        if isinstance(value, FunctionType):
            value = import_module("geomadv.doors").door(value)
    elif name in _ROOMS:
        value = import_module(f"geomadv.{name}")
    else:
        raise AttributeError(f"module 'geomadv' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
