"""A frozen network as a function from image space to class scores, and what it must satisfy."""

from geomadv.classifier.network import Classifier

__all__ = ["Classifier"]
