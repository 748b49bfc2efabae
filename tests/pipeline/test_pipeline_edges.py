"""Every experiment of the table: no old number comes back once anything before it has changed.

The edges are walked one by one: weights, what the network computes, the images of either split,
and the seed of every result that another one starts from, directly or not.
"""

import copy
import importlib.util
import json
import shlex
import shutil
from pathlib import Path

import h5py
import pytest
import torch
import xarray as xr
from distributed_experiments import run_what_is_missing
from small_runs import SMALL, small_runner
from test_distributed import together

import geomadv as ga
from geomadv.cli import main
from geomadv.files.seals import seal
from geomadv.pipeline import EXPERIMENTS, drawer

RECIPES = Path(__file__).resolve().parents[2] / "analysis"

NAMES = [experiment.name for experiment in EXPERIMENTS]
TABLE = {experiment.name: experiment for experiment in EXPERIMENTS}


# Experiments that have asked for parts which processes could divide.
ASKED: set[str] = set()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """All experiments, run once."""
    path = tmp_path_factory.mktemp("results")
    runner = small_runner(path)
    with pytest.MonkeyPatch.context() as patch:
        for asks in ("each", "rows"):
            patch.setattr(ga.results.Store, asks, noting(getattr(ga.results.Store, asks)))
        for name in NAMES:
            assert runner.table[name].tell(runner.run(name))
    return path


def noting(ask):
    """The method of a store, which notes for whom it works."""

    def ask_and_note(store, *args, **options):
        ASKED.add(store.path.stem)
        return ask(store, *args, **options)

    return ask_and_note


@pytest.fixture
def made_again(monkeypatch):
    """The result that the commands of a file make in another folder, each given once there."""
    monkeypatch.setattr(drawer, "draw_experiment", lambda *_, **__: None)
    given = set()

    def make(source, folder):
        for line in ga.load(source).attrs["command"].splitlines():
            words = [*shlex.split(line), "--results", str(folder), "--quiet"]
            assert words[0] == "geomadv"
            if tuple(words) not in given:
                assert main(words[1:]) == 0
            given.add(tuple(words))
        return ga.load(folder / "digits-cnn" / source.name)

    return make


def assert_same_numbers(one: xr.Dataset, other: xr.Dataset):
    measured = [name for name in one.variables if str(name).endswith("wall_time")]
    xr.testing.assert_equal(one.drop_vars(measured), other.drop_vars(measured))


def test_the_command_of_every_file_makes_it_again_to_the_bit(results, tmp_path, made_again):
    for name in NAMES:
        source = results / "digits-cnn" / f"{name}.h5"
        assert_same_numbers(made_again(source, tmp_path), ga.load(source))


def test_the_command_makes_again_what_the_result_starts_from(tmp_path, made_again):
    """Settings, a flag without value and other seeds of the inputs, in an empty folder."""
    given = {"boundary": {"count": 30, "nearest": True}, "normal_svd": {"rank": 4}}
    for name, seed in (("boundary", 3), ("normal_svd", 4), ("random_subspace_fooling", 0)):
        settings = given | {name: given.get(name, SMALL.get(name, {}))}
        small_runner(tmp_path / "one", given=settings, seed=seed, batch_size=7).run(name)
    source = tmp_path / "one" / "digits-cnn" / "random_subspace_fooling.h5"
    assert_same_numbers(made_again(source, tmp_path / "two"), ga.load(source))
    boundary = ga.load(source.with_name("boundary.h5"))
    assert_same_numbers(ga.load(tmp_path / "two" / "digits-cnn" / "boundary.h5"), boundary)


def before(name: str) -> set[str]:
    """The result and all that it starts from; here the optional ones are there."""
    found = {name}
    for i in (*TABLE[name].inputs, *TABLE[name].optional):
        found |= before(i)
    return found


def depends_on(name: str, split: str) -> bool:
    return any(s.split == split for e in before(name) for s in TABLE[e].images.values())


def changed_net(change: str) -> ga.Classifier:
    net = ga.load_network("digits-cnn")
    if change == "weights":
        other = copy.deepcopy(net.module)
        with torch.no_grad():
            next(other.parameters()).add_(1e-3)
        return ga.Classifier(other, net.input_shape, name=net.name)
    changed = copy.copy(net)
    changed.scores = lambda x: net.scores(x).sin()
    changed.__dict__.pop("behaviour", None)
    return changed


def mirrored(split: str) -> ga.ImageSet:
    """The split with other pixels and the same name, labels and length."""
    images = ga.load_images("digits", split)
    return ga.ImageSet(images.images.flip(3), images.labels, images.class_names, images.name)


def refuses(runner, name: str) -> bool:
    assert runner.status(name).state in ("done", "stale")
    if runner.status(name).state == "done":
        runner.run(name)
        return False
    with pytest.raises(ga.InputError, match="is stale"):
        runner.run(name)
    return True


@pytest.mark.parametrize("change", ["weights", "behaviour"])
def test_another_network_gives_no_old_number(results, change):
    runner = small_runner(results, net=changed_net(change))
    assert [name for name in NAMES if not refuses(runner, name)] == []


