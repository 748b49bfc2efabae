"""Settings keep their values through JSON, TOML and the command line."""

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import geomadv as ga
from geomadv import InputError
from geomadv.pipeline import EXPERIMENTS, provenance
from geomadv.pipeline.curvature import Curvature
from geomadv.pipeline.flags import Flags, parsed, runner_of
from geomadv.pipeline.settings import Bound, Count, Shares, differing, normalised, with_given
from geomadv.pipeline.study import Place, Study, Subject
from geomadv.results.identity import plain


@dataclass(frozen=True, kw_only=True)
class Inner:
    radii: tuple[float, ...] = (0.5,)
    clip: bool = False


@dataclass(frozen=True, kw_only=True)
class Outer:
    count: int = 3
    scale: float = 1.0
    maybe: float | None = None
    pair: tuple[int, int] = (2, 3)
    names: tuple[str, ...] | None = None
    kind: Literal["a", "b"] = "a"
    pairs: int | Literal["auto"] | None = "auto"
    inner: Inner = field(default_factory=Inner)


floats = st.floats(allow_nan=False)
outers = st.builds(
    Outer,
    count=st.integers(-5, 5),
    scale=floats | st.integers(-3, 3),
    maybe=st.none() | floats,
    pair=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    names=st.none() | st.lists(st.text(max_size=3), max_size=3).map(tuple),
    kind=st.sampled_from(["a", "b"]),
    pairs=st.sampled_from([None, "auto", 4]),
    inner=st.builds(Inner, radii=st.lists(floats | st.integers(0, 3)).map(tuple)),
)


@given(outers)
@settings(deadline=None)
def test_json_keeps_every_value_and_its_type(outer):
    stored = json.loads(json.dumps(plain(normalised(outer))))
    restored = normalised(with_given(Outer(), stored))
    assert restored == normalised(outer)
    assert json.dumps(plain(restored)) == json.dumps(stored)


@given(outers, outers)
@settings(deadline=None)
def test_what_differs_turns_the_one_into_the_other(one, other):
    one, other = normalised(one), normalised(other)
    assert with_given(one, differing(other, one)) == other
    assert differing(one, one) == {}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cout": 1}, r"cout is no setting\. Did you mean 'count'"),
        ({"inner": {"radius": [1.0]}}, r"inner\.radius is no setting\. Did you mean 'radii'"),
        ({"count": 1.5}, "count = 1.5: expected a whole number"),
        ({"count": True}, "count = True"),
        ({"scale": "1.5"}, "scale = '1.5': expected a number"),
        ({"pair": [1]}, r"pair = \[1\]: expected a list"),
        ({"kind": "c"}, "kind = 'c': expected 'a' or 'b'"),
        ({"pairs": "all"}, "pairs = 'all': expected a whole number or 'auto' or nothing"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(given, words):
    with pytest.raises(InputError, match=words):
        with_given(Outer(), given)


@dataclass(frozen=True, kw_only=True)
class Bounded:
    draws: Count = 3
    radii: Shares = (0.5,)
    steps: Annotated[tuple[int, ...] | None, Bound(0)] = None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"draws": 0}, "x.draws = 0: expected at least 1"),
        ({"radii": [0.5, math.nan]}, "each > 0 and finite"),
        ({"radii": []}, "a list of one or more numbers, each > 0 and finite"),
        ({"steps": [3, -1]}, r"x.steps = \[3, -1\]: expected a list, each at least 0"),
    ],
)
def test_a_number_out_of_bounds_is_refused_by_name(given, words):
    with pytest.raises(InputError, match=words):
        with_given(Bounded(), given, "x.")
    assert with_given(Bounded(), {"steps": []}).steps == ()


def test_values_as_python_and_toml_have_them():
    given = {"count": np.int64(4), "maybe": "None", "pair": np.array([1, 2]), "names": [0, "b"]}
    found = with_given(Outer(maybe=2.0), given)
    assert found == Outer(count=4, maybe=None, pair=(1, 2), names=("0", "b"))


def test_infinity_is_a_number():
    assert with_given(Outer(), {"scale": "inf"}).scale == math.inf
    assert with_given(Outer(), {"scale": 2}).scale == 2.0


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.name)
def test_settings_of_every_experiment_are_kept(experiment):
    default = normalised(experiment.settings())
    assert normalised(with_given(experiment.settings(), plain(default))) == default
    for name in vars(default):
        changed = replace(default, **{name: getattr(default, name)})
        assert differing(changed, default) == {}


