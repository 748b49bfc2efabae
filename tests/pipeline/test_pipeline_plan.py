"""`geomadv plan`: costs before anything runs, beside what the same runs then cost."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from small_runs import SMALL, small_runner

import geomadv as ga
from geomadv.classifier import Classifier
from geomadv.classifier.counting import CountedPasses
from geomadv.cli import main
from geomadv.pipeline import EXPERIMENTS, Experiment, pace
from geomadv.pipeline.plan import Planner, planned, size, span
from geomadv.pipeline.runner import Runner
from geomadv.pipeline.settings import with_given
from geomadv.pipeline.work import TRAINING, Product

TABLE = {e.name: e for e in EXPERIMENTS}
QUICK = {name: dict(e.quick) for name, e in TABLE.items()}
# Settings that count images, and one count of them: beyond the hundred images of a pilot and the
# 128 on which a search compares, where the split has so many.
COUNTS = sorted(
    {
        (e.name, sample.count, 40 if sample.classes else 200)
        for e in EXPERIMENTS
        for sample in e.images.values()
        if sample.count
    }
)
# All of their passes are forward passes, and how many does not depend on what is found.
EXACT = ("train", "random_subspace_fooling", "subspace_accuracy", "first_order_twin")


@pytest.fixture(scope="module")
def digits():
    """What every runner takes, loaded once."""
    train, test = (ga.load_images("digits", split) for split in ("train", "test"))
    return {"net": ga.load_network("digits-cnn"), "train": train, "test": test}


def work_of(name, given, path, digits):
    """The work of an experiment on the digits, as if all results that it may use were there."""
    return TABLE[name].work(small_runner(path, given=given, **digits).case(name, [*TABLE]))


def units(work):
    return sum(work.units.values())


@pytest.mark.parametrize("name", TABLE)
def test_every_experiment_says_what_it_needs_and_how_it_is_quick(name, tmp_path, digits):
    experiment = TABLE[name]
    with_given(experiment.settings(), experiment.quick)
    full, quick = (work_of(name, given, tmp_path, digits) for given in ({}, QUICK))
    assert full.units or full.flops or full.memory
    assert units(quick) < units(full) or not full.units
    assert quick.flops <= full.flops


@pytest.mark.parametrize(("name", "count", "n"), COUNTS)
def test_twice_the_images_are_at_most_twice_the_work(name, count, n, tmp_path, digits):
    few, many = (
        units(work_of(name, QUICK | {name: {**QUICK[name], count: k}}, tmp_path, digits))
        for k in (n, 2 * n)
    )
    if few:
        assert few < many <= 2 * few + 1e-6


def test_memory_for_measuring_some_experiments_is_not_that_of_others(tmp_path, digits, monkeypatch):
    """Hessian products take more to measure than walks, and networks beside have to be loaded."""
    peaks = iter([2**30, 2**35, 2**40])
    monkeypatch.setattr("geomadv.pipeline.plan.peak_bytes", lambda _: next(peaks))
    names = ["transfer", "curvature", "train", "normal_svd", "normal_section"]
    found = Planner(small_runner(tmp_path, given=QUICK, **digits)).estimates(names)
    assert [*found] == names
    powers = {name: int(np.log2(one.memory)) for name, one in found.items()}
    assert powers == {
        "transfer": 40,
        "curvature": 35,
        "train": 30,
        "normal_svd": 30,
        "normal_section": 35,
    }


@pytest.fixture(scope="module")
def counted():
    """All passes through any network while the fixture lives, image by image."""
    passes, scores = SimpleNamespace(forwards=0, backwards=0), Classifier.scores

    def seen(net, x):
        result = scores(net, x)
        passes.forwards += len(result)
        if result.requires_grad:
            result.register_hook(lambda g: setattr(passes, "backwards", passes.backwards + len(g)))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "scores", seen)
        yield passes


@pytest.fixture(scope="module")
def run(tmp_path_factory, counted, digits):
    """Name -> estimate, work, passes in gradients as counted, and the file's bytes."""
    given = SMALL | {name: SMALL[name] | {"networks": []} for name in ("categories",)}
    given |= {"transfer": given["transfer"] | {"networks": ["digits-relu"]}}
    runner = small_runner(tmp_path_factory.mktemp("plan"), given=given, **digits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pace, "_BUDGET", 0.1)  # a few images are enough for passes
        patch.setattr(pace, "_SLOW", 0.0)
        estimates, found = Planner(runner).estimates([*TABLE]), {}
    for name, experiment in TABLE.items():
        work = experiment.work(runner.case(name, [*TABLE]))
        runner.plan(name)
        counted.forwards = counted.backwards = 0
        runner.run(name)
        passes = (counted.forwards + 2 * counted.backwards) / 3
        size = runner.study.path(name).stat().st_size
        found[name] = SimpleNamespace(estimate=estimates[name], work=work, passes=passes, size=size)
    return found