@pytest.mark.parametrize("split", ["train", "test"])
def test_other_images_give_no_old_number(results, split):
    runner = small_runner(results, **{split: mirrored(split)})
    found = [name for name in NAMES if refuses(runner, name)]
    assert found == [name for name in NAMES if depends_on(name, split)]


@pytest.mark.parametrize("name", [n for n in NAMES if any(n in before(o) for o in NAMES if o != n)])
def test_another_result_to_start_from_gives_no_old_number(results, name, tmp_path):
    shutil.copytree(results, tmp_path / "r")
    path = tmp_path / "r" / "digits-cnn" / f"{name}.h5"
    with h5py.File(path, "a") as file:
        for attribute in ("config", "identity"):
            file.attrs[attribute] = json.dumps(json.loads(file.attrs[attribute]) | {"seed": 5})
    with path.open("r+b") as file:  # HDF5 has cut the checksum off
        seal(file)
    runner = small_runner(tmp_path / "r")
    found = {other for other in NAMES if other != name and refuses(runner, other)}
    assert found == {other for other in NAMES if other != name and name in before(other)}


def test_refreshing_computes_what_is_stale_and_nothing_else(results, tmp_path):
    shutil.copytree(results, tmp_path / "r")
    folder = tmp_path / "r" / "digits-cnn"
    given = SMALL | {"boundary": {"count": 50}}
    small_runner(tmp_path / "r", given=given, overwrite=True).run("boundary")
    times = {name: (folder / f"{name}.h5").stat().st_mtime_ns for name in NAMES}
    runner = small_runner(tmp_path / "r", given={}, refresh=True)
    runner.run("random_subspace_fooling")
    renewed = {n for n in NAMES if (folder / f"{n}.h5").stat().st_mtime_ns != times[n]}
    assert renewed == {"normal_svd", "random_subspace_fooling"}
    with xr.open_dataset(folder / "normal_svd.h5") as ds:
        assert int(ds["rows"]) == 50


@pytest.mark.parametrize("paper", sorted(p.stem for p in RECIPES.glob("[!a]*.py")))
def test_the_recipe_of_every_paper_runs_on_what_is_there(results, paper, monkeypatch, capsys):
    """Settings that a recipe does not give are those of the results: nothing is computed anew."""
    folder = results / "digits-cnn"
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.h5")}
    for room in ("analysis", "figures"):
        spec = importlib.util.spec_from_file_location(
            f"{room}_{paper}", RECIPES.parent / room / f"{paper}.py"
        )
        recipe = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(recipe)
        recipe.main(results=results) if room == "analysis" else recipe.main(
            (folder,), to=results / "side_by_side"
        )
        assert len(capsys.readouterr().out.splitlines()) >= 3
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.h5")} == before


def test_the_order_of_the_table_is_one_in_which_everything_can_run():
    for i, experiment in enumerate(EXPERIMENTS):
        assert set(experiment.inputs) | set(experiment.optional) <= set(NAMES[:i])


@pytest.mark.usefixtures("results")
def test_what_says_that_processes_divide_it_asks_for_parts_and_nothing_else_does():
    assert {name for name in NAMES if TABLE[name].divided} == ASKED


DIVIDED = {name for name in NAMES if TABLE[name].divided and name != "boundary"}


# Three processes divide the points of curvature's two classes, whose sums then round otherwise.
@pytest.mark.parametrize(
    ("processes", "computed"), [(2, {*NAMES} - {"boundary"}), (3, DIVIDED - {"curvature"})]
)
def test_processes_store_what_one_stores_to_the_bit(results, tmp_path, processes, computed):
    folder = tmp_path / "digits-cnn"
    folder.mkdir()
    for name in {*NAMES} - computed:
        shutil.copy(results / "digits-cnn" / f"{name}.h5", folder)
    words = tmp_path / "words"
    words.mkdir()
    codes, said = together(processes, lambda _: run_what_is_missing(tmp_path), words)
    assert codes == [0] * processes, said
    assert {path.name for path in folder.iterdir()} == {f"{name}.h5" for name in NAMES}
    for name in NAMES:
        assert_same_numbers(
            ga.load(folder / f"{name}.h5"), ga.load(results / "digits-cnn" / f"{name}.h5")
        )
    check_who_worked("\n".join(said).splitlines(), computed, processes)


def check_who_worked(lines: list[str], computed: set[str], processes: int):
    """What the main process says of its experiments, and in whose parts the second one shares."""
    said = [line for line in lines if "is computed by one process" in line]
    others = "the other waits" if processes == 2 else "the other 2 wait"
    undivided = [name for name in NAMES if name in computed - DIVIDED]
    assert said == [f"{name} is computed by one process; {others}" for name in undivided]
    shared = {line.split()[1] for line in lines if line.startswith("shared ")}
    of_one = [line.split(":")[0] for line in lines if f": 1 part for {processes} processes" in line]
    assert shared | {*of_one} == computed & DIVIDED
    assert len(of_one) == len({*of_one})
    assert shared >= computed & DIVIDED - {"finetuning", "normal_tilt"}  # one part here
