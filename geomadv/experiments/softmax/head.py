"""Where the features of a network's last linear step are, and how to put others in their place."""

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from geomadv.classifier import Classifier
from geomadv.errors import InputError, LackingError

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

# So many values before the last product are tried for all that the scores depend on.
_LOOKED_BACK = 32


class Tap(Protocol):
    """One place in a network's forward pass."""

    def __call__(self, x: Tensor, swap: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What is there (N, ...) for images (N, C, H, W), and the scores (N, m).

        swap: goes on with this in its place.
        """
        ...


# A tensor in a forward pass: which function gives it, at which of its calls, among what it gives.
_Place = tuple[Any, int, int]


class _Calls(TorchFunctionMode):
    """Watches one place in a forward pass, and may put something else there."""

    def __init__(self, watched: _Place | None = None, swap: Tensor | None = None) -> None:
        super().__init__()
        self.watched, self.swap = watched, swap
        self.calls: Counter[Any] = Counter()
        self.given: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.watched is not None and self.watched[:2] == (func, self.calls[func]):
            self.given = given = _tensors(result)[self.watched[2]]
            if self.swap is not None:
                result = tree_map(lambda t: self.swap if t is given else t, result)
        self.calls[func] += 1
        return result


class _Products(_Calls):
    """Finds what the last product of something of the image with weights multiplies."""

    def __init__(self) -> None:
        super().__init__()
        # What depends on the image, in order, by id; kept, or the ids would be used again.
        self.made: dict[int, tuple[_Place, Tensor]] = {}
        self.operand: int | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _PRODUCTS:
            operands = _tensors((args, kwargs or {}))
            moving = [t for t in operands if t.requires_grad]
            if len(moving) == 1 and len(operands) > 1:
                self.operand = id(moving[0])
        call = self.calls[func]
        result = super().__torch_function__(func, types, args, kwargs)
        for k, t in enumerate(_tensors(result)):
            if t.requires_grad:
                self.made.pop(id(t), None)
                self.made[id(t)] = (func, call, k), t
        return result


def _tensors(values: Any) -> list[Tensor]:
    return [t for t in tree_leaves(values) if isinstance(t, Tensor)]


class ProductTap:
    """What the last product with weights reads, in a pass of `Classifier.scores`.

    Found among the calls that a pass makes, so it does not matter which module makes them. Where
    the scores depend on the image beside that product (on a sum of two, say), it is the last value
    before it on which all of them depend.
    """

    def __init__(self, net: Classifier, x: Tensor) -> None:
        """x: one image (1, C, H, W). Raises LackingError where there is no such product."""
        self.net = net
        self.name = "the last product with weights"
        ran: list[nn.Module] = []

        def note(module: nn.Module, args: Any, output: Any) -> None:
            if next(module.children(), None) is None:
                ran.append(module)

        handle = register_module_forward_hook(note)
        try:
            # What depends on the image is what its gradient goes through.
            image = x.detach().clone().requires_grad_()
            with torch.enable_grad(), _Products() as products:
                net.scores(image.view_as(image))
        finally:
            handle.remove()
        self.ran_last = f"the module that ran last is {ran[-1]}" if ran else "it runs no modules"
        if products.operand is None:
            raise LackingError(
                f"network {net.name!r} does not end in a linear layer: it multiplies no features "
                f"of the image by weights; {self.ran_last}. {REMEDY}"
            )
        self._watched = self._bottleneck(x, products)

    def _bottleneck(self, x: Tensor, products: _Products) -> _Place:
        """The last place up to the product's operand without which no score sees the image."""
        places = [place for place, _ in products.made.values()]
        operand = products.made[products.operand or 0][0]
        places = places[: places.index(operand) + 1]
        image = x.detach().clone().requires_grad_()
        for self._watched in reversed(places[-_LOOKED_BACK:]):
            with torch.enable_grad():
                given = self(image)[0]
                if not self(image, given.detach())[1].requires_grad:
                    return self._watched
        return operand

    def __call__(self, x: Tensor, swap: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As in `Tap`."""
        with _Calls(self._watched, swap) as calls:
            # A product may read the image itself, which a call must give.
            scores = self.net.scores(x.view_as(x))
        assert calls.given is not None
        return calls.given, scores


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
