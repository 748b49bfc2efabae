"""`geomadv check`: what a run would work on is shown, and what is wrong with it stands out."""

import numpy as np
import pytest
from small_runs import small_runner

import geomadv as ga
from geomadv.cli import main
from geomadv.pipeline import EXPERIMENTS
from geomadv.pipeline.card import card
from geomadv.pipeline.check import checked
from geomadv.pipeline.runner import Runner
from geomadv.pipeline.study import Place, Subject, study, study_of


def test_one_screen_and_nothing_runs(tmp_path, capsys):
    words = ["check", "boundary", "--boundary.count", "30", "--results", str(tmp_path)]
    assert main(words) == 0
    out = capsys.readouterr().out
    for part in (
        "digits-cnn: 38,282 parameters, input 1 x 8 x 8 in [0, 1], 10 classes",
        "digits-train: 1,297 images 1 x 8 x 8, 10 classes, accuracy ",
        "digits-test: 500 images",
        "a gradient",
        "boundary (missing): seed 0, count 30",
        "30 images, ",
        " passes in gradients, ",
        " s, ",
        "iB of memory, ",
        " KiB on disk",
    ):
        assert part in out
    assert "NEAR CHANCE" not in out
    assert list(tmp_path.rglob("*.h5")) == []


def shuffled(split):
    images = ga.load_images("digits", split)
    labels = np.random.default_rng(0).permutation(images.labels.numpy())
    return ga.ImageSet(images.images, labels, images.class_names, images.name)


def test_classes_numbered_otherwise_are_seen(tmp_path):
    text = card(small_runner(tmp_path, test=shuffled("test")).study)
    train, test = (line for line in text.splitlines() if line.startswith(("train", "test")))
    assert "NEAR CHANCE (10.0 %): check mean and std" in test
    assert "NEAR CHANCE" not in train


def test_labels_that_the_network_has_not_and_images_without_labels(tmp_path):
    images = ga.load_images("digits", "test")
    beyond = ga.ImageSet(images.images, images.labels + 1, name="beyond")
    bare = ga.ImageSet(images.images, name="bare")
    text = card(small_runner(tmp_path, train=beyond, test=bare).study)
    assert "NOT USABLE" in text
    assert "knows classes 0 to 9" in text
    assert "bare: 500 images 1 x 8 x 8, no labels" in text


def test_settings_that_cannot_be_used_are_refused(tmp_path):
    runner = small_runner(tmp_path, given={"score_curves": {"steps": 1}})
    with pytest.raises(ga.InputError, match="steps=1"):
        checked(runner, ["score_curves"])


BESIDE = """
import geomadv as ga
from torch import nn

def initial():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

def trained():
    return ga.load_network("digits-relu").module
"""


@pytest.mark.parametrize("given", ["names", "objects"])
def test_networks_beside_are_of_the_same_images_and_must_know_them(tmp_path, monkeypatch, given):
    (tmp_path / "beside_nets.py").write_text(BESIDE)
    monkeypatch.chdir(tmp_path)
    place, lines = Place(results=tmp_path, progress=False), []

    def planned(network):
        settings = {"transfer": {"networks": [f"beside_nets:{network}"]}}
        if given == "names":
            found = study(Subject(network="digits-cnn"), place, given=settings)
        else:
            splits = {split: ga.load_images("digits", split) for split in ("train", "test")}
            found = study_of(ga.load_network("digits-cnn"), splits, place, given=settings)
        Runner(found, EXPERIMENTS, lines.append).plan("transfer")

    with pytest.raises(ga.InputError, match=r"initial on digits-test.*NEAR CHANCE.*load them"):
        planned("initial")
    planned("trained")
    assert "trained on digits-test, 10 classes, accuracy 98.4 % of 250" in lines[-1]
    assert "no weights given" in lines[-1]
