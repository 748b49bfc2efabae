"""Classifier: a frozen network as a function from image space to class scores."""

import copy
import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geomadv.classifier.batching import activation_bytes, check_batch_size
from geomadv.classifier.checks import (
    check_kind,
    image_shape,
    names_of_classes,
    num_classes_of,
    per_channel,
    pixel_bounds,
)
from geomadv.classifier.folding import fold_batch_norm
from geomadv.classifier.image_conv import use_image_convolutions
from geomadv.classifier.smooth_forms import SmoothActivations
from geomadv.classifier.smoothness import (
    gradient_is_piecewise_constant,
    has_jumps,
    kinks,
    responsible,
)
from geomadv.errors import InputError

# Perturbed images leave the bounds a little; un-normalised or 0..255 data leave them by more than
# their own width. Calls refuse the second kind only; functions that take clean images are strict.
_SLACK_WIDTHS = 1.0


class _Normalised(nn.Module):
    """x -> module((x - mean) / std): image space to scores."""

    mean: Tensor
    std: Tensor

    def __init__(self, module: nn.Module, mean: Tensor | None, std: Tensor | None) -> None:
        super().__init__()
        self.module = module
        self.normalises = mean is not None or std is not None
        if self.normalises:
            # Numbers without dimensions go with images on any device.
            self.register_buffer("mean", torch.zeros(()) if mean is None else mean)
            self.register_buffer("std", torch.ones(()) if std is None else std)

    def forward(self, x: Tensor) -> Tensor:
        # The module may work in place: it gets its own copy of the images, one way or the other.
        own = (x - self.mean.to(x.dtype)) / self.std.to(x.dtype) if self.normalises else x.clone()
        scores: Tensor = self.module(own)
        return scores


def _floating(module: nn.Module) -> Tensor | None:
    """Any floating parameter or buffer: it tells the network's device and dtype."""
    tensors = [*module.parameters(), *module.buffers()]
    return next((t for t in tensors if t.is_floating_point()), None)


def _frozen_copy(module: nn.Module, name: str) -> nn.Module:
    try:
        frozen = copy.deepcopy(module).eval()
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"network {name!r} cannot be copied: {error} Build it anew and load its state_dict."
        ) from error
    for parameter in frozen.parameters():
        parameter.detach_()
    return frozen


