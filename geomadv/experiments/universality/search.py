"""Searches for universal perturbations that a caller may keep, and processes divide."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import xarray as xr

from geomadv.classifier import Classifier
from geomadv.keep import Compute, Done, Keep, nothing, within
from geomadv.labels import IMAGE
from geomadv.perturbations.universal import UniversalPerturbation, universal_perturbation

_NUMBERS = ("norm", "radius", "p", "fooling_rate", "images")
_HISTORIES = ("history", "steps")
_HELD_OUT = ("held_out_fooling_rate", "held_out_history")


def kept_searches(
    keep: Keep,
    net: Classifier,
    searches: Mapping[str, Mapping[str, Any]],
    done: Done = nothing,
    **settings: Any,
) -> list[UniversalPerturbation]:
    """Universal perturbations, or what `keep` has of them.

    Args:
        keep: what keeps searches, and the passes of one that is not finished.
        net: the network.
        searches: name -> arguments of `universal_perturbation`.
        done: called after each.
        **settings: arguments that all of them have.
    """
    parts = search_parts(keep, net, searches, **settings)
    return [restored_search(ds, net) for ds in keep.each(parts, done)]


def search_parts(
    keep: Keep, net: Classifier, searches: Mapping[str, Mapping[str, Any]], **settings: Any
) -> dict[str, Compute]:
    """What `kept_searches` asks `keep` for, for a caller who asks for more at the same time."""

    def search(part: str) -> xr.Dataset:
        passes = within(keep, part)
        return _stored(universal_perturbation(net, keep=passes, **settings, **searches[part]))

    return {part: partial(search, part) for part in searches}


def _stored(found: UniversalPerturbation) -> xr.Dataset:
    variables: dict[str, Any] = {"delta": (IMAGE, found.delta.cpu().numpy())}
    variables |= {name: ((), getattr(found, name)) for name in _NUMBERS}
    variables |= {name: ("pass", getattr(found, name).numpy()) for name in _HISTORIES}
    if found.held_out_history is not None:
        rate, history = (getattr(found, name) for name in _HELD_OUT)
        variables |= {_HELD_OUT[0]: ((), rate), _HELD_OUT[1]: ("pass", history.numpy())}
    return xr.Dataset(variables)


def restored_search(ds: xr.Dataset, net: Classifier) -> UniversalPerturbation:
    """A search as its part holds it."""
    held_out = _HELD_OUT[1] in ds
    return UniversalPerturbation(
        delta=torch.from_numpy(ds["delta"].to_numpy()).to(net.device),
        norm=float(ds["norm"]),
        radius=float(ds["radius"]),
        p=float(ds["p"]),
        fooling_rate=float(ds["fooling_rate"]),
        held_out_fooling_rate=float(ds[_HELD_OUT[0]]) if held_out else None,
        history=torch.from_numpy(ds["history"].to_numpy()),
        held_out_history=torch.from_numpy(ds[_HELD_OUT[1]].to_numpy()) if held_out else None,
        steps=torch.from_numpy(ds["steps"].to_numpy()),
        images=int(ds["images"]),
    )
