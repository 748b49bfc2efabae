"""Batch-norm folding: the same network with fewer operations."""

import copy

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def _fuse(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Module:
    """One convolution in place of two layers, fused in float64 so that rounding does not grow."""
    dtype = next(convolution.parameters()).dtype
    return fuse_conv_bn_eval(copy.deepcopy(convolution).double(), copy.deepcopy(norm).double()).to(
        dtype
    )


def _pairs(graph: fx.GraphModule) -> list[tuple[fx.Node, fx.Node]]:
    """Batch-norm nodes whose only input is a convolution that nobody else reads."""
    modules = dict(graph.named_modules())
    found = []
    for node in graph.graph.nodes:
        if node.op != "call_module" or not isinstance(modules[str(node.target)], nn.BatchNorm2d):
            continue
        source = node.args[0]
        if (
            isinstance(source, fx.Node)
            and source.op == "call_module"
            and isinstance(modules[str(source.target)], nn.Conv2d)
            and len(source.users) == 1
        ):
            found.append((source, node))
    return found


def fold_batch_norm(module: nn.Module, probe: Tensor) -> nn.Module:
    """The module with each Conv2d + BatchNorm2d pair as one convolution; itself where it cannot.

    Tracing a foreign network can fail, or fix a choice that depends on the input; the folded
    network is used only if it repeats the scores on `probe` to rounding.
    """
    if not any(isinstance(m, nn.BatchNorm2d) and m.track_running_stats for m in module.modules()):
        return module
    try:
        graph = fx.symbolic_trace(copy.deepcopy(module))
        modules = dict(graph.named_modules())
        calls = [str(n.target) for n in graph.graph.nodes if n.op == "call_module"]
        for source, node in _pairs(graph):
            if calls.count(str(source.target)) > 1 or calls.count(str(node.target)) > 1:
                continue
            convolution, norm = modules[str(source.target)], modules[str(node.target)]
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            graph.add_submodule(str(source.target), _fuse(convolution, norm))
            node.replace_all_uses_with(source)
            graph.graph.erase_node(node)
        graph.recompile()
        graph.delete_all_unused_submodules()
        graph.eval().requires_grad_(False)
        with torch.no_grad():
            expected, got = module(probe), graph(probe)
    except Exception:  # tracing runs foreign code: whatever it raises, the module still works
        return module
    # Rounding of a network some tens of layers deep, relative to its largest score.
    tolerance = 1e3 * torch.finfo(expected.dtype).eps * expected.abs().amax()
    return graph if torch.all((expected - got).abs() <= tolerance) else module
