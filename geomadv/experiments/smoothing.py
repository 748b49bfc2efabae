"""Smoothing is what a Classifier does, not its module: how to keep it beside one."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from geomadv.classifier import Classifier
from geomadv.classifier.smooth_forms import SmoothActivations


def smoothing(net: Classifier) -> AbstractContextManager[Any]:
    """The context in which `net.module` gives the scores of `net`."""
    return nullcontext() if net._beta is None else SmoothActivations(net._beta)


def smoothed_like(net: Classifier, other: Classifier) -> Classifier:
    """`net` with the smoothing of another network, if that has one, under its own name."""
    if other._beta is None:
        return net
    smooth = net.smoothed(other._beta)
    smooth.name = net.name
    return smooth
