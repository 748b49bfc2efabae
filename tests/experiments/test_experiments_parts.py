"""Experiments stopped between their parts and gone on with: the numbers of a run never stopped."""

import functools
import inspect

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.svm import LinearSVC

import geomadv as ga
from geomadv import experiments
from geomadv.experiments import CollisionSettings, CurvatureSettings, keep_nothing, within
from geomadv.keep import KeepNothing, nothing, one_by_one
from geomadv.labels import IMAGE
from geomadv.linalg import NestedSubspaces
from geomadv.results import Store

SHAPE, D = (1, 8, 8), 64


@functools.cache
def digits():
    """The network and some images of both splits."""
    train, test = (ga.load_images("digits", split=split).sample(80, 0) for split in SPLITS)
    return ga.load_network("digits-cnn"), train, test


SPLITS = ("train", "test")


def frame(seed: int) -> NestedSubspaces:
    columns = np.linalg.qr(np.random.default_rng(seed).standard_normal((D, D)))[0]
    return NestedSubspaces(columns.astype(np.float32))


def curved(classes=(1, 4, 7)) -> xr.Dataset:
    """Directions as `curved_directions` gives them, drawn at random."""
    shape = (len(classes), 2, 1)
    directions = np.random.default_rng(0).standard_normal((*shape, *SHAPE)).astype(np.float32)
    return xr.Dataset(
        {
            "direction_image": (("class", "family", "direction", *IMAGE), directions),
            "curvature": (("class", "family", "direction"), np.zeros(shape)),
            "family_name": ("family", ["a", "b"]),
            "target": ("class", list(classes)),
            "median_distance": ("class", [1.0] * len(classes)),
        },
        coords={"class": [str(c) for c in classes], "family": ["positive", "negative"]},
    )


def sweep(keep):
    net, _, test = digits()
    scales = np.linspace(-4, 4, 9)
    return experiments.class_direction_sweep(net, test, curved(), scales, keep=keep)


def curves(keep):
    net, _, test = digits()
    scales = np.linspace(-4, 4, 9)
    return experiments.class_score_curves(net, test, curved(), scales, draws=5, keep=keep)


@functools.cache
def curvatures() -> xr.Dataset:
    net, train, _ = digits()
    settings = CurvatureSettings(count=12, pairs=2, draws=5, density_steps=5)
    return experiments.curvature(net, train, [1, 4, 7], settings)


def sections(keep):
    net, _, test = digits()
    return experiments.class_normal_section(
        net, test[:8], curvatures(), [-1.0, -0.2, 0.0, 0.2, 1.0], keep=keep
    )


def planes(keep):
    net, _, test = digits()
    return experiments.decision_plane(net, test[:3], ["runner-up", "image"], steps=3, keep=keep)


def normals(keep):
    net, _, test = digits()
    basis = torch.eye(D)[:, :5]
    return experiments.random_subspace_fooling(
        net, test, basis, [1, 3, 5], [1.0, 4.0], draws=2, energy=np.full(5, 0.1), keep=keep
    )


def accuracy(keep):
    net, train, test = digits()
    families = {"a": frame(0), "b": frame(1), "c": frame(2)}
    mean = train.images.mean(0)
    splits = {"train": train, "test": test}
    return experiments.subspace_accuracy(net, splits, mean, families, [0, 3, 64], keep=keep)


def confined(keep):
    net, _, test = digits()
    families = {"a": frame(0), "b": NestedSubspaces(frame(1).basis[:, :9], width=3)}
    return experiments.confined_deepfool(
        net, test.images[:12], families, [2, 4, 5, 16], draws=3, examples=4, keep=keep
    )


def resampling(keep):
    net, train, test = digits()
    return experiments.resampling(
        net, test[:20], [8, 6, 4], [1, 3], span_images=train[:10], keep=keep
    )


def universal(keep):
    net, train, test = digits()
    return experiments.universal(
        net, train[:30], test, 4.0, sizes=[10, 30], repeats=2, search={"passes": 2}, keep=keep
    )


def norm_comparison(keep):
    net, train, test = digits()
    delta = test.images[0] - test.images[1]
    return experiments.norm_comparison(net, train[:20], test, delta, [1, 4], draws=3, keep=keep)


def finetuning(keep):
    net, train, test = digits()
    return experiments.finetuning(
        net,
        train,
        test,
        4.0,
        rounds=2,
        pool=2,
        samples=20,
        epochs=1,
        search={"passes": 1},
        keep=keep,
    )