@pytest.mark.parametrize("name", EXACT)
def test_forward_passes_are_planned_to_the_image(name, run):
    assert run[name].estimate.gradients == pytest.approx(run[name].passes, rel=1e-9)


@pytest.mark.parametrize("name", sorted({*TABLE} - {*EXACT}))
def test_passes_are_planned_within_a_factor_of_two(name, run):
    # Neither products nor training go through the scores; both are counted by the settings.
    hidden = sum(n for u, n in run[name].work.units.items() if isinstance(u, Product))
    hidden += run[name].work.units.get(TRAINING, 0)
    if name == "curvature":
        assert run[name].estimate.gradients > hidden > 0
        return
    # Features of descents have gradients, scores have none: two thirds of a gradient unseen.
    seen = run[name].estimate.gradients - hidden
    most = 3 if name == "softmax_directions" else 1
    assert run[name].passes / 2 <= seen <= 2 * most * run[name].passes


@pytest.mark.parametrize("name", TABLE)
def test_the_file_is_planned_within_three_tenths(name, run):
    assert 1 / 1.3 < run[name].estimate.disk / run[name].size < 1.3


def test_passes_are_counted_forward_and_back():
    net = ga.load_network("digits-cnn")
    x = ga.load_images("digits", "test")[:3].images.requires_grad_()
    net.batch_size()  # measures what an image takes, in passes of its own
    with CountedPasses(net) as passes:
        scores = net.scores(x)
        scores[:, 0].sum().backward(retain_graph=True)
        scores[:, 1].sum().backward()
        net.predict(x[:2])
    net.predict(x)
    assert (passes.forwards, passes.backwards) == (5, 6)
    assert passes.gradients == pytest.approx((5 + 2 * 6) / 3)


def test_the_command_shows_a_table_and_runs_nothing(tmp_path, capsys):
    words = ["normal_svd", "--boundary.count", "30", "--results", str(tmp_path)]
    assert main(["plan", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split()[:2] for line in lines if line.startswith(("boundary", "normal_svd"))]
    assert rows == [["boundary", "missing"], ["normal_svd", "missing"]]
    assert any(line.startswith("total (2 to do)") for line in lines)
    assert list(tmp_path.rglob("*.h5")) == []


@pytest.mark.parametrize(
    ("told", "words"),
    [
        *(
            (span(0.137), "0.14 s"),
            (span(99.7), "100 s"),
            (span(114), "110 s"),
            (span(480), "8 min"),
        ),
        *((size(300), "0.293 KiB"), (size(1023.7 * 2**10), "1020 KiB"), (size(2**40), "1020 GiB")),
    ],
)
def test_numbers_for_people_have_no_exponent(told, words):
    assert told == words


def test_quick_results_are_results_of_their_settings(tmp_path, capsys):
    words = ["train", "boundary", "--quick", "--train.count", "20", "--results", str(tmp_path)]
    assert main(["run", *words]) == 0
    attrs = {path.stem: ga.load(path).attrs for path in tmp_path.rglob("*.h5")}
    assert json.loads(attrs["boundary"]["config"])["count"] == QUICK["boundary"]["count"]
    assert json.loads(attrs["train"]["config"])["count"] == 20  # what is given wins
    assert "--boundary.count 60" in attrs["boundary"]["command"]
    capsys.readouterr()
    assert main(["plan", "train", "boundary", "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "total (0 to do)" in out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("boundary")] == ["done"]


def test_an_experiment_that_does_not_say_has_no_numbers(tmp_path):
    own = Experiment(name="mine", settings=TABLE["train"].settings, compute=np.zeros)
    study = small_runner(tmp_path).study
    text = planned(Runner(study, [own]), ["mine"])
    (row,) = (line.split() for line in text.splitlines() if line.startswith("mine"))
    assert row == ["mine", "missing", *"?????"]
