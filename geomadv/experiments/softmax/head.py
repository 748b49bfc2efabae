"""Where the features of a network's last linear step are, and how to put others in their place."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from geomadv.classifier import Classifier
from geomadv.errors import InputError

# Calls that are linear in each tensor they multiply.
_PRODUCTS: set[Callable[..., Any]] = {
    F.linear,
    *(torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm, torch.inner),
    *(torch.einsum, torch.tensordot),
    *(F.conv1d, F.conv2d, F.conv3d),
    *(torch.Tensor.matmul, torch.Tensor.mm, torch.Tensor.bmm, torch.Tensor.addmm),
    *(torch.Tensor.baddbmm, torch.Tensor.inner, torch.Tensor.__matmul__),
    torch.Tensor.__rmatmul__,
}


class Tap(Protocol):
    """One place in a network's forward pass."""

    def __call__(self, x: Tensor, swap: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What is there (N, ...) for images (N, C, H, W), and the scores (N, m).

        swap: goes on with this in its place.
        """
        ...


class _Products(TorchFunctionMode):
    """Counts the products of a forward pass; watches an operand of one, and may replace it."""

    def __init__(self, watched: tuple[int, int] | None = None, swap: Tensor | None = None) -> None:
        super().__init__()
        self.watched, self.swap = watched, swap
        self.calls = 0
        self.last: tuple[int, int] | None = None
        self.given: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _PRODUCTS:
            operands = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
            moving = [k for k, t in enumerate(operands) if t.requires_grad]
            if len(moving) == 1 and len(operands) > 1:
                self.last = self.calls, moving[0]
            if self.watched is not None and self.watched[0] == self.calls:
                self.given = given = operands[self.watched[1]]
                if self.swap is not None:
                    args, kwargs = tree_map(
                        lambda t: self.swap if t is given else t, (args, kwargs)
                    )
            self.calls += 1
        return func(*args, **kwargs)


class ProductTap:
    """The images' part of the last product with weights, in a pass of `Classifier.scores`.

    Found among the calls that a pass makes, so it does not matter which module makes them.
    """

    def __init__(self, net: Classifier, x: Tensor) -> None:
        """x: one image (1, C, H, W). Raises InputError where there is no such product."""
        self.net = net
        self.name = "the last product with weights"
        ran: list[nn.Module] = []

        def note(module: nn.Module, args: Any, output: Any) -> None:
            if next(module.children(), None) is None:
                ran.append(module)

        handle = register_module_forward_hook(note)
        try:
            # What depends on the image is what its gradient goes through.
            with torch.enable_grad(), _Products() as products:
                net.scores(x.detach().clone().requires_grad_())
        finally:
            handle.remove()
        self.ran_last = f"the module that ran last is {ran[-1]}" if ran else "it runs no modules"
        if products.last is None:
            raise InputError(
                f"network {net.name!r} does not end in a linear layer: it multiplies no features "
                f"of the image by weights; {self.ran_last}. {REMEDY}"
            )
        self._watched = products.last

    def __call__(self, x: Tensor, swap: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As in `Tap`."""
        with _Products(self._watched, swap) as products:
            scores = self.net.scores(x)
        assert products.given is not None
        return products.given, scores


class ModuleTap:
    """The input of a module that is called once, in a pass of the unfolded network."""

    def __init__(self, net: Classifier, layer: str) -> None:
        """layer: dotted name in the module that the Classifier was made of."""
        self.net = net
        self.name = self.ran_last = f"layer {layer!r}"
        # The module of a Classifier wraps the user's with the normalisation.
        names = dict(net.module.named_modules())
        if f"module.{layer}" not in names or not layer:
            some = [name.removeprefix("module.") for name in names if name.startswith("module.")]
            raise InputError(
                f"layer={layer!r}: network {net.name!r} has no such module; it has "
                f"{', '.join(some[-10:]) or 'none'}. Name one as in named_modules()."
            )
        self._module = names[f"module.{layer}"]

    def __call__(self, x: Tensor, swap: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As in `Tap`."""
        given: list[Tensor] = []

        def hook(module: nn.Module, args: Any, kwargs: Any) -> Any:
            tensor = next((t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)), None)
            if tensor is None:
                return None
            given.append(tensor)
            if swap is None:
                return None
            return tree_map(lambda t: swap if t is tensor else t, (args, kwargs))

        handle = self._module.register_forward_pre_hook(hook, with_kwargs=True)
        try:
            with self.net.smoothing:
                scores: Tensor = self.net.module(x)
        finally:
            handle.remove()
        if len(given) != 1:
            raise InputError(
                f"{self.name} of network {self.net.name!r} is called {len(given)} times on the way "
                "to the scores; name a module that is called once."
            )
        return given[0], scores


REMEDY = (
    "Adversarial directions belong to a softmax layer W g + b of features g: name the module that "
    "begins it with layer=, write the last step as an nn.Linear, or take another network."
)
