"""Perturbations that change what a network predicts."""

from geomadv.perturbations.deepfool import DeepFoolResult, deepfool

__all__ = ["DeepFoolResult", "deepfool"]
