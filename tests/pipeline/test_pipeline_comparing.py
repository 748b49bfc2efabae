"""Networks side by side: rows of the same words, settings that differ, what is missing or stale."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import xarray as xr
from claims_cases import CASES

import geomadv as ga
from geomadv import InputError, results
from geomadv.pipeline import Drawing, Experiment, Sample
from geomadv.pipeline.figures import draw
from geomadv.pipeline.finished import finished
from geomadv.pipeline.identity import layout
from geomadv.pipeline.normals import tell_fooling

SCHEMA = {"rate": (("draw",), "a rate", "1")}


@dataclass(frozen=True, kw_only=True)
class Own:
    """An experiment of one's own."""

    count: int = 3


def tell(ds):
    lines = [f"{n} images: {n * float(ds['rate'].mean()):.1f} % fooled" for n in (10, 20)]
    return "\n".join([f"rate {float(ds['rate'].mean()):.2f} of 7", *lines])


def own(name="own", **more):
    return Experiment(name=name, settings=Own, compute=None, schema=SCHEMA, tell=tell, **more)


FIRST, AFTER = own(), own("after", inputs=("own",))
TABLE = (FIRST, AFTER)


def written(
    folder,
    network,
    rate=0.5,
    *,
    experiment=FIRST,
    inputs=None,
    config=None,
    command="",
    dataset="noise-test",
    weights="w",
    **identity,
):
    """Writes a result; its identity."""
    values = [rate, rate]
    ds = xr.Dataset({"rate": ("draw", values, {"long_name": "a rate", "units": "1"})})
    known = {
        "experiment": experiment.name,
        "version": experiment.version,
        "schema": layout(experiment),
        "rate": rate,
        "inputs": inputs or {},
        "network": {"weights": weights},
    } | identity
    more = {"network": network, "dataset": dataset, "config": config or {"count": 3}}
    more |= {"weights_sha256": weights}
    more |= {"command": command} if command else {}
    path = folder / network / f"{experiment.name}.h5"
    results.save(ds, path, results.provenance(known, **more))
    return known


def compared(folder, *networks, **more):
    return ga.compare(*(folder / name for name in networks), experiments=TABLE, **more)


def test_lines_of_the_same_words_are_one_row(tmp_path):
    written(tmp_path, "a", 0.25)
    written(tmp_path, "b", 0.75)
    comparison = compared(tmp_path, "a", "b", to=tmp_path / "new" / "out")
    told = {row.words: row.cells for row in comparison.numbers}
    assert told == {
        "rate … of 7": ("0.25", "0.75"),
        "10 images: … % fooled": ("2.5", "7.5"),
        "20 images: … % fooled": ("5.0", "15.0"),
    }
    assert comparison.networks == ("a", "b")
    page = (tmp_path / "new" / "out" / "compare.md").read_text()
    assert "| own: rate … of 7 | 0.25 | 0.75 |" in page
    record = json.loads((tmp_path / "new" / "out" / "compare.json").read_text())
    assert record["numbers"][0]["cells"] == ["0.25", "0.75"]
    assert "rate … of 7" in str(comparison)
    assert "≠ own" not in str(comparison)


def test_rows_of_the_same_first_number_stay_apart(tmp_path):
    def tell(ds):
        return "\n".join(f"norm 0 %: {k * float(ds['rate'][0]):g}" for k in (1, 2))

    twice = replace(FIRST, tell=tell)
    for name, rate in (("a", 0.25), ("b", 0.75)):
        written(tmp_path, name, rate, experiment=twice)
    folders = (tmp_path / name for name in "ab")
    rows = [(row.words, row.cells) for row in ga.compare(*folders, experiments=[twice]).numbers]
    words = "norm 0 %: …"
    assert rows == [(words, ("0.25", "0.75")), (words, ("0.5", "1.5"))]


def test_norms_are_told_apart():
    norm = 7 * np.array([0.001, 0.004, 0.3, 0.304])
    rates = {
        "fooling_rate": (("m", "norm", "draw"), np.ones((1, 4, 2))),
        "uniform_fooling_rate": (("norm", "draw"), np.ones((4, 2))),
    }
    ds = xr.Dataset(rates | {"mean_image_norm": 7.0}, {"norm": norm})
    told = [line.split()[1] for line in tell_fooling(ds).splitlines()]
    assert told == ["0.1", "0.4", "30", "30.4"]


