"""Models of attack libraries, Foolbox and ART, as a Classifier."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from geomadv.classifier import Classifier
from geomadv.classifier.checks import image_shape
from geomadv.errors import InputError

# Share of the scores' spread by which the two may differ: rounding of float32 in a deep network.
_ROUNDING = 1e-3


def wrap(
    model: Any,
    input_shape: Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
    name: str = "network",
) -> Classifier:
    """A Classifier of the network inside a Foolbox `PyTorchModel` or an ART `PyTorchClassifier`.

    Its module, bounds and normalisation are taken over. Its scores are then compared with the
    wrapper's own at random images, so that nothing else that the wrapper does is lost in silence.

    Args:
        model: `foolbox.PyTorchModel` or `art.estimators.classification.PyTorchClassifier`.
        input_shape: (C, H, W) of one image; an ART classifier knows its own.
        class_names: one name per class; default "0", "1", ...
        name: what results and figures call the network.

    Returns:
        The network, on the device of its weights.

    Raises:
        InputError: another object, no input_shape, scores that differ (a defence that changes the
            image, a flipped axis), or a network that cannot be analysed (see `Classifier`).

    Examples:
        >>> net = wrap(foolbox.PyTorchModel(module, bounds=(0, 1)), (3, 32, 32))  # doctest: +SKIP
    """
    if hasattr(model, "clip_values") and isinstance(getattr(model, "model", None), nn.Module):
        net = _of_art(model, class_names, name)
    elif hasattr(model, "bounds") and callable(getattr(model, "_model", None)):
        net = _of_foolbox(model, input_shape, class_names, name)
    else:
        raise InputError(
            f"model: found a {type(model).__name__}, expected a foolbox.PyTorchModel or an ART "
            "PyTorchClassifier. A plain module: geomadv.Classifier(module, input_shape, mean, std)."
        )
    _check_same(net, model)
    return net


def _of_art(model: Any, class_names: Sequence[str] | None, name: str) -> Classifier:
    low, high = (0.0, 1.0) if model.clip_values is None else model.clip_values
    mean, std = _art_normalisation(model.preprocessing)
    bounds = float(np.min(low)), float(np.max(high))
    shape = image_shape(model.input_shape)
    return Classifier(model.model, shape, mean, std, bounds, class_names, name)


def _art_normalisation(preprocessing: Any) -> tuple[Any, Any]:
    """(mean, std): given as a pair, or as ART's StandardisationMeanStd."""
    if isinstance(preprocessing, tuple):
        mean, std = preprocessing
    else:
        mean, std = (getattr(preprocessing, part, None) for part in ("mean", "std"))
    return _numbers(mean), _numbers(std)


def _of_foolbox(
    model: Any, input_shape: Sequence[int] | None, class_names: Sequence[str] | None, name: str
) -> Classifier:
    if input_shape is None:
        raise InputError(
            "input_shape is needed for a Foolbox model, which does not know it: (channels, height, "
            "width) of one image."
        )
    # Foolbox keeps the module inside the function that calls it.
    module = inspect.getclosurevars(model._model).nonlocals.get("model")
    if not isinstance(module, nn.Module):
        raise InputError(
            "model: no module was found inside this Foolbox model. Give the module itself: "
            "geomadv.Classifier(module, input_shape, mean, std, bounds=model.bounds)."
        )
    mean, std, _ = getattr(model, "_preprocess_args", (None, None, None))
    low, high = model.bounds
    return Classifier(
        module,
        input_shape,
        _numbers(mean),
        _numbers(std),
        (float(low), float(high)),
        class_names,
        name,
    )


def _numbers(value: Any) -> NDArray[Any] | None:
    """An array, a tensor, or one of eagerpy's, as an array; None for none."""
    value = getattr(value, "raw", value)
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
    return None if value is None else np.asarray(value, np.float64)


def _check_same(net: Classifier, model: Any) -> None:
    """The scores of both agree at random images."""
    generator = torch.Generator().manual_seed(0)
    low, high = net.bounds
    x = low + (high - low) * torch.rand(4, *net.input_shape, generator=generator)
    with torch.no_grad():
        own = net(x.to(net.device)).cpu()
        if hasattr(model, "predict"):
            theirs = torch.from_numpy(np.asarray(model.predict(x.numpy())))
        else:
            theirs = torch.as_tensor(model(x.to(net.device))).cpu()
    apart = float((own - theirs.to(own.dtype)).abs().max())
    if not apart <= _ROUNDING * float(own.std()):
        raise InputError(
            f"model: the {type(model).__name__} gives other scores than the module inside it with "
            f"its mean and std (up to {apart:.3g} apart): a defence, a flipped axis or a "
            "module left in training mode. Call eval(), or put what is done to images into the "
            "module's forward, and give that module to geomadv.Classifier."
        )
