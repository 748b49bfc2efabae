"""Batch-norm folding: the same network with fewer operations."""

import copy

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from geomadv.classifier.normalised import copied, has_hooks, numbers


def _fuse(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Module:
    """One convolution in place of two layers, fused in float64 so that rounding does not grow."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale, shift = (None if t is None else t.double() for t in (norm.weight, norm.bias))
    weight, bias = fuse_conv_bn_weights(
        convolution.weight.double(),
        None if convolution.bias is None else convolution.bias.double(),
        norm.running_mean.double(),
        norm.running_var.double(),
        norm.eps,
        scale,
        shift,
    )
    fused = copy.copy(convolution)
    fused._parameters = {
        name: nn.Parameter(t.detach().to(convolution.weight.dtype), requires_grad=False)
        for name, t in (("weight", weight), ("bias", bias))
    }
    return fused


def _plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """A layer that does what its class says: no subclass, parametrisation or hook."""
    return type(module) is kind and not has_hooks(module)


def _pairs(graph: fx.Graph, modules: dict[str, nn.Module]) -> list[tuple[fx.Node, fx.Node]]:
    """Batch-norms, called once, whose only input is a convolution that nobody else reads."""
    calls = [node for node in graph.nodes if node.op == "call_module"]
    # A layer may have several names: what counts is how often it itself is called.
    called = [id(modules[str(node.target)]) for node in calls]
    found = []
    for node in calls:
        norm, source = modules[str(node.target)], node.args[0] if node.args else None
        if not (
            _plain(norm, nn.BatchNorm2d)
            and norm.track_running_stats
            and isinstance(source, fx.Node)
            and source.op == "call_module"
            and len(source.users) == 1
        ):
            continue
        convolution = modules[str(source.target)]
        once = called.count(id(norm)) == 1 == called.count(id(convolution))
        if _plain(convolution, nn.Conv2d) and once:
            found.append((source, node))
    return found


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """A module with each Conv2d + BatchNorm2d pair as one convolution; itself where it cannot.

    Layers with hooks stay, and so does a network in which a larger part has one: a trace would
    pass it by. Tracing a foreign network can fix a choice that depends on the input: what comes
    back is to be compared with the module before it is used.
    """
    if not any(_plain(m, nn.BatchNorm2d) and m.track_running_stats for m in module.modules()):
        return module
    if any(has_hooks(m) and not _is_layer(m) for m in module.modules()):
        return module
    try:
        root = copied(module, numbers(module))
        graph = fx.Tracer().trace(root)
        modules = dict(root.named_modules(remove_duplicate=False))
        pairs = _pairs(graph, modules)
        for i, (source, node) in enumerate(pairs):
            convolution, norm = modules[str(source.target)], modules[str(node.target)]
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            # Under a name of its own: the weights may be read elsewhere.
            root.add_module(f"folded_{i}", _fuse(convolution, norm))
            source.target = f"folded_{i}"
            node.replace_all_uses_with(source)
            graph.erase_node(node)
        folded = fx.GraphModule(root, graph)
        folded.graph.lint()
        # torch prints the trace of whatever fails inside; here that is tried, and noted.
        type(folded).__call__ = nn.Module.__call__  # type: ignore[method-assign]
    except Exception:  # tracing runs foreign code: whatever it raises, the module still works
        return module
    return folded.eval().requires_grad_(False) if pairs else module


def _is_layer(module: nn.Module) -> bool:
    """Whether a trace keeps the module as it is, hooks and all."""
    return fx.Tracer().is_leaf_module(module, "")
