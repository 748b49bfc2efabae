"""On a CUDA device: the numbers of the CPU, bit by bit again, and nothing large on the way."""

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import geomadv as ga
from geomadv.errors import SmallerBatchWarning
from geomadv.experiments.lines.lines import line_answers

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SHAPE = (3, 16, 16)


def module(smooth: bool) -> nn.Module:
    torch.manual_seed(2)
    bend: Callable[[], nn.Module] = nn.Tanh if smooth else nn.ReLU
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        bend(),
        nn.Conv2d(16, 16, 3, stride=2),
        nn.BatchNorm2d(16),
        bend(),
        nn.Flatten(),
        nn.Linear(16 * 49, 10),
    ).eval()


def images(n: int = 48) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(5))


def network(smooth: bool = False, device: str = "cuda", **given: Any) -> ga.Classifier:
    return ga.Classifier(module(smooth), SHAPE, device=device, **given)


Calls = dict[str, Callable[[ga.Classifier], Tensor]]
CALLS: Calls = {
    "deepfool": lambda net: ga.deepfool(net, images()).delta,
    "boundary": lambda net: ga.boundary_points(net, images(), target=1).points,
    "nearest": lambda net: ga.boundary_points(net, images(8), nearest=True).points,
    "saliency": lambda net: ga.saliency(net, images()),
    "universal": lambda net: ga.universal_perturbation(net, images(), 2.0, passes=2).delta,
    "hessian": lambda net: ga.mean_hessian(net, ga.boundary_points(net, images())).products_sum(
        torch.eye(768)[:, :4]
    ),
    "normals": lambda net: (
        ga.normal_svd(ga.boundary_points(net, images()).normals, 20).singular_values
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_float64_numbers_are_those_of_the_cpu(call: str) -> None:
    found, expected = (
        CALLS[call](network(smooth=True, device=d, dtype=torch.float64)) for d in ("cuda", "cpu")
    )
    # Sums of some hundred terms in another order, over at most a hundred steps.
    torch.testing.assert_close(found.cpu(), expected.cpu(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("call", CALLS)
def test_float32_numbers_repeat_bit_by_bit(call: str) -> None:
    first, second = (CALLS[call](network()) for _ in range(2))
    assert torch.equal(first.nan_to_num(), second.nan_to_num())


def test_float32_scores_and_gradients_are_not_those_of_tf32() -> None:
    torch.backends.cudnn.allow_tf32 = True
    net, exact = network(), network(device="cpu", dtype=torch.float64)
    torch.testing.assert_close(net(images()).double().cpu(), exact(images()), rtol=0, atol=1e-5)
    found, expected = (ga.saliency(n, images()).double().cpu() for n in (net, exact))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_tf32_is_on_where_it_is_asked_for_and_says_what_it_costs() -> None:
    net = network()
    fast = net.with_tf32()
    assert "TF32 arithmetic: scores of probe images off by up to" in fast.note
    assert not torch.equal(fast(images()), net(images()))
    torch.testing.assert_close(fast(images()), net(images()), rtol=0, atol=0.05)
    assert "TF32" not in net.note
    assert copy.copy(fast).tf32


@pytest.mark.parametrize("where", ["cuda", "cpu"])
def test_images_subspaces_and_points_come_from_any_device(where: str) -> None:
    net = network()
    x = images().to(where)
    points = ga.boundary_points(net, x)
    moved = type(points)(**{k: v.to(where) for k, v in vars(points).items()})
    assert ga.mean_hessian(net, moved).products_sum(torch.eye(768, 2).to(where)).is_cuda
    inside = ga.Subspace(torch.eye(768, 9).to(where))
    assert ga.deepfool(net, x, subspace=inside).delta.is_cuda


def transferred(run: Callable[[], Any], path: Path) -> int:
    """The largest number of bytes that one copy between host and GPU moves while this runs."""
    run()
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profile:
        run()
        torch.cuda.synchronize()
    profile.export_chrome_trace(str(path))
    events = json.loads(path.read_text())["traceEvents"]
    assert any(event.get("cat") == "kernel" for event in events), "the profiler saw no kernel"
    across = [e for e in events if e.get("cat") == "gpu_memcpy" and "DtoD" not in e["name"]]
    return max((int(e["args"]["bytes"]) for e in across), default=0)


def test_no_image_leaves_the_gpu_inside_loops(tmp_path: Path) -> None:
    net = network()
    x = images(256).cuda()
    points = ga.boundary_points(net, x)
    hessian = ga.mean_hessian(net, points)
    vectors = torch.eye(768, 8, device="cuda")
    unit = torch.eye(2, 768, device="cuda")
    loops: dict[str, Callable[[], Any]] = {
        "deepfool": lambda: ga.deepfool(net, x, batch_size=32),
        "boundary": lambda: ga.boundary_points(net, x, batch_size=32),
        "saliency": lambda: ga.saliency(net, x, batch_size=32),
        "hessian": lambda: hessian.products_sum(vectors),
        "quadratics": lambda: hessian.per_point_quadratic(vectors),
        "universal": lambda: ga.universal_perturbation(net, x, 2.0, passes=1, batch_size=32),
        "lines": lambda: line_answers(net, x, unit, np.linspace(-1, 1, 5), 0, batch_size=32),
    }
    found = {name: transferred(run, tmp_path / f"{name}.json") for name, run in loops.items()}
    # Labels of a batch and indices are allowed, images (3 kB each) are not: but for the universal
    # perturbation, which may be kept after every pass, and the answers along lines at their end.
    most = {"universal": 3072, "lines": 64 * 1024}
    assert all(size <= most.get(name, 1024) for name, size in found.items()), str(found)


def test_memory_that_runs_out_halves_the_batches(tmp_path: Path) -> None:
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Conv2d(3, 512, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    wide(torch.zeros(1, 3, 64, 64))
    net = ga.Classifier(wide.eval(), (3, 64, 64), device="cuda")
    x = torch.rand(1024, 3, 64, 64)
    expected = ga.saliency(net, x, batch_size=8)
    _, total = torch.cuda.mem_get_info()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(3 * 2**30 / total)
    try:
        with pytest.warns(SmallerBatchWarning, match="out of memory on cuda.* going on with"):
            found = ga.saliency(net, x, batch_size=1024)
        with warnings.catch_warnings():
            warnings.simplefilter("error", SmallerBatchWarning)
            ga.saliency(net, x, batch_size=1024)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_an_experiment_gives_the_results_of_the_cpu(tmp_path: Path) -> None:
    for device in ("cuda", "cpu"):
        net = network(smooth=True, device=device, dtype=torch.float64)
        labels = net.predict(images(60)).tolist()
        given = {
            split: ga.ImageSet(images(60)[part], labels[part], name=split)
            for split, part in (("train", slice(0, 30)), ("test", slice(30, 60)))
        }
        ga.run("random_subspace_fooling", net, given, results=tmp_path / device, progress=False)
    for name in ("boundary", "normal_svd", "random_subspace_fooling"):
        found, expected = (
            ga.load(tmp_path / d / "network" / f"{name}.h5") for d in ("cuda", "cpu")
        )
        for variable in ("distance", "value", "fooling_rate"):
            if variable in found:
                np.testing.assert_allclose(found[variable], expected[variable], rtol=1e-6)
