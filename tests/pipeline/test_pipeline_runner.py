"""The runner on small experiments of a test's own: reuse, settings, stale results, resuming."""

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor, nn

import geomadv as ga
from geomadv.pipeline import Experiment, Sample
from geomadv.pipeline.finished import finished
from geomadv.pipeline.runner import Runner
from geomadv.pipeline.study import Place, study_of

ARCHIVE = Path(__file__).parents[1] / "archive"


class Net(nn.Module):
    """Scores of 3 classes; what it computes can change while its weights stay."""

    def __init__(self, function=F.relu, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.hidden, self.head, self.function = nn.Linear(16, 8), nn.Linear(8, 3), function

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self.hidden(x.flatten(1))))


def classifier(**how) -> ga.Classifier:
    return ga.Classifier(Net(**how), (1, 4, 4), name="net")


def images(seed: int, count: int = 8) -> ga.ImageSet:
    generator = np.random.default_rng(seed)
    pixels = generator.random((count, 1, 4, 4), dtype=np.float32)
    return ga.ImageSet(pixels, generator.integers(0, 3, count), name=f"images{seed}")


CALLS: list[str] = []


@dataclass(frozen=True, kw_only=True)
class First:
    """Mean scores of training images."""

    count: int = 6
    """Images."""
    scale: float = 1.0
    """Factor."""


