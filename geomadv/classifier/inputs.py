"""Images that a network is called with."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomadv.doors import check_device
from geomadv.errors import InputError


def as_images(
    images: Any, shape: tuple[int, int, int], bounds: tuple[float, float], name: str
) -> Tensor:
    """A floating tensor (N, *shape) of a tensor, an array or an object with `images`.

    bounds, name: of the network, for messages.

    Raises:
        InputError: another shape, no image at all, or no floating values.
    """
    images = getattr(images, "images", images)
    if not isinstance(images, Tensor):
        # Flipped views and read-only arrays, which torch does not take, are copied.
        try:
            images = np.require(images, requirements=("C", "W"))
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"images are a {type(images).__name__}, which is no array ({error}); expected an "
                f"array or tensor of shape (N, {', '.join(map(str, shape))}), or an ImageSet."
            ) from error
        if not (np.issubdtype(images.dtype, np.number) or images.dtype == bool):
            raise InputError(
                f"images are an array of {images.dtype}; expected floating values of shape "
                f"(N, {', '.join(map(str, shape))})."
            )
    check_device("images", images)
    x = torch.as_tensor(images)
    if x.shape[1:] != shape:
        hint = " Add the batch dimension: images[None]." if x.shape == shape else ""
        raise InputError(
            f"images have shape {tuple(x.shape)}, but network {name!r} takes "
            f"(N, {', '.join(map(str, shape))}).{hint}"
        )
    if len(x) == 0:
        raise InputError("images: the selection is empty. Give at least one image.")
    if not x.is_floating_point():
        raise InputError(
            f"images are {x.dtype}; give floating values in bounds {bounds}, "
            "for 8-bit images: images / 255."
        )
    # Tensors made in inference mode have no gradients ever.
    return x.clone() if x.is_inference() else x


def check_pixels(x: Tensor, bounds: tuple[float, float], slack: float, name: str) -> None:
    """Pixels of x (N, C, H, W) must be finite and within the bounds, up to slack widths.

    Raises:
        InputError: they are not.
    """
    low, high = x.detach().amin().item(), x.detach().amax().item()
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = (~x.detach().isfinite()).flatten(1).any(1)
        raise InputError(
            f"images: {int(bad.sum())} of {len(x)} contain NaN or infinite pixels, the first "
            f"is number {int(bad.nonzero()[0])}. Remove or repair them."
        )
    margin = slack * (bounds[1] - bounds[0])
    # Data scaled to [-1, 1] exceed bounds (0, 1) by exactly one width: refused as well.
    if low <= bounds[0] - margin or high >= bounds[1] + margin:
        raise InputError(
            f"images span [{low:.3g}, {high:.3g}], outside bounds [{bounds[0]:g}, "
            f"{bounds[1]:g}] of network {name!r}. Pass images un-normalised and in "
            "the bounds (8-bit images divided by 255): mean and std belong to the Classifier."
        )
