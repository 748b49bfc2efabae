"""The affine beginning of a network, found in a trace of its calls.

z = A x + b is the last value that the network computes from the image by affine operations which
treat every image alike (normalisation, first convolution or linear layer) and through which all
else goes.
"""

import torch
from torch import Tensor, fx
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx

from geomadv.classifier import Classifier
from geomadv.curvature.attention import plain_attention
from geomadv.curvature.convolutions import convolution

_ATEN = torch.ops.aten
_ELEMENTWISE = {_ATEN.sub.Tensor, _ATEN.add.Tensor, _ATEN.div.Tensor, _ATEN.mul.Tensor}
# Affine in the first argument where the others are constants without a batch dimension.
_AFFINE = {
    *_ELEMENTWISE,
    _ATEN.convolution.default,
    _ATEN.constant_pad_nd.default,
    _ATEN.clone.default,
}
_RESHAPE = {_ATEN.view.default, _ATEN._unsafe_view.default, _ATEN.reshape.default}


class TracedStem:
    """A network cut behind its affine beginning, by a trace on batches of one size.

    Raises:
        RuntimeError, and other errors of the tracer: the calls depend on the image's values.
    """

    def __init__(self, net: Classifier, x: Tensor) -> None:
        net = net.aside()
        with plain_attention(), torch.no_grad():
            traced = make_fx(functionalize(lambda images: net.scores(images)))(x)
        traced.graph.eliminate_dead_code()
        self._stem, self.rest = _split(traced, _cut(traced.graph, len(x)))
        self._point = torch.zeros_like(x[:1])

    def enter(self, x: Tensor) -> Tensor:
        """Images (n, C, H, W) -> z (n, ...)."""
        with torch.no_grad():
            return _channels_last(self._stem(x))

    def push(self, v: Tensor) -> Tensor:
        """A v of vectors (n, C, H, W) -> (n, ...), as the adjoint of the adjoint."""
        with torch.enable_grad():
            x = self._point.expand(len(v), *self._point.shape[1:]).detach().requires_grad_()
            z = self._stem(x)
            t = torch.zeros_like(z).requires_grad_()
            (pulled,) = torch.autograd.grad(z, x, t, create_graph=True)
            (pushed,) = torch.autograd.grad(pulled, t, v)
        return _channels_last(pushed)

    def pull(self, t: Tensor) -> Tensor:
        """A^T t of vectors (n, ...) -> (n, C, H, W)."""
        with torch.enable_grad():
            x = self._point.expand(len(t), *self._point.shape[1:]).detach().requires_grad_()
            (pulled,) = torch.autograd.grad(self._stem(x), x, t)
        return pulled


def _channels_last(z: Tensor) -> Tensor:
    """Feature maps in the layout in which convolutions and pooling are fastest."""
    return z.contiguous(memory_format=torch.channels_last) if z.ndim == 4 else z


def _cut(graph: fx.Graph, batch: int) -> list[fx.Node]:
    """The affine nodes up to the last one through which all that depends on the image goes."""
    (image,) = [node for node in graph.nodes if node.op == "placeholder"]
    affine, cut = [image], [image]
    for node in graph.nodes:
        if _is_affine(node, set(affine), batch):
            users = {user for member in affine for user in member.users}
            affine.append(node)
            if users <= set(affine):
                cut = affine.copy()
    return cut


def _is_affine(node: fx.Node, affine: set[fx.Node], batch: int) -> bool:
    if node.op != "call_function" or node.args[:1] == () or node.kwargs.get("alpha"):
        return False
    if node.target is _ATEN.addmm.default:
        bias, value, weight = node.args
        return value in affine and _constant(bias) and _constant(weight)
    if node.args[0] not in affine:
        return False
    if node.target in _RESHAPE:
        return bool(node.args[1][0] == batch)  # type: ignore[index]
    if node.target is _ATEN.mm.default or node.target in _AFFINE:
        each = node.target in _ELEMENTWISE
        return all(_constant(a) and not (each and _by_image(node, a)) for a in node.args[1:])
    return False


def _by_image(node: fx.Node, argument: object) -> bool:
    """Whether a constant has a row for each image of a batch, as maps that a layer keeps have."""
    if not isinstance(argument, fx.Node) or argument.op != "get_attr":
        return False
    kept = getattr(node.graph.owning_module, str(argument.target))
    return bool(kept.ndim == node.meta["val"].ndim and len(kept) > 1)


def _constant(argument: object) -> bool:
    """Numbers and parameters, possibly transposed."""
    if not isinstance(argument, fx.Node):
        return True
    if argument.op == "call_function" and argument.target is _ATEN.t.default:
        return _constant(argument.args[0])
    return argument.op == "get_attr"


def _split(traced: fx.GraphModule, affine: list[fx.Node]) -> tuple[fx.GraphModule, fx.GraphModule]:
    """The graphs image -> z, for any batch size, and z -> scores."""
    before, after = fx.Graph(), fx.Graph()
    first: dict[fx.Node, fx.Node] = {}
    second = {affine[-1]: after.placeholder("z")}
    for node in traced.graph.nodes:
        if node in affine or _constant(node):
            first[node] = copy = before.node_copy(node, lambda n: first[n])
            if copy.target in _RESHAPE:
                copy.args = (copy.args[0], [-1, *copy.args[1][1:]])  # type: ignore[misc, index]
        if node not in affine:
            second[node] = copy = after.node_copy(node, lambda n: second[n])
        if copy.target in _RESHAPE:
            # A view for the layout of the trace may be none for another one.
            copy.target = _ATEN.reshape.default
        if copy.target is _ATEN.convolution.default and _constant(node.args[1]):
            copy.target = convolution
    before.output(first[affine[-1]])
    for graph in (before, after):
        graph.eliminate_dead_code()
    return fx.GraphModule(traced, before), fx.GraphModule(traced, after)
