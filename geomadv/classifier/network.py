"""Classifier: a frozen network as a function from image space to class scores."""

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geomadv.classifier.batching import BatchLimit, activation_bytes, default_batch_size
from geomadv.classifier.checks import (
    check_kind,
    image_shape,
    names_of_classes,
    per_channel,
    pixel_bounds,
    usable_device,
)
from geomadv.classifier.engine import fast_engine, hessian_difference
from geomadv.classifier.examination import examine, first_scores
from geomadv.classifier.gradient_paths import find_gradient
from geomadv.classifier.inputs import as_images, check_pixels
from geomadv.classifier.kind import keeps_jumps, piecewise_linear
from geomadv.classifier.normalised import (
    Normalised,
    checksum,
    copied,
    first_floating,
    frozen_copy,
    lift_numbers,
    numbers,
)
from geomadv.classifier.precision import arithmetic, is_low, tf32_errors
from geomadv.classifier.probes import (
    Probes,
    mean_of_classes,
    probe_images,
    uniform_noise,
)
from geomadv.classifier.slopes import check_derivative
from geomadv.classifier.smooth_forms import SmoothActivations
from geomadv.classifier.smoothness import kinks, responsible
from geomadv.errors import InputError
from geomadv.framing import Framing

# Perturbed images leave the bounds a little; un-normalised or 0..255 data leave them by more than
# their own width. Calls refuse the second kind only; functions that take clean images are strict.
_SLACK_WIDTHS = 1.0


