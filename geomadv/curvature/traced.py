"""Exact Hessian-vector products, traced once and partly evaluated at every batch of points.

Two backward passes are recorded as one graph of elementary operations in the points z, the weights
of the scores and a vector t. What does not depend on t is evaluated once per batch and kept: what
remains is linear in t and does the work of one tangent of the forward and one of the backward
pass, about one gradient. Elementwise factors along the way are multiplied out beforehand.
"""

from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from geomadv.curvature.attention import plain_attention
from geomadv.curvature.products import Batch, Linearised, Stem

_ATEN = torch.ops.aten
# Linear and elementwise in the first argument.
_SCALINGS = {
    _ATEN.softplus_backward.default,
    _ATEN.sigmoid_backward.default,
    _ATEN.tanh_backward.default,
    _ATEN.gelu_backward.default,
    _ATEN.silu_backward.default,
    _ATEN.elu_backward.default,
    _ATEN.mul.Scalar,
    _ATEN.div.Scalar,
    _ATEN.neg.default,
}
_ZEROS = {_ATEN.zeros.default, _ATEN.zeros_like.default, _ATEN.new_zeros.default}


class Traced:
    """Exact products by a traced and specialised double backward pass.

    Raises:
        RuntimeError, and other errors of the tracer: the rest of the network has no second
            derivatives or its calls depend on values.
    """

    def __init__(self, stem: Stem, batch: Batch) -> None:
        z = stem.enter(batch.x)
        with plain_attention():
            graph = make_fx(_double_backward(stem))(z, batch.weights, z[:1])
        graph.graph.eliminate_dead_code()
        self._fixed, self._linear = _Specialiser(graph).split()

    def __call__(self, stem: Stem, batch: Batch) -> Linearised:
        """One evaluation of what does not depend on the vector."""
        with torch.no_grad():
            kept = self._fixed(stem.enter(batch.x), batch.weights)

        def apply(t: Tensor) -> Tensor:
            with torch.no_grad():
                product: Tensor = self._linear(t, *kept)
            return product

        return Linearised(apply, _storage_bytes(kept))


