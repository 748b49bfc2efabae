"""Perturbations that change what a network predicts."""

from geomadv.perturbations.deepfool import DeepFoolResult, deepfool
from geomadv.perturbations.fgsm import fgsm
from geomadv.perturbations.result import Perturbations
from geomadv.perturbations.saliency import saliency
from geomadv.perturbations.settings import DeepFoolSettings
from geomadv.perturbations.universal import UniversalPerturbation, universal_perturbation

__all__ = [
    "DeepFoolResult",
    "DeepFoolSettings",
    "Perturbations",
    "UniversalPerturbation",
    "deepfool",
    "fgsm",
    "saliency",
    "universal_perturbation",
]