def first(run, s, train):
    def part(i):
        CALLS.append(f"first-{i}")
        if i == 2 and "kill" in CALLS:
            raise KeyboardInterrupt
        scores = run.net(train.images[2 * i : 2 * i + 2]).mean(1).detach().double()
        return xr.Dataset({"value": ("sample", s.scale * scores.numpy())})

    parts = {f"rows-{i}": functools.partial(part, i) for i in range(len(train) // 2)}
    return run.keep.rows(parts, "sample")


@dataclass(frozen=True, kw_only=True)
class Second:
    """What the first result says about test images."""

    power: int = 1
    """Exponent."""


def second(run, s, test, first, third):
    CALLS.append("second")
    value = float((first["value"] ** s.power).sum()) + run.seed + len(test)
    return xr.Dataset({"total": ((), value + (0.0 if third is None else 100.0))})


@dataclass(frozen=True, kw_only=True)
class Third:
    """Nothing but a number."""


def third(run, s):
    CALLS.append("third")
    return xr.Dataset({"number": ((), 3.0)})


VALUE = {"value": (("sample",), "scaled mean score", "1")}
TABLE = (
    Experiment(
        name="first", settings=First, compute=first, schema=VALUE,
        images={"train": Sample("train", "count")},
    ),
    Experiment(
        name="second", settings=Second, compute=second, images={"test": Sample("test")},
        schema={"total": ((), "a total", "1")}, inputs=("first",), optional=("third",),
    ),
    Experiment(
        name="third", settings=Third, compute=third, schema={"number": ((), "a number", "1")}
    ),
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


def runner(path, net=None, train=0, test=1, given=None, seed=None, table=TABLE, say=print, **place):
    splits = {"train": images(train), "test": images(test)}
    where = Place(results=path, progress=False, **place)
    return Runner(study_of(net or classifier(), splits, where, seed, given), table, say)


def test_missing_inputs_run_first_and_it_is_said(tmp_path):
    said = []
    ds = runner(tmp_path, say=said.append).run("second")
    assert CALLS == ["first-0", "first-1", "first-2", "second"]
    assert any("first, which is missing: it runs first" in line for line in said)
    CALLS.clear()
    xr.testing.assert_identical(runner(tmp_path).run("second"), ds)
    assert CALLS == []


def test_labels_come_from_the_schema(tmp_path):
    ds = runner(tmp_path).run("second")
    assert ds["total"].attrs == {"long_name": "a total", "units": "1"}
    wrong = Experiment(name="third", settings=Third, compute=third, schema={"x": ((), "x", "1")})
    with pytest.raises(ga.InputError, match="its schema says nothing of it"):
        runner(tmp_path, table=(wrong,)).run("third")


def test_settings_that_are_not_given_stay_those_of_the_result(tmp_path):
    ds = runner(tmp_path, given={"first": {"scale": 2.0}}, seed=7).run("first")
    xr.testing.assert_identical(runner(tmp_path).run("first"), ds)
    assert ds.attrs["seed"] == 7


@pytest.mark.parametrize("how", [{"given": {"first": {"count": 4}}}, {"seed": 1}])
def test_given_settings_that_differ_are_refused_and_nothing_is_lost(tmp_path, how):
    runner(tmp_path).run("first")
    before = (tmp_path / "net" / "first.h5").stat().st_mtime_ns
    with pytest.raises(ga.InputError, match=r"holds another result \((count: 6 -> 4|seed: 0 -> 1)"):
        runner(tmp_path, **how).run("first")
    assert (tmp_path / "net" / "first.h5").stat().st_mtime_ns == before
    ds = runner(tmp_path, **how, overwrite=True).run("first")
    assert (ds.sizes["sample"], ds.attrs["seed"]) in ((4, 0), (6, 1))


CHANGES = {
    "the weights": {"net": {"seed": 1}},
    "what the network computes": {"net": {"function": torch.sin}},
    "its images": {"train": 5},
    "its settings": {"given": {"first": {"scale": 3.0}}, "overwrite": True},
}


def changed(path, net=None, **how):
    return runner(path, classifier(**net) if net else None, **how)


@pytest.mark.parametrize("change", CHANGES)
def test_a_result_is_stale_once_anything_before_it_has_changed(tmp_path, change):
    old = runner(tmp_path).run("second")
    how = dict(CHANGES[change])
    if "overwrite" in how:
        changed(tmp_path, **how).run("first")
        how = {}
    after = changed(tmp_path, **how)
    assert after.status("second").state == "stale"
    with pytest.raises(ga.InputError, match=r"is stale.*use --refresh"):
        after.run("second")
    assert float(ga.load(tmp_path / "net" / "second.h5")["total"]) == float(old["total"])
    CALLS.clear()
    new = changed(tmp_path, **how, refresh=True).run("second")
    assert "second" in CALLS
    assert float(new["total"]) != float(old["total"])
    assert changed(tmp_path, **how).status("second").state == "done"


def test_files_name_the_images_that_numbers_are_measured_on(tmp_path):
    both = {"train": Sample("train", "count"), "test": Sample("test")}
    older = Experiment(
        name="both", settings=First, compute=lambda *_, train, test: xr.Dataset(), images=both
    )
    follows = Experiment(
        name="follows", settings=Third, compute=lambda *_, both: xr.Dataset(), inputs=("both",),
        measured_on="test",
    )  # fmt: skip
    seen = Experiment(
        name="seen", settings=Third, compute=lambda *_, test: xr.Dataset(),
        images={"test": Sample("test")},
    )  # fmt: skip
    table = (seen, replace(older, measured_on="test"), follows)
    splits = {"train": images(0), "test": images(1).noted("seen")}

    def named(folder, written):
        place = Place(results=tmp_path / folder, progress=False)
        found = Runner(study_of(classifier(), splits, place), written)
        attrs = [found.run(e.name).attrs for e in written]
        assert len(finished([tmp_path / folder / "net"], table)[0].results) == len(written)
        return [one["dataset"] for one in attrs], attrs[-1]["dataset_sha256"]

    assert named("new", table) == (["images1"] * 3, splits["test"].sha256)
    assert named("old", (seen, older))[0] == ["images1", "images0"]
    # What starts from a result of images by now others is stale, not of another network's images.
    place = Place(results=tmp_path / "new", progress=False, overwrite=True)
    splits["test"] = splits["test"][1:]
    Runner(study_of(classifier(), splits, place), table).run("both")
    (one,) = finished([tmp_path / "new" / "net"], table)
    assert one.notes["follows"].startswith("stale")


def test_images_and_networks_changed_in_memory_are_looked_at_anew(tmp_path):
    pixels, scale = images(0).images.numpy().copy(), [1.0]
    # No engine takes a branch on values: the module itself is asked.
    net = classifier(
        function=lambda h: scale[0] * torch.sin(h) if float(h.detach().sum()) < 1e9 else h
    )
    splits = {"train": ga.ImageSet(pixels, name="mine"), "test": images(1)}

    def once(experiment=TABLE[0], **how):
        place = Place(results=tmp_path, progress=False, **how)
        return Runner(study_of(net, splits, place), (experiment,)).run(experiment.name)

    known, old = splits["train"].sha256, once()
    pixels *= 0.5
    with pytest.raises(ga.InputError, match=r"is stale.*images\.train"):
        once()
    assert (once(refresh=True)["value"] != old["value"]).any()
    assert splits["train"].sha256 == known  # kept by the set, not by what runs on it
    scale[0] = 2.0
    with pytest.raises(ga.InputError, match=r"is stale.*network\.behaviour"):
        once()

    def changing(run, s, train):
        ds = first(run, s, train)
        pixels[:] = pixels / 2
        return ds

    with pytest.raises(ga.InputError, match=r"'mine' were changed in memory before other was done"):
        once(replace(TABLE[0], name="other", compute=changing))
    assert [path.name for path in (tmp_path / "net").iterdir()] == ["first.h5"]


def test_images_that_take_no_part_make_nothing_stale(tmp_path):
    runner(tmp_path).run("second")
    other = runner(tmp_path, test=9)
    assert other.status("first").state == "done"
    (reason,) = other.status("second").reasons
    assert reason.startswith("images.test: ")


def test_a_result_that_would_take_part_by_now_makes_it_stale(tmp_path):
    first_run = runner(tmp_path)
    before = float(first_run.run("second")["total"])
    first_run.run("third")
    assert "third" in runner(tmp_path).status("second").reasons[0]
    assert float(runner(tmp_path, refresh=True).run("second")["total"]) == before + 100


def test_another_version_or_layout_is_another_result(tmp_path):
    runner(tmp_path).run("third")
    schema = {"number": ((), "a number", "image units")}
    for change in ({"version": 2}, {"schema": schema}):
        how = {"schema": TABLE[2].schema} | change
        table = (Experiment(name="third", settings=Third, compute=third, **how),)
        assert runner(tmp_path, table=table).status("third").state == "stale"


def test_a_killed_run_goes_on_and_keeps_its_settings(tmp_path):
    CALLS.append("kill")
    with pytest.raises(KeyboardInterrupt):
        runner(tmp_path, given={"first": {"scale": 2.0}}).run("first")
    assert runner(tmp_path).status("first").state == "unfinished"
    with pytest.raises(ga.InputError, match="was begun as another result"):
        runner(tmp_path, given={"first": {"scale": 4.0}}).run("first")
    CALLS.clear()
    ds = runner(tmp_path).run("first")
    assert CALLS == ["first-2"]
    whole = runner(tmp_path / "whole", given={"first": {"scale": 2.0}}).run("first")
    np.testing.assert_array_equal(ds["value"], whole["value"])


@pytest.mark.parametrize(("old", "asked"), [("third", "third"), ("first", "second")])
def test_files_of_earlier_releases_are_stale_also_where_others_start_from_them(
    tmp_path, old, asked
):
    (tmp_path / "net").mkdir()
    path = tmp_path / "net" / f"{old}.h5"
    path.write_bytes((ARCHIVE / "results-0.1.0.h5").read_bytes())
    for again in {False, old != asked}:
        with pytest.raises(ga.InputError, match=r"written by geomadv 0\.1\.0.*--refresh"):
            runner(tmp_path, overwrite=again).run(asked)
    assert runner(tmp_path).status(old).state == "stale"
    runner(tmp_path, refresh=True).run(asked)
    assert runner(tmp_path).status(old).state == "done"


def test_states_of_what_there_is(tmp_path):
    r = runner(tmp_path)
    assert [r.status(name).state for name in r.table] == ["missing"] * 3
    r.run("second")
    (tmp_path / "net" / "first.h5").unlink()
    assert r.status("second").reasons == ("first is missing",)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"first": {"counts": 3}}, r"first\.counts is no setting\. Did you mean 'count'\?"),
        ({"first": {"count": "many"}}, "first.count = 'many': expected a whole number"),
        ({"first": {"count": 0}}, r"sample\(n=0\)"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(tmp_path, given, words):
    with pytest.raises(ga.InputError, match=words):
        runner(tmp_path, given=given).run("first")
    assert CALLS == []
    assert not (tmp_path / "net" / "first.h5").exists()


def test_an_unknown_experiment_has_a_suggestion(tmp_path):
    with pytest.raises(ga.InputError, match="Did you mean 'second'"):
        runner(tmp_path).run("secnd")


def test_held_out_images_that_are_in_the_sample_are_refused(tmp_path):
    # "second" holds out the images that "first", which it starts from, has as its sample.
    message = r"6 of the 8 images .* that second holds out .* are in the sample.*--test-images"
    with pytest.raises(ga.InputError, match=message):
        runner(tmp_path, train=1, test=1).run("second")
    assert CALLS == []
    assert float(runner(tmp_path, train=1, test=1).run("first")["value"].sum())


def test_from_python(tmp_path):
    how = {"results": tmp_path, "progress": False}
    splits = {"train": images(0), "test": images(1)}
    ds = ga.run(TABLE[0], classifier(), splits, count=4, **how)
    assert ds.attrs["command"] == "ga.run('first', net, images, seed=0, count=4)"
    again = ga.run(TABLE[1], classifier(), splits, also=TABLE[::2], **how)
    assert float(again["total"]) == pytest.approx(float(ds["value"].sum()) + 8)
    with pytest.raises(ga.InputError, match="expected 'train' and 'test'"):
        ga.run(TABLE[0], classifier(), {"train": images(0)}, **how)


def test_python_misuse_says_how_to_wrap(tmp_path):
    how = {"results": tmp_path, "progress": False}
    for words, arguments in {
        r"net is of type Net.*geomadv\.Classifier\(module": (TABLE[0], Net(), images(0)),
        r"run: images is of type ndarray.*geomadv\.ImageSet": (
            TABLE[0],
            classifier(),
            np.zeros((2, 1)),
        ),
        "run: images is of type dict": (TABLE[0], classifier(), {"train": images(0), "test": 3}),
        "run: experiment is of type int": (3, classifier(), images(0)),
    }.items():
        with pytest.raises(ga.InputError, match=words):
            ga.run(*arguments, **how)
    for bad in ({"seed": -1}, {"seed": "a"}, {"seed": 1.5}, {"batch_size": 0}):
        with pytest.raises(
            ga.InputError, match=r"seed is of type|expected a whole number, at least"
        ):
            ga.run(TABLE[0], classifier(), images(0), **how, **bad)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("change", [{"dtype": torch.float64}, {"class_names": ["a", "b", "c"]}])
def test_precision_and_names_of_classes_make_another_result(tmp_path, change):
    class Formula(nn.Module):
        def forward(self, x):
            return torch.stack([x.flatten(1).sin().sum(1) * k for k in (1, 2, 3)], 1)

    nets = [ga.Classifier(Formula(), (1, 4, 4), name="net", **how) for how in ({}, change)]
    runner(tmp_path, nets[0]).run("first")
    with pytest.raises(ga.InputError, match="is stale"):
        runner(tmp_path, nets[1]).run("first")


def test_what_starts_from_a_replaced_input_is_replaced_with_it(tmp_path):
    old = runner(tmp_path).run("second")
    new = runner(tmp_path, given={"first": {"scale": 3.0}}, overwrite=True).run("second")
    assert float(new["total"]) != float(old["total"])
    assert runner(tmp_path).status("second").state == "done"


@pytest.mark.parametrize(
    "given", [{"first": {"count": 4}}, {"first": {"count": 0}}, {"second": {"power": 2.5}}]
)
def test_what_is_refused_in_the_end_is_refused_before_anything_runs(tmp_path, given):
    """The first result is missing, and what is asked for would be stale or refused after it."""
    runner(tmp_path).run("second")
    (tmp_path / "net" / "first.h5").unlink()
    CALLS.clear()
    with pytest.raises(ga.InputError):
        runner(tmp_path, given=given).run("second")
    assert CALLS == []


def test_a_result_replaced_by_another_process_is_not_mixed_in(tmp_path):
    runner(tmp_path).run("first")
    mine = runner(tmp_path)
    mine.plan("second")
    runner(tmp_path, given={"first": {"scale": 3.0}}, overwrite=True).run("first")
    with pytest.raises(ga.InputError, match="replaced meanwhile by another process"):
        mine.run("second")
    assert "second" not in CALLS


def test_experiments_that_cannot_work_are_refused_by_name(tmp_path):
    third = TABLE[2]
    with pytest.raises(ga.InputError, match="letters, digits and underscores"):
        Experiment(name="my-own", settings=Third, compute=third)
    with pytest.raises(ga.InputError, match="two experiments are called 'third'"):
        runner(tmp_path, table=(third, Experiment(name="third", settings=Third, compute=first)))
    lost = Experiment(name="lost", settings=Third, compute=first, inputs=("thrd",))
    with pytest.raises(ga.InputError, match="starts from 'thrd', which is none"):
        runner(tmp_path, table=(third, lost))


@pytest.mark.parametrize("name", ["..", "", "a/../b", ".hidden"])
def test_no_name_of_a_network_leads_out_of_the_results(tmp_path, name):
    net = ga.Classifier(Net(), (1, 4, 4), name=name)
    runner(tmp_path / "r", net).run("third")
    (file,) = tmp_path.rglob("third.h5")
    assert file.parent.parent == tmp_path / "r"
    assert not file.parent.name.startswith(".")