def odd_values(kind, now):
    """Values of a type, among them those that are hard to write on a command line."""
    if typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        for field in dataclasses.fields(kind):
            for value in odd_values(hints[field.name], getattr(now, field.name)):
                yield replace(now, **{field.name: value})
    elif origin in (typing.Union, types.UnionType):
        for one in arguments:
            yield from odd_values(one, now)
    elif origin is tuple and arguments[-1] is Ellipsis:
        each = [*odd_values(arguments[0], None)]
        yield from ((), (each[0],), tuple(each))
    elif origin is tuple:
        yield tuple(next(odd_values(one, None)) for one in arguments)
    elif origin is Literal:
        yield from arguments
    else:
        samples = {
            int: (7, -3, 10**12), float: (1e-12, -1e-5, math.inf, -math.inf, 3.0),
            bool: (True, False), str: ("a b", "it's", "x=1", "\u00e9\u4e2d", "3"),
            type(None): (None,),
        }  # fmt: skip
        yield from samples[kind]


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.name)
def test_the_recorded_flags_are_parsed_to_the_same_settings(experiment):
    table, default = {e.name: e for e in EXPERIMENTS}, experiment.settings()
    for value in odd_values(experiment.settings, default):
        try:
            asked = normalised(value)
        except InputError:  # out of bounds
            continue
        words = provenance.words_of(experiment.name, differing(asked, default))
        _, given = parsed(Flags, words, [experiment.name], table, "run")
        assert with_given(default, given.get(experiment.name, {})) == asked, words


def large_network() -> ga.Classifier:
    torch.manual_seed(0)
    return ga.Classifier(
        nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 7)), (3, 64, 64)
    )


def test_large_images_get_default_settings_that_a_night_affords() -> None:
    net = large_network()
    resolved = {e.name: e.resolve(e.settings(), net) for e in EXPERIMENTS}
    curved = resolved["curvature"]
    assert curved.classes == (0, 3, 6)
    found = curved.settings.count, curved.settings.pairs, curved.settings.boundary
    assert found == (20, 5, "region")
    assert (curved.settings.step, curved.settings.step_distances) == (None, 0.3)
    assert resolved["random_subspace_fooling"].count == 200
    assert resolved["subspace_accuracy"].count == resolved["first_order_twin"].count == 200
    confined = resolved["confined_deepfool"]
    assert confined.count == 30
    assert 8 * 5 * net.dimension * max(confined.dimensions) <= 2**31


def test_quick_takes_fewer_of_large_images(tmp_path, monkeypatch) -> None:
    net, table = large_network(), {e.name: e for e in EXPERIMENTS}
    for e in EXPERIMENTS:
        assert {*e.quick_large} <= {*e.quick}
        resolved = e.resolve(with_given(e.settings(), e.quick_settings(net.dimension)), net)
        usual = e.resolve(with_given(e.settings(), e.quick), net)
        assert (resolved != usual) == bool(e.quick_large)

    def study(subject, place, seed, given):
        return Study(net, {}.__getitem__, place, "", lambda _: net, seed=seed, given=given)

    monkeypatch.setattr("geomadv.pipeline.flags.study", study)
    hurried = Flags(place=Place(results=tmp_path), quick=True)
    given = {"curvature": {"pairs": 7}, "softmax_directions": {"collisions": {"pairs": 9}}}
    runner = runner_of(hurried, given, table, [])
    assert runner.asked("curvature").raw == Curvature(classes=("0", "1"), count=2, pairs=7)
    collisions = runner.asked("softmax_directions").raw.collisions
    assert (collisions.pairs, collisions.steps) == (9, 10)


@pytest.mark.parametrize("shape", [(1, 1, 12), (1, 12, 1), (1, 3, 4)], ids=str)
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.name)
def test_quick_and_usual_settings_fit_small_images_of_two_classes(experiment, shape) -> None:
    net = ga.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), shape)
    usual = experiment.settings()
    for asked in (usual, with_given(usual, experiment.quick)):
        found = experiment.resolve(asked, net)
        if experiment.name == "curvature":
            assert found.classes == (0, 1)
        if experiment.name == "confined_deepfool":
            assert max(found.dimensions) <= net.dimension
        if experiment.name == "resampling":
            assert min(found.low_sizes) >= 1


@pytest.mark.parametrize("value", [True, False])
def test_the_recorded_flags_of_the_subject_are_parsed_to_the_same(value) -> None:
    names = [f.name for f in dataclasses.fields(Subject) if isinstance(f.default, bool)]
    assert names
    words = provenance.flag_words(dict.fromkeys(names, value))
    flags, _ = parsed(Flags, words, ["train"], {e.name: e for e in EXPERIMENTS}, "run")
    assert [getattr(flags.subject, name) for name in names] == [value] * len(names)


def test_what_is_asked_for_on_large_images_is_taken() -> None:
    table = {e.name: e for e in EXPERIMENTS}
    asked = table["curvature"].settings(preset="paper", classes=("1",), pairs=9)
    found = table["curvature"].resolve(asked, large_network())
    assert (found.classes, found.settings.count, found.settings.pairs) == ((1,), 100, 9)
    for flags in ({"step": 2.0}, {"hvp": "smoothed"}, {"step_distances": 1.0}):
        settings = (
            table["curvature"]
            .resolve(table["curvature"].settings(**flags), large_network())
            .settings
        )
        assert settings.step_distances == flags.get("step_distances")
