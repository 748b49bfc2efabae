"""Memory that runs out: half the batches, the same results, nothing lost."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import geomadv as ga
from geomadv.classifier.precision import gpu_arithmetic
from geomadv.errors import InputError, SmallerBatchWarning

SHAPE = (1, 4, 4)


class Hungry(nn.Module):
    """A small network whose memory suffices for `most` images, of which the test decides."""

    most: float = float("inf")
    error: type[RuntimeError] | None = None
    passes = 0

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.first = nn.Parameter(torch.randn(16, 12, generator=generator) / 4)
        self.last = nn.Parameter(torch.randn(12, 4, generator=generator) / 3)

    def forward(self, x: Tensor) -> Tensor:
        Hungry.passes += 1
        if len(x) > Hungry.most:
            if Hungry.error is None:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            raise Hungry.error("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: no memory")
        return (x.flatten(1) @ self.first).tanh() @ self.last


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> ga.Classifier:
    monkeypatch.setattr(Hungry, "most", float("inf"))
    monkeypatch.setattr(Hungry, "error", None)
    return ga.Classifier(Hungry(), SHAPE, dtype=torch.float64)


def images(n: int = 24) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))


CALLS: dict[str, Any] = {
    "deepfool": lambda net: ga.deepfool(net, images()).delta,
    "boundary_points": lambda net: ga.boundary_points(net, images()).points,
    "fgsm": lambda net: ga.fgsm(net, images(), 0.1).delta,
    "saliency": lambda net: ga.saliency(net, images()),
    "universal": lambda net: ga.universal_perturbation(net, images(), 1.0, passes=2).delta,
    "hessian": lambda net: torch.from_numpy(
        ga.mean_hessian(net, ga.boundary_points(net, images())) @ np.eye(16)
    ),
}


@pytest.mark.parametrize("error", [None, RuntimeError])
@pytest.mark.parametrize("call", CALLS)
def test_half_the_batches_give_the_same_and_say_so(
    call: str, error: type[RuntimeError] | None, net: ga.Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = CALLS[call](net)
    monkeypatch.setattr(Hungry, "most", 7)
    monkeypatch.setattr(Hungry, "error", error)
    with pytest.warns(SmallerBatchWarning, match="out of memory on cpu at .* images a pass"):
        found = CALLS[call](net)
    # Sums of 16 numbers of order 1 in float64, over some tens of steps.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    assert net.limit.most is not None
    # A pass may hold the three rivals of every image.
    assert 7 / 3 / 2 < net.limit.most <= 7
    with warnings.catch_warnings():
        warnings.simplefilter("error", SmallerBatchWarning)
        CALLS[call](net)  # it is remembered


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    net: ga.Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Hungry, x: Tensor) -> Tensor:
        Hungry.passes += 1
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Hungry, "passes", 0)
    monkeypatch.setattr(Hungry, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        ga.deepfool(net, images())
    assert Hungry.passes == 1


def test_memory_for_less_than_one_image_is_refused(
    net: ga.Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hungry, "most", 0)
    with pytest.raises(InputError, match=r"one image at a time\. Free some of it, .*--device cpu"):
        ga.deepfool(net, images())


def test_a_smoothed_network_and_its_original_share_what_they_learned(
    net: ga.Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    smooth, single = net.smoothed(), net.to(dtype=torch.float32)
    monkeypatch.setattr(Hungry, "most", 5)
    with pytest.warns(SmallerBatchWarning):
        ga.fgsm(smooth, images(), 0.1)
    assert net.batch_size(64) == smooth.batch_size(64) <= 5
    assert single.batch_size(64) <= 5


def test_a_run_goes_on_with_half_the_batches_and_keeps_what_is_done(
    net: ga.Classifier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    labels = net.predict(images(40).double()).tolist()
    given = {
        split: ga.ImageSet(part, labels[first : first + 20], name=split)
        for split, first, part in (
            ("train", 0, images(40)[:20]),
            ("test", 20, images(40)[20:]),
        )
    }
    names = {"relative_norms": (0.2, 0.5), "dimensions": (1, 2), "draws": 2}
    run = {"net": net, "images": given, "progress": False}
    expected = ga.run("random_subspace_fooling", results=tmp_path / "a", **run, **names)
    ga.run("normal_svd", results=tmp_path / "b", **run)
    monkeypatch.setattr(Hungry, "most", 6)
    found = ga.run("random_subspace_fooling", results=tmp_path / "b", **run, **names)
    assert "out of memory on cpu" in capsys.readouterr().out
    np.testing.assert_array_equal(found["fooling_rate"], expected["fooling_rate"])


@pytest.mark.parametrize("tf32", [False, True])
def test_arithmetic_on_a_gpu_is_set_and_given_back(tf32: bool) -> None:
    def state() -> list[Any]:
        matmul: Any = torch.backends.cuda.matmul
        return [
            matmul.allow_tf32,
            torch.backends.cudnn.allow_tf32,
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
        ]

    before = state()
    with gpu_arithmetic(tf32):
        matmul: Any = torch.backends.cuda.matmul
        if hasattr(matmul, "fp32_precision"):
            cudnn: Any = torch.backends.cudnn
            kinds = {matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision}
            assert kinds == {"tf32" if tf32 else "ieee"}
        else:
            assert state()[:2] == [tf32, tf32]
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
    assert state() == before


def test_tf32_is_refused_where_there_is_none(net: ga.Classifier) -> None:
    with pytest.raises(InputError, match=r"--tf32: .*float64 on cpu; TF32 needs float32 on an NV"):
        net.with_tf32()