def test_settings_that_differ_mark_all_that_starts_from_them(tmp_path):
    for name, count in (("a", 3), ("b", 5)):
        config = {"count": count, "inner": {"same": 1, "n": count}}
        known = written(tmp_path, name, count / 10, config=config)
        before = {"own": results.digest(known)}
        written(tmp_path, name, count / 10, experiment=AFTER, inputs=before)
    comparison = compared(tmp_path, "a", "b")
    assert comparison.settings == {"own": {"count": ("3", "5"), "inner.n": ("3", "5")}}
    marked = {row.experiment: row.differing for row in comparison.numbers}
    assert marked == {"own": ("count", "inner.n"), "after": ("own.count", "own.inner.n")}
    assert "≠ after" in comparison.markdown()
    assert "≠ after" in str(comparison)
    assert not comparison.notes


def test_methods_that_the_same_words_came_to_mean_are_marked(tmp_path):
    walk = {"max_iter": 50, "overshoot": 0.02}
    one = {"count": 3, "hvp": "auto", "step": None, "classes": [0, 1], "deepfool": walk}
    paper = {"max_iter": 5, "overshoot": 0.05}
    other = {
        "count": 3,
        "hvp": "finite-difference",
        "step": 0.35,
        "classes": [0],
        "deepfool": paper,
    }
    longer = {**other, "step": 0.7, "classes": [0, 1, 2]}
    for network, settings in {"a": one, "b": other, "c": longer}.items():
        written(tmp_path, network, settings=settings)
    found = compared(tmp_path, "a", "b").settings["own"]
    assert found == {
        "hvp": ('"auto"', '"finite-difference"'),
        "step": ("null", "0.35"),
        "deepfool.max_iter": ("50", "5"),
        "deepfool.overshoot": ("0.02", "0.05"),
    }
    # Lengths that grow with the images and lists are no other method.
    assert not compared(tmp_path, "b", "c").settings


def test_images_of_one_split_are_the_same_and_those_of_two_need_not_be(tmp_path):
    splits = {s: own(f"of_{s}", images={"x": Sample(s, "count")}) for s in ("train", "test")}
    again = own("again", images={"x": Sample("test", "count")})
    follows = own("follows", inputs=("of_train",))
    table = (*splits.values(), again, follows)
    for experiment, dataset in zip(table, ("mine", "val-2019", "val-2019", "mine"), strict=True):
        known = {"of_train": results.digest({})} if experiment is follows else {}
        written(tmp_path, "a", experiment=experiment, dataset=dataset, inputs=known)
    assert len(finished([tmp_path / "a"], table)[0].results) == 4
    written(tmp_path, "a", experiment=again, dataset="val-2020")
    with pytest.raises(
        InputError, match=r"again\.h5 is of another dataset \(val-2020\) than 'val-2019'"
    ):
        finished([tmp_path / "a"], table)
    written(tmp_path, "a", experiment=again, dataset="val-2019")
    written(tmp_path, "a", experiment=follows, dataset="yours")
    with pytest.raises(
        InputError, match=r"follows\.h5 is of another dataset \(yours\) than 'mine'"
    ):
        finished([tmp_path / "a"], table)


def test_what_one_of_three_networks_has_otherwise_or_alone_is_seen(tmp_path):
    for name, count in (("a", 3), ("b", 3), ("c", 5)):
        known = written(tmp_path, name, config={"count": count})
    written(tmp_path, "c", experiment=AFTER, inputs={"own": results.digest(known)})
    comparison = compared(tmp_path, "a", "b", "c")
    assert comparison.settings == {"own": {"count": ("3", "3", "5")}}
    told = {(row.experiment, row.words): row.cells for row in comparison.numbers}
    assert told["own", "rate 0.50 of 7"] == ("the same",) * 3
    assert told["after", "rate … of …"] == ("–", "–", "0.50, 7")


def test_what_one_network_alone_has_is_not_drawn(tmp_path):
    drawn = own("boundary")
    for name, experiment in (("a", FIRST), ("b", drawn)):
        written(tmp_path, name, experiment=experiment)
    folders = [tmp_path / name for name in ("a", "b")]
    ga.compare(*folders, to=tmp_path / "out", experiments=(FIRST, quiet(drawn)))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "compare.json",
        "compare.md",
    ]


def test_what_is_missing_or_stale_is_said_with_its_command(tmp_path):
    known = written(tmp_path, "a")
    before = {"own": results.digest(known)}
    written(tmp_path, "a", experiment=AFTER, inputs=before)
    written(tmp_path, "a", 0.75)  # what it starts from is another by now
    written(tmp_path, "b", command="geomadv run own --network m:b --weights b.pth --own.count 3")
    written(tmp_path, "c", version=7)
    there = f" --results {tmp_path}"
    notes = compared(tmp_path, "a", "b", "c").notes
    assert tuple(note.replace(there, "") for note in notes) == (
        "a: after: stale: own, from which it starts, is another by now "
        "(geomadv run after --network a --refresh)",
        "b: after: missing (geomadv run after --network m:b --weights b.pth)",
        "c: own: stale: this geomadv computes or lays it out otherwise "
        "(geomadv run own --network c --refresh)",
        "c: after: missing (geomadv run after --network c)",
    )
    assert all(there in note for note in notes)