class Classifier:
    """A network frozen for geometric analysis: F: image space -> class scores (logits).

    The module is copied, put in evaluation mode and its parameters take no gradients; later
    changes to the original do not reach the copy. Normalisation is part of the network, so every
    norm and gradient is measured in image space. Where an `nn.BatchNorm2d` directly follows an
    `nn.Conv2d` the two are folded into one (same scores to rounding, fewer operations).

    Args:
        module: any `nn.Module` mapping (N, C, H, W) images to (N, classes) logits.
        input_shape: (C, H, W) of one image.
        mean, std: subtracted from, then divided out of, the images: one number or one a channel.
        bounds: (low, high) of the pixel values as the user sees them.
        class_names: one name per class; default "0", "1", ...
        name: what results and figures call the network.
        device, dtype: moved there; default: where and what the module is.

    Raises:
        InputError: scores are probabilities, non-finite, not (N, classes >= 2), depend on chance
            or on the rest of the batch; mean, std, bounds or class names do not fit.

    Example:
        >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> net = Classifier(linear, input_shape=(1, 2, 2))
        >>> net.num_classes, net.dimension, net.is_piecewise_linear
        (3, 4, True)
    """

    def __init__(
        self,
        module: nn.Module,
        input_shape: Sequence[int],
        mean: Any = None,
        std: Any = None,
        bounds: tuple[float, float] = (0.0, 1.0),
        class_names: Sequence[str] | None = None,
        name: str = "network",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_kind(module)
        self.input_shape = image_shape(input_shape)
        self.bounds = pixel_bounds(bounds)
        self.name = name
        self._mean = per_channel("mean", mean, self.input_shape[0])
        self._std = per_channel("std", std, self.input_shape[0])
        self._beta: float | None = None
        self._raw = _frozen_copy(module, name)
        self._place(device, dtype)
        self.num_classes = num_classes_of(self.module, self._probe(4), name)
        self.class_names = names_of_classes(class_names, self.num_classes)
        self._fold()

    def _place(self, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        """Moves the raw module and builds what is evaluated from it."""
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise InputError(f"dtype={dtype!r} must be a floating type, such as torch.float32.")
        self._raw = self._raw.to(device=device, dtype=dtype)
        sample = _floating(self._raw)
        self.device = torch.device(device or "cpu") if sample is None else sample.device
        # A network without any numbers of its own (a formula) computes in the images' dtype.
        self._casts = dtype is not None or sample is not None
        self.dtype = dtype or (torch.get_default_dtype() if sample is None else sample.dtype)
        statistics = self.dtype if self._casts else torch.float64
        moved = [
            None if t is None else t.to(device=self.device, dtype=statistics)
            for t in (self._mean, self._std)
        ]
        self.module: nn.Module = _Normalised(self._raw, moved[0], moved[1]).eval()
        self._engine: nn.Module = self.module

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Classifier":
        """The same network on another device or in another precision, as a new Classifier."""
        other = copy.copy(self)
        other.__dict__.pop("is_piecewise_linear", None)
        other.__dict__.pop("bytes_per_image", None)
        other._raw = copy.deepcopy(self._raw)
        other._place(device or self.device, dtype or (self.dtype if self._casts else None))
        other._fold()
        return other

    # Evaluation

    def scores(self, x: Tensor) -> Tensor:
        """Scores (N, classes) anywhere in image space: no checks, differentiable in x.

        x: (N, C, H, W) on the network's device, in its dtype.
        """
        context = nullcontext() if self._beta is None else SmoothActivations(self._beta)
        with context:
            result: Tensor = self._engine(x)
        return result

    def __call__(self, images: Any) -> Tensor:
        """Scores (N, classes) of images or perturbed images, checked.

        images: (N, C, H, W) tensor, array or ImageSet; moved to the network's device and dtype.
        Differentiable in a tensor. Pixels may lie outside the bounds by up to the bounds' width,
        as those of perturbed images do; `scores` takes any point at all.

        Raises:
            InputError: wrong shape, non-finite pixels, pixels far outside the bounds, or
                non-finite scores.
        """
        x = self._prepare(images, slack=_SLACK_WIDTHS)
        return self._finite(self.scores(x))

    @torch.no_grad()
    def predict(self, images: Any, batch_size: int | None = None) -> Tensor:
        """Predicted classes (N,) int64; see `__call__` for images and errors.

        batch_size: images per pass; default: from the network's activations and the memory.
        """
        x = self._prepare(images, slack=_SLACK_WIDTHS)
        parts = x.split(check_batch_size(batch_size, self))
        return self._finite(torch.cat([self.scores(part) for part in parts])).argmax(1)

    def check_images(self, images: Any) -> Tensor:
        """Clean images as an (N, C, H, W) tensor on the network's device and in its dtype.

        Raises:
            InputError: wrong shape, none at all, NaN or infinite pixels, or pixels outside the
                bounds.
        """
        return self._prepare(images, slack=1e-6)

    def _finite(self, scores: Tensor) -> Tensor:
        if not scores.isfinite().all():
            raise InputError(
                f"network {self.name!r} gives non-finite scores on "
                f"{int((~scores.isfinite()).any(1).sum())} of {len(scores)} images. "
                "Check its weights, or use dtype=torch.float64."
            )
        return scores

    def _as_tensor(self, images: Any) -> Tensor:
        images = getattr(images, "images", images)
        if not isinstance(images, Tensor):
            # Flipped views and read-only arrays, which torch does not take, are copied.
            images = np.require(images, requirements=("C", "W"))
            if not (np.issubdtype(images.dtype, np.number) or images.dtype == bool):
                raise InputError(
                    f"images are an array of {images.dtype}; expected floating values of shape "
                    f"(N, {', '.join(map(str, self.input_shape))})."
                )
        x = torch.as_tensor(images)
        if x.shape[1:] != self.input_shape:
            hint = " Add the batch dimension: images[None]." if x.shape == self.input_shape else ""
            raise InputError(
                f"images have shape {tuple(x.shape)}, but network {self.name!r} takes "
                f"(N, {', '.join(map(str, self.input_shape))}).{hint}"
            )
        if len(x) == 0:
            raise InputError("images: the selection is empty. Give at least one image.")
        if not x.is_floating_point():
            raise InputError(
                f"images are {x.dtype}; give floating values in bounds {self.bounds}, "
                "for 8-bit images: images / 255."
            )
        return x.to(device=self.device, dtype=self.dtype if self._casts else None)

    def _prepare(self, images: Any, slack: float) -> Tensor:
        x = self._as_tensor(images)
        low, high = x.detach().amin().item(), x.detach().amax().item()
        if not (np.isfinite(low) and np.isfinite(high)):
            bad = (~x.detach().isfinite()).flatten(1).any(1)
            raise InputError(
                f"images: {int(bad.sum())} of {len(x)} contain NaN or infinite pixels, the first "
                f"is number {int(bad.nonzero()[0])}. Remove or repair them."
            )
        margin = slack * (self.bounds[1] - self.bounds[0])
        # Data scaled to [-1, 1] exceed bounds (0, 1) by exactly one width: refused as well.
        if low <= self.bounds[0] - margin or high >= self.bounds[1] + margin:
            raise InputError(
                f"images span [{low:.3g}, {high:.3g}], outside bounds [{self.bounds[0]:g}, "
                f"{self.bounds[1]:g}] of network {self.name!r}. Pass images un-normalised and in "
                "the bounds (8-bit images divided by 255): mean and std belong to the Classifier."
            )
        return x

    # What kind of network it is

    @property
    def mean(self) -> tuple[float, ...] | None:
        """What is subtracted per channel, image units; None for nothing."""
        return None if self._mean is None else tuple(self._mean.flatten().tolist())

    @property
    def std(self) -> tuple[float, ...] | None:
        """What is divided out per channel, image units; None for nothing."""
        return None if self._std is None else tuple(self._std.flatten().tolist())

    @property
    def dimension(self) -> int:
        """D = C H W, the dimension of image space."""
        return int(np.prod(self.input_shape))

    @cached_property
    def bytes_per_image(self) -> int:
        """Memory that one image's forward pass keeps for the backward pass, in bytes."""
        with torch.inference_mode(False):
            return activation_bytes(self.scores, self._probe(1), self._probe(2))

    @cached_property
    def is_piecewise_linear(self) -> bool:
        """Whether the exact Hessian is zero almost everywhere (ReLU, max-pooling, linear).

        Probed in float64: the gradient of a piecewise-linear network repeats to rounding under a
        tiny step. Where the network does not run in float64, True if it calls a non-smooth
        function. A smoothed network is not piecewise linear, however sharp.
        """
        if self._beta is not None and kinks(self._engine, self._probe(1))[0]:
            return False
        try:
            # Tensors made in inference mode have no gradients ever.
            with torch.inference_mode(False):
                double = self if self.dtype == torch.float64 else self.to(dtype=torch.float64)
                probe = self._probe(1).to(torch.float64)
                return gradient_is_piecewise_constant(double.scores, probe)
        except (RuntimeError, TypeError):  # TypeError: devices without float64
            return bool(self.kinks)

    @cached_property
    def kinks(self) -> tuple[str, ...]:
        """Names of the non-smooth functions that the network calls on values of the image.

        They name, they do not decide: a clamp may never be reached, and a smooth network may call
        it. What second derivatives leave out is measured (see `mean_hessian`).
        """
        if self._beta is not None:
            return ()
        smoothable, other = kinks(self._engine, self._probe(1))
        return tuple(smoothable + other)

    def smoothed(self, beta: float = 10.0) -> "Classifier":
        """The network with ReLU-like functions as softplus(beta), maxima as log-sum-exp.

        beta: sharpness, in 1 / activation units; softplus(beta) lies at most log(2) / beta above
        ReLU. Works on modules and on functional calls alike, and is measured to have worked: the
        gradient of the smoothed network is followed along lines between images.

        Raises:
            InputError: beta is not positive and finite, or kinks are left that have no smooth form
                here.
        """
        if not 0 < beta < float("inf"):
            raise InputError(
                f"beta={beta} must be > 0 and finite; 10 is a usual choice, larger is sharper."
            )
        if self._keeps_kinks:
            raise InputError(
                f"network {self.name!r} keeps kinks for which geomadv has no smooth form "
                f"({responsible(self._engine, self._probe(1))}). Use finite differences "
                "(hvp='finite-difference') instead, or torch's ReLU or max-pooling."
            )
        return self._with_softplus(beta)

    def _with_softplus(self, beta: float, dtype: torch.dtype | None = None) -> "Classifier":
        smooth = self.to(dtype=dtype)
        smooth._beta = float(beta)
        smooth.name = f"{self.name}-softplus{beta:g}"
        smooth.__dict__.pop("kinks", None)
        return smooth

    @cached_property
    def _keeps_kinks(self) -> bool:
        """Whether the gradient still jumps where all calls that have a smooth form are smooth.

        At a beta of 1 they are smooth at any scale of interest, so that it is other calls that
        make the jumps.
        """
        with torch.inference_mode(False):
            for dtype in (torch.float64, torch.float32):
                try:
                    smooth = self._with_softplus(1.0, dtype)
                    x = self._probe(2).to(dtype)
                    return has_jumps(smooth.scores, x, self.bounds, dtype)
                except (RuntimeError, TypeError):  # devices and networks without float64
                    continue
        return bool(kinks(self._engine, self._probe(1))[1])

    @property
    def weights_sha256(self) -> str:
        """Checksum (hex) of weights, buffers, normalisation, kinds of layers and beta.

        It is taken over the values as they are used, so it does not depend on the file format
        they came in; float32 and float64 copies differ. What a `forward` computes beyond its
        layers (a functional activation, a constant) is not part of it.
        """
        digest = hashlib.sha256()
        for key, layer in self._raw.named_modules():
            digest.update(f"{key} {type(layer).__qualname__}".encode())
        values = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        for key, value in sorted(values.items()):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        if self._beta is not None:
            digest.update(f"softplus {self._beta!r}".encode())
        return digest.hexdigest()

    def __repr__(self) -> str:
        return (
            f"Classifier({self.name!r}, {self.num_classes} classes, input {self.input_shape}, "
            f"bounds {self.bounds}, {self.dtype}, {self.device})"
        )

    # How it is built

    def _probe(self, n: int) -> Tensor:
        """A few random images in the bounds, always the same."""
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(n, *self.input_shape, generator=generator, dtype=torch.float64)
        x = self.bounds[0] + (self.bounds[1] - self.bounds[0]) * x
        return x.to(device=self.device, dtype=self.dtype)

    def _fold(self) -> None:
        """Builds the engine: the same scores to rounding, with fewer and faster operations."""
        self._engine = fold_batch_norm(self.module, self._probe(2))
        if self._engine is self.module:
            # Other layers around the same numbers.
            numbers = [*self.module.parameters(), *self.module.buffers()]
            self._engine = copy.deepcopy(self.module, {id(t): t for t in numbers})
        use_image_convolutions(self._engine)
        if any(isinstance(m, nn.Conv2d) and m.in_channels > 1 for m in self._engine.modules()):
            # Channels-last convolutions are faster for most networks, on CPU as on CUDA.
            self._engine = self._engine.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
