"""Perturbations that change what a network predicts."""

from geomadv.perturbations.deepfool import DeepFoolResult, deepfool
from geomadv.perturbations.fgsm import fgsm
from geomadv.perturbations.result import Perturbations
from geomadv.perturbations.saliency import saliency

__all__ = ["DeepFoolResult", "Perturbations", "deepfool", "fgsm", "saliency"]