class Classifier:
    """A network frozen for geometric analysis: F: image space -> class scores (logits).

    The module is copied, put in evaluation mode and its parameters take no gradients; later
    changes to the original do not reach the copy. Normalisation is part of the network, so every
    norm and gradient is measured in image space. It is evaluated in a faster form (batch-norms
    folded into convolutions, channels-last weights) where that gives the scores and gradients of
    the module to rounding on images of several kinds.

    Args:
        module: any `nn.Module` mapping (N, C, H, W) images to (N, classes) logits, or to a
            mapping, tuple or object of which `logits` (or `output`) are these.
        input_shape: (C, H, W) of one image.
        mean, std: subtracted from, then divided out of, the images: one number or one a channel.
        bounds: (low, high) of the pixel values as the user sees them.
        class_names: one name per class; default "0", "1", ...
        name: what results and figures call the network.
        device, dtype: moved there; default: where and what the module is. Nothing is computed
            below float32: weights in float16 or bfloat16 (their own, or asked for here) keep
            their values and are computed with in float32; casts and autocast inside the module
            have no effect. `note` says so.
        output: the field that holds the scores, by name, or by its place in a tuple.
        note: what was adapted before; the property `note` begins with it.
        framing: how image files of other sizes become (C, H, W); default: as usual on ImageNet.

    Raises:
        InputError: scores are probabilities, non-finite, not (N, classes >= 2), depend on chance
            or on the rest of the batch, or have no gradient in the image, or one that is not
            their slope; calls change weights or statistics; mean, std, bounds or class names do
            not fit.

    Examples:
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
        output: str | int | None = None,
        note: str = "",
        framing: Framing | None = None,
    ) -> None:
        check_kind(module)
        self.input_shape = image_shape(input_shape)
        self.framing = (framing or Framing()).at(self.input_shape)
        self.bounds = pixel_bounds(bounds)
        self.name = name
        self._mean = per_channel("mean", mean, self.input_shape[0])
        self._std = per_channel("std", std, self.input_shape[0])
        self._output = output
        self._beta: float | None = None
        self.tf32, self.limit = False, BatchLimit()
        device = None if device is None else usable_device(device)
        # Tensors made in inference mode have no gradients ever.
        with torch.inference_mode(False):
            self._raw, notes = frozen_copy(module, name)
            self._notes = [note, *notes]
            self._place(device, dtype)
            with arithmetic(self):
                probes = self._probe_images()
                examined = examine(self.module, probes, self.bounds, name, module.parameters())
                self._notes += examined.notes
                self.num_classes = examined.scores.shape[1]
                self._build(probes, examined.scores, check=True)
        self.class_names = names_of_classes(class_names, self.num_classes)

    def _place(self, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        """Moves the raw module and wraps it as what is evaluated."""
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise InputError(f"dtype={dtype!r} must be a floating type, such as torch.float32.")
        device = None if device is None else usable_device(device)
        self._raw = self._raw.to(device=device, dtype=dtype)
        if dtype is not None and is_low(dtype):
            # The values that the type gives the weights, in the type that geometry needs.
            lift_numbers(self._raw)
            self._notes.append(f"weights rounded to {dtype}, computed with in torch.float32")
            dtype = torch.float32
        sample = first_floating(self._raw)
        self.device = torch.device(device or "cpu") if sample is None else sample.device
        # A network without any numbers of its own (a formula) computes in the images' dtype.
        self._casts = dtype is not None or sample is not None
        default = torch.get_default_dtype() if sample is None else sample.dtype
        self.dtype = dtype or (torch.float32 if is_low(default) else default)
        statistics = self.dtype if self._casts else torch.float64
        moved = [
            None if t is None else t.to(device=self.device, dtype=statistics)
            for t in (self._mean, self._std)
        ]
        self.module: Normalised = Normalised(self._raw, moved[0], moved[1], self._output).eval()
        self._engine: nn.Module = self.module

    def _build(self, probes: Tensor, scores: Tensor, check: bool, fast: bool = True) -> None:
        """Takes the fastest engine that computes what the module gives the probes: `scores`."""
        gradient = find_gradient(self.module, probes[: Probes.GENERIC], scores, self.name)
        self._engine, self._engine_note = self.module, "evaluated as the plain module (asked for)"
        if fast:
            self._engine, self._engine_note = fast_engine(self.module, probes, scores, gradient)
        self._second_order_checked = False
        # Whoever traces this form of the network may keep the trace here.
        self.traces: dict[Any, Any] = {}
        if check:
            check_derivative(self._engine, self.module, gradient, scores, self.name)

    def to(
        self,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        fast: bool = True,
    ) -> "Classifier":
        """The same network on another device or in another precision, as a new Classifier.

        fast=False: for a few passes, which do not repay building a fast engine.

        Raises:
            InputError: it does not run there, or no gradient comes through there.
        """
        other = copy.copy(self)
        for found in ("is_piecewise_linear", "behaviour", "bytes_per_image"):
            other.__dict__.pop(found, None)
        other._notes = list(self._notes)
        with torch.inference_mode(False):
            other._raw = copied(self._raw)
            other._place(device or self.device, dtype or (self.dtype if self._casts else None))
            if other.device != self.device:
                other.limit = BatchLimit()
            other.module.pairs = self.module.pairs
            with arithmetic(other):
                probes = other._probe_images()
                scores = first_scores(other.module, probes, self.name)
                other._build(probes, scores, check=False, fast=fast)
        return other

    def with_tf32(self) -> "Classifier":
        """The same network with products in TF32: faster on large networks, and less exact.

        `note` says by how much scores and gradients of the probe images differ.

        Raises:
            InputError: the device has no TF32, or the network is not one of float32.
        """
        cuda = self.device.type == "cuda"
        ampere = cuda and torch.cuda.get_device_capability(self.device)[0] >= 8
        if not ampere or self.dtype != torch.float32:
            raise InputError(
                f"--tf32: network {self.name!r} is computed in {self.dtype} on {self.device}; TF32 "
                "needs float32 on an NVIDIA GPU of the Ampere generation or later. Leave it away."
            )
        other = self.to()
        other.tf32 = True
        scores, gradients = tf32_errors(self, other, self._probe_images())
        other._notes.append(
            f"TF32 arithmetic: scores of probe images off by up to {scores:.1g} of their spread, "
            f"gradients by up to {gradients:.1g} of their norm"
        )
        return other

    def aside(self) -> "Classifier":
        """The same numbers in layers of their own: what a trace leaves in them stays there."""
        other = copy.copy(self)
        other._engine = copied(self._engine, numbers(self._engine))
        return other

    # Evaluation

    def scores(self, x: Tensor) -> Tensor:
        """Scores (N, classes) anywhere in image space: no checks, differentiable in x.

        x: (N, C, H, W) on the network's device, in its dtype.
        """
        with self.smoothing, arithmetic(self):
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
        parts = x.split(self.batch_size(batch_size))
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

    def _prepare(self, images: Any, slack: float) -> Tensor:
        x = as_images(images, self.input_shape, self.bounds, self.name)
        x = x.to(device=self.device, dtype=self.dtype if self._casts else None)
        check_pixels(x, self.bounds, slack, self.name)
        return x

    # What kind of network it is

    @property
    def note(self) -> str:
        """What was adapted so that the network can be used, and why; "" for nothing.

        The field taken as scores, weights below float32, casts and autocast that have no effect,
        compiled or lazy parts, single images evaluated in pairs, and fast forms of evaluation that
        gave other numbers.
        """
        return "; ".join(filter(None, [*self._notes, self._engine_note]))

    @property
    def evaluation(self) -> str:
        """In which form scores are computed, and why."""
        usual = "evaluated in its fastest form, which repeats the module's scores and gradients"
        return self._engine_note or usual

    def settle_second_order(self, x: Tensor, weights: Tensor, v: Tensor) -> None:
        """Before second derivatives are used: the plain module where the engine has other ones.

        Compared once, on one product of the Hessian of sum_k weights_ik F_k at points of use.

        x: (n, C, H, W), one or two points; weights: (n, classes); v: (1, C, H, W).
        """
        if self._second_order_checked or self._engine is self.module:
            return
        with self.smoothing:
            reason = hessian_difference(self._engine, self.module, x, weights, v)
        if reason:
            self._engine = self.module
            self._engine_note = f"evaluated as the plain module ({reason})"
            self.traces.clear()
        self._second_order_checked = True

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

    def batch_size(self, given: int | None = None) -> int:
        """Images per pass: as given, or from the network's activations and the memory.

        Raises:
            InputError: given < 1.
        """
        if given is not None and given < 1:
            raise InputError(f"batch_size={given} must be at least 1, or None for the default.")
        size = given or default_batch_size(self.device, self.bytes_per_image)
        return self.limit.limited(size)

    @cached_property
    def is_piecewise_linear(self) -> bool:
        """Whether the exact Hessian is zero almost everywhere (ReLU, max-pooling, linear).

        Probed in float64: the gradient of a piecewise-linear network repeats to rounding under a
        tiny step, at images of every kind. Where the network does not run in float64, its exact
        Hessian products are looked at; where it has none, True if it calls a non-smooth function.
        A smoothed network is not piecewise linear, however sharp.
        """
        if self._beta is not None and kinks(self._engine, self._probe(1))[0]:
            return False
        return piecewise_linear(self)

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

    def computed_like(self, other: "Classifier") -> "Classifier":
        """The network in the manner of another one on its device: smoothing, TF32, batches."""
        net = self
        if other._beta is not None:
            net = self.smoothed(other._beta)
            net.name = self.name
        net.tf32, net.limit = other.tf32, other.limit
        return net

    @property
    def smoothing(self) -> AbstractContextManager[Any]:
        """The context in which `module` gives the network's scores, smoothed where they are."""
        return nullcontext() if self._beta is None else SmoothActivations(self._beta)

    def _with_softplus(self, beta: float, dtype: torch.dtype | None = None) -> "Classifier":
        smooth = self.to(dtype=dtype)
        smooth._beta = float(beta)
        smooth.name = f"{self.name}-softplus{beta:g}"
        smooth.__dict__.pop("kinks", None)
        smooth.__dict__.pop("behaviour", None)
        return smooth

    @cached_property
    def _keeps_kinks(self) -> bool:
        """Whether the gradient still jumps where all calls that have a smooth form are smooth.

        At a beta of 1 they are smooth at any scale of interest, so that it is other calls that
        make the jumps.
        """
        found = keeps_jumps(lambda dtype: self._with_softplus(1.0, dtype), self._probe(2))
        return bool(kinks(self._engine, self._probe(1))[1]) if found is None else found

    @property
    def weights_sha256(self) -> str:
        """Checksum (hex) of weights, buffers, normalisation, kinds of layers and beta.

        It is taken over the values as they are used, so it does not depend on the file format
        they came in; float32 and float64 copies differ. What a `forward` computes beyond its
        layers (a functional activation, a constant) is not part of it: see `behaviour`.
        """
        return checksum(self._raw, self.module, self._beta)

    @cached_property
    def behaviour(self) -> tuple[float, ...]:
        """32 numbers that tell whether a network computes the same: scores at four fixed images.

        Eight fixed sums of the scores with random signs, less their means over the images, so that
        a class that is switched off by a constant has no part in them. To be compared with a
        tolerance: rounding differs between machines.
        """
        with torch.inference_mode(False), torch.no_grad():
            scores = self.scores(self._probe(4)).double().cpu()
        generator = torch.Generator().manual_seed(0)
        signs = torch.randint(0, 2, (self.num_classes, 8), generator=generator).double() * 2 - 1
        sums = (scores - mean_of_classes(scores)) @ signs
        return tuple(float(f"{value:.7g}") for value in sums.flatten())

    def __repr__(self) -> str:
        return (
            f"Classifier({self.name!r}, {self.num_classes} classes, input {self.input_shape}, "
            f"bounds {self.bounds}, {self.dtype}, {self.device})"
        )

    # How it is built

    def _probe(self, n: int) -> Tensor:
        """A few random images in the bounds, always the same."""
        x = uniform_noise(n, self.input_shape, self.bounds)
        return x.to(device=self.device, dtype=self.dtype)

    def _probe_images(self) -> Tensor:
        """Images of several kinds, on which engines are compared."""
        x = probe_images(self.input_shape, self.bounds).images
        return x.to(device=self.device, dtype=self.dtype)
