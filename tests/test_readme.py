"""What the README shows works as it stands there."""

import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from PIL import Image

import geomadv as ga
from geomadv import distributed
from geomadv.cli import main
from geomadv.pipeline import EXPERIMENTS, commands, figures

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


def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What users have in their folder: the code of a network, a checkpoint, images by class."""
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


def test_a_checkpoint_and_a_folder_of_pngs_need_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tmp_path, monkeypatch)
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


def first_hour() -> tuple[str, list[list[str]]]:
    """The settings file and the commands of docs/first-hour.md, in the page's order."""
    page = (REPOSITORY / "docs" / "first-hour.md").read_text(encoding="utf-8")
    (file,) = re.findall(r'^```toml title="study.toml"\n(.*?)^```', page, re.MULTILINE | re.DOTALL)
    lines = [line for code in re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S) for line in
             code.splitlines() if line.startswith("geomadv ")]  # fmt: skip
    return file, [shlex.split(line, comments=True)[1:] for line in lines]


def saved_once(save: Callable[..., Path]) -> Callable[..., Path]:
    """Saves the first figure of each name; the next ones get its files."""
    first: dict[str, Path] = {}

    def saved(drawing: object, folder: Path, name: str) -> Path:
        if name not in first:
            first[name] = save(drawing, folder, name)
            return first[name]
        folder.mkdir(parents=True, exist_ok=True)
        for kind in ("csv", "png", "pdf"):
            shutil.copy(first[name].with_suffix(f".{kind}"), folder)
        return folder / first[name].name

    return saved


def test_the_first_hour_runs_as_it_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, printed = first_hour()
    assert [words[0] for words in printed] == [
        *("demo", "check", "plan", "paper", "paper", "report", "list", "show"),
    ]
    prepared(tmp_path, monkeypatch)
    Path("study.toml").write_text(file)
    few, usual = ("train", "boundary", "normal_svd"), commands.paper
    # Of all experiments three, in this process, and each figure saved once; all else as printed.
    monkeypatch.setattr(commands, "paper", lambda words: usual([*words, "--only", *few]))
    monkeypatch.setattr(figures, "save_figure", saved_once(figures.save_figure))
    monkeypatch.setattr(distributed, "forks_are_safe", lambda: False)
    said = {}
    for words in printed:
        cost = [*few] if words[0] == "plan" else []
        assert main([words[0], *cost, *words[1:]]) == 0, capsys.readouterr().err
        said[shlex.join(words)] = capsys.readouterr().out
    assert "accuracy" in said["check --settings study.toml"]
    for out in (said["demo --quick"], said["paper --settings study.toml --quick --results quick"]):
        assert [line.split()[0] for line in out.splitlines() if line.startswith(few)][-3:] == [
            f"{name}.h5" for name in few
        ]
    page = Path("results/models.resnet/report.html").read_text(encoding="utf-8")
    assert "digits-cnn" in page
    assert "geomadv report results/models.resnet --compare quick/digits-cnn" in page
    ga.plotting.use_style("ggplot")
    svd = ga.load("results/models.resnet/normal_svd.h5")
    assert ga.plotting.normal_spectrum(svd).axes
    ga.plotting.use_style("geomadv")
    sys.modules.pop("models", None)


def test_a_newcomer_reads_and_types_little() -> None:
    page = (REPOSITORY / "docs" / "first-hour.md").read_text(encoding="utf-8")
    until_done = page.partition("## Where things lie")[0]
    typed = [line for code in re.findall(r"^```sh\n(.*?)^```", until_done, re.M | re.S) for line in
             code.splitlines()]  # fmt: skip
    assert len(typed) <= 8
    assert len(re.sub(r"^```.*?^```", "", page, flags=re.M | re.S).split()) <= 600