def test_an_input_that_has_gone_makes_stale(tmp_path):
    written(tmp_path, "a", experiment=AFTER, inputs={"own": "0" * 64})
    written(tmp_path, "b")
    assert any(
        "own, from which it starts, is missing" in n for n in compared(tmp_path, "a", "b").notes
    )


def test_figures_say_what_is_stale_or_of_another_network_and_show_beside_it_what_is_not(tmp_path):
    beside = Drawing(lambda ds, other: f"beside: {other is not None}", beside=("after",))
    page = own("page", inputs=("own",), figures={"page": beside})
    drawn = own("after", inputs=("own",), figures={"after": Drawing(lambda ds: "after")})

    def told(rate, weights="w"):
        known = {"own": results.digest(written(tmp_path, "a"))}
        written(tmp_path, "a", experiment=drawn, inputs=known)
        known = {"own": results.digest(written(tmp_path, "a", rate))}
        written(tmp_path, "a", experiment=page, inputs=known, weights=weights)
        lines: list[str] = []
        draw(tmp_path / "a", experiments=(FIRST, drawn, page), say=lines.append)
        notes = [line for line in lines if line.startswith("note")]
        return (tmp_path / "a" / "figures" / "page.html").read_text(), notes

    assert told(0.5) == ("beside: True", [])
    other = "note: page without after.h5, which is of another"
    alone, (stale, without) = told(0.75)
    assert (alone, stale.partition(": own, from")[0]) == ("beside: False", "note: after is stale")
    assert without.startswith(f"{other} (inputs.own: ")
    assert told(0.5, "v") == (
        "beside: False",
        [
            f'{other} (network.weights: "w" -> "v")',
            "note: page is of another weights_sha256 (v) than 'w'",
        ],
    )


def test_results_of_other_layouts_are_refused(tmp_path):
    written(tmp_path, "a")
    written(tmp_path, "b", schema={"rate": [["draw"], "1"], "older": [[], "1"]})
    with pytest.raises(InputError, match=r"laid out differently \(older\).*geomadv run own"):
        compared(tmp_path, "a", "b")


def test_folders_that_are_none_of_a_network_are_refused(tmp_path):
    written(tmp_path, "a")
    for folders, words in (
        (("a",), "found 1, expected those of two"),
        (("a", "a"), "are one folder"),
        (("a", "none"), "found no results"),
        (("a", "."), "found several networks: name .*a instead"),
    ):
        with pytest.raises(InputError, match=words):
            compared(tmp_path, *folders)
        if folders[0] != folders[-1] and folders[-1] == "none":
            with pytest.raises(InputError, match="no such folder"):
                ga.pipeline.results_of(*(tmp_path / name for name in folders))


def test_what_is_no_path_is_refused():
    with pytest.raises(InputError, match="folders is of type dict, expected str"):
        ga.compare({}, [])


def test_networks_of_one_name_are_told_by_their_folders(tmp_path):
    for part in ("one", "two"):
        written(tmp_path / part, "a")
    folders = [tmp_path / part / "a" for part in ("one", "two")]
    comparison = ga.compare(*folders, experiments=TABLE)
    assert comparison.networks == tuple(f"a ({folder})" for folder in folders)
    assert len(ga.pipeline.results_of(*folders)("own")) == 2


@pytest.mark.parametrize("holds", [True, False])
def test_claims_stand_with_answer_and_interval(tmp_path, holds):
    """As `geomadv claims` answers them; of networks without the result, not measured."""
    made = CASES["null_space"][0 if holds else 1][0]()
    for variable in made.variables.values():
        variable.attrs |= {"long_name": "made up", "units": "1"}
    known = {"experiment": "softmax_directions", "schema": {}, "version": 1, "inputs": {}}
    attrs = results.provenance(known, network="a", dataset="noise-test")
    results.save(made, tmp_path / "a" / "softmax_directions.h5", attrs)
    written(tmp_path, "b")
    softmax = own("softmax_directions")
    folders = [tmp_path / name for name in ("a", "b")]
    comparison = ga.compare(*folders, experiments=[FIRST, quiet(softmax)])
    row = next(row for row in comparison.claims if row.claim.name == "null_space")
    answers = [v.answer for v in row.verdicts]
    assert answers == ["holds" if holds else "does not hold", "not measured"]
    assert row.verdicts[0].note.startswith("stale")
    assert np.isfinite(row.verdicts[0].value)


def quiet(experiment):
    return Experiment(
        name=experiment.name,
        settings=Own,
        compute=None,
        schema=SCHEMA,
        tell=lambda ds: "",
    )
