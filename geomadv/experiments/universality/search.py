"""Searches for universal perturbations that a caller may keep."""

from typing import Any

import torch
import xarray as xr

from geomadv.classifier import Classifier
from geomadv.keep import Keep, within
from geomadv.labels import IMAGE
from geomadv.perturbations.universal import UniversalPerturbation, universal_perturbation

_NUMBERS = ("norm", "radius", "p", "fooling_rate", "images")
_HISTORIES = ("history", "steps")
_HELD_OUT = ("held_out_fooling_rate", "held_out_history")


def kept_search(
    keep: Keep, part: str, net: Classifier, images: Any, radius: float, **settings: Any
) -> UniversalPerturbation:
    """`universal_perturbation` with these arguments, or what `keep` has of it under this name."""

    def search() -> xr.Dataset:
        passes = within(keep, part)
        return _stored(universal_perturbation(net, images, radius, keep=passes, **settings))

    return _restored(keep(part, search), net)


def _stored(found: UniversalPerturbation) -> xr.Dataset:
    variables: dict[str, Any] = {"delta": (IMAGE, found.delta.cpu().numpy())}
    variables |= {name: ((), getattr(found, name)) for name in _NUMBERS}
    variables |= {name: ("pass", getattr(found, name).numpy()) for name in _HISTORIES}
    if found.held_out_history is not None:
        rate, history = (getattr(found, name) for name in _HELD_OUT)
        variables |= {_HELD_OUT[0]: ((), rate), _HELD_OUT[1]: ("pass", history.numpy())}
    return xr.Dataset(variables)


def _restored(ds: xr.Dataset, net: Classifier) -> UniversalPerturbation:
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
