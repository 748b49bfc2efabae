"""The files that people bring (field-cases/ of the real data): each gives the value that is right.

Its README says what is right for each; other members of the same kinds are in the tests of images,
checkpoints, kinds of files and networks.
"""

import importlib
import re
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import geomadv as ga
from geomadv.cli import main
from geomadv.errors import InputError

CHECKPOINTS = (
    *("plain.pt", "legacy.pth", "key_net.pth", "key_model.pth", "best.pth.tar", "lightning.ckpt"),
    *("pytorch_model.bin", "prefix_model.pt", "prefix_module_model.pt", "normalised_inside.pt"),
)
REFUSED = {
    "classic.nc": "is of netCDF-3.*nccopy -k nc4",
    "blosc.h5": r"compressed with the HDF5 filter blosc \(number 32001\).*pip install hdf5plugin",
    "dangling.h5": r"'images' is a link to '/images' in gone\.h5, which is not there",
    "damaged/images-loop.h5": "holds texts .'class_names'. that HDF5 cannot read, or not",
    "damaged/part-loop.h5": "has no 'images'",
}
SECONDS = 30  # far more than any message takes, far less than for ever


@pytest.fixture
def cases(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder, beside whose networks the test works, with images for them in images.npz."""
    folder = data_dir / "field-cases"
    if not folder.is_dir():
        pytest.skip("no field-cases/ in the folder of real data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(folder))
    rng = np.random.default_rng(0)
    np.savez("images.npz", images=rng.random((8, 3, 32, 32), np.float32), labels=np.arange(8))
    yield folder
    sys.modules.pop("small_nets", None)


def unpacked(cases: Path, name: str) -> Path:
    with tarfile.open(cases / f"{name}.tar.gz") as tar:
        tar.extractall(name, filter="data")
    return Path(name)


def plain(weights: Path) -> ga.Classifier:
    return ga.load_network("small_nets:plain", weights=weights, input_shape=(3, 32, 32))


# Networks


@pytest.mark.parametrize("file", CHECKPOINTS)
def test_checkpoints_give_the_scores_of_the_reference(file: str, cases: Path) -> None:
    module = importlib.import_module("small_nets").plain().eval()
    module.load_state_dict(torch.load(cases / "plain.pt", weights_only=True))
    net = plain(cases / file)
    assert ("normalize.mean" in net.note) == (file == "normalised_inside.pt")
    mean, std = (torch.tensor(v or (d,))[:, None, None] for v, d in ((net.mean, 0.0), (net.std, 1)))
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(x), module((x - mean) / std).detach())


def test_networks_as_people_write_them(cases: Path) -> None:
    nets, shape = importlib.import_module("small_nets"), (3, 16, 16)
    assert "channels-last" in ga.Classifier(nets.View(), (3, 32, 32)).note
    assert ga.Classifier(nets.Masked(-1e9), shape).num_classes == 10
    assert ga.Classifier(nets.Masked(None), shape).num_classes == 5
    assert "autocast" in ga.Classifier(nets.Autocast(), shape).note
    assert ga.Classifier(nets.Double(), shape).dtype == torch.float32
    for module, reason in ((nets.NoGrad(), "no_grad"), (nets.Detached(), "detach")):
        with pytest.raises(InputError, match=reason):
            ga.Classifier(module, shape)


# Images


@pytest.mark.parametrize("name", ["gray8.png", "gray16.png"])
def test_a_ramp_has_the_mean_one_half(name: str, cases: Path) -> None:
    images = ga.load_images(cases / name, "all", size=32).images
    assert images.mean().item() == pytest.approx(0.5, abs=1e-4)


def test_packed_values_are_unpacked(cases: Path) -> None:
    images = ga.load_images(cases / "packed_offset.nc", "all").images
    assert 0.25 <= images.min() < 0.26
    assert 0.74 < images.max() <= 0.75 + 1e-6


@pytest.mark.parametrize(
    ("name", "labels"), [("hidden_folder", [0, 1, 2]), ("empty_class", [0, 2])]
)
def test_class_folders_keep_their_numbers(name: str, labels: list[int], cases: Path) -> None:
    images = ga.load_images(unpacked(cases, name), "all", size=8)
    assert images.class_names == ("a", "b", "c")
    assert sorted(set(images.labels.tolist())) == labels


# On the command line


def told(capsys: Any, network: str, *argv: Any) -> tuple[int, str]:
    """Status and words of `geomadv check`, which ends within seconds and in one paragraph."""
    started = time.monotonic()
    status = main(["check", "--network", f"small_nets:{network}", *map(str, argv)])
    assert time.monotonic() - started < SECONDS
    shown = capsys.readouterr()
    assert status == 0 or (shown.err.startswith("error: ") and shown.err.count("\n") == 1)
    return status, shown.out + shown.err


@pytest.mark.parametrize("file", ["best.pth.tar", "prefix_module_model.pt", "normalised_inside.pt"])
def test_checkpoints_on_the_command_line(file: str, cases: Path, capsys: Any) -> None:
    status, words = told(capsys, "plain", "--weights", cases / file, "--images", "images.npz")
    assert status == 0
    assert "1,530 parameters, input 3 x 32 x 32" in words
    assert ("normalisation in" in words) == (file == "normalised_inside.pt")


def test_a_script_is_told_how_it_can_be_used(cases: Path, capsys: Any) -> None:
    arguments = "--weights", cases / "scripted.pt", "--images", "images.npz"
    status, words = told(capsys, "plain", *arguments)
    assert status == 2
    assert re.search(r"scripted\.pt are a TorchScript archive.*Classifier\(torch\.jit\.load", words)
    assert "damaged" not in words


@pytest.mark.parametrize("file", REFUSED)
def test_images_that_cannot_be_read(file: str, cases: Path, capsys: Any) -> None:
    status, words = told(capsys, "plain", "--images", cases / file)
    assert status == 2
    assert re.search(REFUSED[file], words)
    assert cases.name in words
    assert "is damaged" not in words


def test_validation_images_of_unknown_classes(cases: Path, capsys: Any) -> None:
    status, words = told(capsys, "plain", "--images", unpacked(cases, "flat_val"))
    assert status == 2
    assert re.search("val/images holds 3 images of unknown classes.*val_annotations", words)


@pytest.mark.parametrize(("network", "reason"), [("NoGrad", "no_grad"), ("Detached", "detach")])
def test_networks_without_gradients(network: str, reason: str, cases: Path, capsys: Any) -> None:
    np.savez("small.npz", images=np.zeros((4, 3, 16, 16), np.float32))
    status, words = told(capsys, network, "--images", "small.npz")
    assert status == 2
    assert reason in words
