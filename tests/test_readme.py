"""What the README shows works as it stands there."""

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from PIL import Image

import geomadv as ga
from geomadv.cli import main
from geomadv.pipeline import EXPERIMENTS

MODELS = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x):
        return torch.relu(x + self.bn(self.conv(x)))


class ResNet(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.layer = nn.Sequential(Block(8), Block(8))
        self.linear = nn.Linear(8, classes)

    def forward(self, x):
        x = self.layer(torch.relu(self.stem(x)))
        return self.linear(x.mean((2, 3)))


def resnet():
    return ResNet()
"""


def command(words: str) -> list[str]:
    """The arguments of the README's command that contains the words."""
    lines = (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
    (found,) = (line for line in lines if line.startswith("    geomadv ") and words in line)
    return shlex.split(found, comments=True)[1:]


def test_a_checkpoint_and_a_folder_of_pngs_need_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "models", raising=False)
    Path("models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(str(tmp_path))
    import models  # type: ignore[import-not-found]

    module = models.resnet()
    # Scores that depend on the image, as after training.
    with torch.no_grad():
        module.linear.weight.mul_(20)
    optimiser = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    state = {f"module.{name}": value for name, value in module.state_dict().items()}
    saved = {"net": state, "optimizer": optimiser.state_dict(), "acc": 93.1, "epoch": 17}
    torch.save(saved, "best.pth")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "eel"):
        Path("pngs", name).mkdir(parents=True)
        for k in range(4):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(Path("pngs", name, f"{k}.png"))
    assert main(command("--weights best.pth")) == 0
    boundary, svd = (ga.load(f"results/models.resnet/{n}.h5") for n in ("boundary", "normal_svd"))
    assert boundary.sizes["sample"] == 6  # half of them, in which the directions are sought
    assert boundary["converged"].any()
    assert np.isfinite(svd["singular_value"]).all()
    assert "--weights best.pth" in boundary.attrs["command"]
    sys.modules.pop("models", None)


def test_the_array_for_slurm_runs_everything_once_and_in_order() -> None:
    text = (REPOSITORY / "docs" / "slurm.sh").read_text()
    groups = text.split("groups=(")[1].split(")")[0]
    names = groups.replace('"', " ").split()
    table = {e.name: e for e in EXPERIMENTS}
    assert len(names) == len(set(names))
    assert set(names) == {name for name, e in table.items() if e.in_paper}
    first = groups.strip().splitlines()[0].replace('"', "").split()
    for line in groups.strip().splitlines()[1:]:
        own = line.replace('"', "").split()
        for name in own:
            assert {*table[name].inputs} <= {*first, *own[: own.index(name)]}