def categories(keep):
    net, _, test = digits()
    return experiments.categories(
        net, test[:20], [1.0, 2.0, 4.0], draws=2, search={"passes": 1}, keep=within(keep, "one")
    )


def tilting(keep):
    _, train, test = digits()
    model = LinearSVC(dual=False, random_state=0)
    return experiments.tilting_plane(
        train, test, model, [1e-4, 1e-2, 1], classes=(2, 3), examples=2, keep=keep
    )


def softmax(keep):
    net, _, test = digits()
    settings = CollisionSettings(relative_epsilons=(0.2, 0.6, 1.0), pairs=6, steps=20, examples=2)
    return experiments.softmax_directions(net, test, settings, keep=keep)


def boundary(keep):
    net, train, _ = digits()
    return experiments.boundary(net, train, keep=keep, chunk_size=30)


def curvature(keep):
    net, train, _ = digits()
    settings = CurvatureSettings(count=12, pairs=2, draws=10, density_steps=5)
    ds = experiments.curvature(net, train, [3, "8", 1], settings, keep=keep)
    return ds.drop_vars("wall_time")


CASES = {
    "boundary": boundary,
    "curvature": curvature,
    "class_direction_sweep": sweep,
    "class_score_curves": curves,
    "class_normal_section": sections,
    "decision_plane": planes,
    "random_subspace_fooling": normals,
    "subspace_accuracy": accuracy,
    "confined_deepfool": confined,
    "resampling": resampling,
    "universal": universal,
    "norm_comparison": norm_comparison,
    "finetuning": finetuning,
    "categories": categories,
    "tilting_plane": tilting,
    "softmax_directions": softmax,
}


class Counting:
    """A store that counts the parts computed, and is killed when one more would begin."""

    def __init__(self, keep, limit=10**9):
        self.keep, self.limit, self.computed = keep, limit, 0

    def __call__(self, part, compute):
        return self.keep(part, functools.partial(self.counted, compute))

    def each(self, parts, done=nothing):
        return one_by_one(self, parts, done)

    def rows(self, parts, dim, *, together=False):
        counted = {part: functools.partial(self.counted, c) for part, c in parts.items()}
        return self.keep.rows(counted, dim, together=together)

    def state(self, name):
        return self.keep.state(name)

    def counted(self, compute):
        if self.computed == self.limit:
            raise KeyboardInterrupt
        ds = compute()
        if self.computed == self.limit:  # parts inside this one were the last
            raise KeyboardInterrupt
        self.computed += 1
        return ds


def test_every_experiment_that_keeps_parts_is_tried():
    keeping = {
        name
        for name in experiments.__all__
        if callable(f := getattr(experiments, name))
        and name not in ("Keep", "keep_nothing", "within")
        and not inspect.isclass(f)
        and "keep" in inspect.signature(f).parameters
    }
    assert keeping == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_stopped_experiment_goes_on_with_the_same_numbers(name, tmp_path):
    run = CASES[name]
    whole = Counting(keep_nothing)
    expected = run(whole)
    assert whole.computed >= 3
    for limit in (1, whole.computed - 1):
        path = tmp_path / f"{limit}.h5"
        with Store(path, {}) as store, pytest.raises(KeyboardInterrupt):
            run(Counting(store, limit))
        with Store(path, {}) as store:
            rest = Counting(store)
            xr.testing.assert_identical(run(rest), expected)
            assert rest.computed == whole.computed - limit
            # By now every part is kept.
            none = Counting(store)
            xr.testing.assert_identical(run(none), expected)
            assert none.computed == 0


def test_parts_of_equal_experiments_stay_apart():
    names = []

    class Names(KeepNothing):
        def __call__(self, part, compute):
            names.append(part)
            return super().__call__(part, compute)

    for net in ("a", "b"):
        within(Names(), net)("search", xr.Dataset)
    assert len(set(names)) == 2


def test_a_class_without_a_boundary_point_keeps_no_other_from_its_sections():
    net, _, test = digits()
    own = test[net.predict(test.images).numpy() == 1][:4]
    found = experiments.class_normal_section(net, own, curvatures(), [-1.0, 0.0, 1.0])
    converged = found["converged"].transpose("class", ...).to_numpy().reshape(3, -1)
    assert not converged[0].any()
    assert converged[1:].any(1).all()
    assert len(own) == 4