def _double_backward(stem: Stem) -> Any:
    def product(z: Tensor, weights: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            z = z.requires_grad_()
            value = (stem.rest(z) * weights).sum()
            (gradient,) = torch.autograd.grad(value, z, create_graph=True)
            (result,) = torch.autograd.grad(gradient, z, t.expand_as(gradient))
        return result

    return product


def _storage_bytes(tensors: tuple[Tensor, ...]) -> int:
    """Memory of the tensors; views share theirs."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


class _Specialiser:
    """Splits a graph in (z, weights, t) into what is fixed and what is linear in t.

    A linear value is held as a pair (base, factor): a node of the linear graph and an elementwise
    factor in the fixed one, None for 1. The factor is multiplied only where another operation
    needs the value, so that chains of elementwise operations cost one multiplication.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self.fixed, self.linear = fx.Graph(), fx.Graph()
        self.known: dict[fx.Node, fx.Node] = {}  # node -> its copy in the fixed graph
        self.pairs: dict[fx.Node, tuple[fx.Node, fx.Node | None]] = {}
        self.products: dict[tuple[fx.Node, fx.Node], fx.Node] = {}  # node -> base times factor
        self.inputs: dict[fx.Node, fx.Node] = {}  # fixed node -> placeholder of the linear graph
        self.constants: dict[fx.Node, fx.Node] = {}

    def split(self) -> tuple[fx.GraphModule, fx.GraphModule]:
        """The modules (z, weights) -> kept, (t, *kept) -> product."""
        placeholders = [n for n in self.module.graph.nodes if n.op == "placeholder"]
        *points, vector = placeholders
        for node in points:
            self.known[node] = self.fixed.node_copy(node)
        self.pairs[vector] = (self.linear.node_copy(vector), None)
        for node in self.module.graph.nodes:
            if node.op in ("call_function", "get_attr"):
                self._place(node)
        (output,) = [n for n in self.module.graph.nodes if n.op == "output"]
        result: Any = output.args[0]
        self.linear.output(self._value(result))
        return self._modules()

    def _place(self, node: fx.Node) -> None:
        if not any(n in self.pairs for n in node.all_input_nodes):
            self.known[node] = self.fixed.node_copy(node, lambda n: self.known[n])
        elif not (self._scale(node) or self._add(node)):
            copy = self.linear.node_copy(node, self._operand)
            self.pairs[node] = (copy, None)

    def _scale(self, node: Any) -> bool:
        """Takes an elementwise factor into the pair; False if this is none."""
        values = [n for n in node.all_input_nodes if n in self.pairs]
        if len(values) != 1 or _shape(values[0]) != _shape(node) or node.kwargs:
            return False
        base, factor = self.pairs[values[0]]
        others = [self.known.get(a, a) for a in node.args if a is not values[0]]
        tensors = [a for a in others if isinstance(a, fx.Node)]
        if len(others) != len(node.args) - 1 or not (tensors or factor):
            return False
        if node.target in (_ATEN.mul.Tensor, _ATEN.mul.Scalar):
            new = others[0] if factor is None else self._fix(node.target, factor, others[0])
        elif node.args[0] is values[0] and node.target in _SCALINGS:
            ones = factor or self._fix(_ATEN.ones_like.default, tensors[0])
            new = self._fix(node.target, ones, *others)
        else:
            return False
        self.pairs[node] = (base, new)
        return True

    def _add(self, node: Any) -> bool:
        """Takes a sum of two linear values, or of one and zeros; False if this is none."""
        if node.target is not _ATEN.add.Tensor or node.kwargs:
            return False
        terms = [n for n in node.args if not _is_zero(n)]
        if any(n not in self.pairs or _shape(n) != _shape(node) for n in terms):
            return False
        if len(terms) == 1:
            self.pairs[node] = self.pairs[terms[0]]
            return True
        # A term with a factor comes last: its product is fused with the sum.
        one, two = sorted(terms, key=lambda n: self.pairs[n][1] is not None)
        (base_one, factor_one), (base, factor) = self.pairs[one], self.pairs[two]
        if factor is None:
            return False
        if base_one is base and factor_one is not None:
            self.pairs[node] = (base, self._fix(_ATEN.add.Tensor, factor_one, factor))
        else:
            total = (self._value(one), base, self._input(factor))
            self.pairs[node] = (self.linear.call_function(_ATEN.addcmul.default, total), None)
        return True

    def _fix(self, target: Any, *arguments: Any) -> fx.Node:
        return self.fixed.call_function(target, arguments)

    def _operand(self, node: fx.Node) -> fx.Node:
        """A node of the linear graph for any value."""
        if node in self.pairs:
            return self._value(node)
        if self._is_constant(node):
            if node not in self.constants:
                self.constants[node] = self.linear.node_copy(node, self._operand)
            return self.constants[node]
        return self._input(self.known[node])

    def _value(self, node: fx.Node) -> fx.Node:
        """A linear value as one node: base times factor."""
        base, factor = self.pairs[node]
        if factor is None:
            return base
        if (base, factor) not in self.products:
            pair = (base, self._input(factor))
            self.products[base, factor] = self.linear.call_function(_ATEN.mul.Tensor, pair)
        return self.products[base, factor]

    def _input(self, node: fx.Node) -> fx.Node:
        """Placeholder of the linear graph for a node of the fixed one."""
        if node not in self.inputs:
            self.inputs[node] = self.linear.placeholder(f"kept_{len(self.inputs)}")
        return self.inputs[node]

    def _is_constant(self, node: fx.Node) -> bool:
        """Whether a value depends on parameters only."""
        return node.op == "get_attr" or (
            node.op == "call_function" and all(map(self._is_constant, node.all_input_nodes))
        )

    def _modules(self) -> tuple[fx.GraphModule, fx.GraphModule]:
        self.linear.eliminate_dead_code()
        kept = []
        for node, placeholder in self.inputs.items():
            if placeholder.users:
                kept.append(node)
            else:
                self.linear.erase_node(placeholder)
        self.fixed.output(tuple(kept))
        self.fixed.eliminate_dead_code()
        return fx.GraphModule(self.module, self.fixed), fx.GraphModule(self.module, self.linear)


def _is_zero(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.target in _ZEROS


def _shape(node: Any) -> Any:
    return getattr(node.meta.get("val"), "shape", None)
