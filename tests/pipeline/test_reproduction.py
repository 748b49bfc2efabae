"""Results that are computed again: what agrees, what is said before any work, what is refused."""

import contextlib
import json
import shutil
import sys
from pathlib import Path

import pytest
from small_runs import small_runner
from test_pipeline_runner import TABLE, classifier, images, runner

import geomadv as ga
from geomadv.cli import main

ARCHIVE = Path(__file__).parents[1] / "archive"
GIVEN = {
    "boundary": {"count": 12},
    "normal_svd": {"rank": 3, "baseline_draws": 2},
    "random_subspace_fooling": {
        "count": 8, "dimensions": [1, 2], "relative_norms": [0.4], "draws": 2,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a chain of results, the first of another seed than the others."""
    path = tmp_path_factory.mktemp("results")
    small_runner(path, given=GIVEN, seed=3).run("boundary")
    small_runner(path, given=GIVEN).run("random_subspace_fooling")
    return path / "digits-cnn"


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "digits-cnn"))


@pytest.fixture
def said():
    return []


def verdicts(again) -> set[str]:
    return {a.verdict for a in again.agreements}


def altered(path: Path, values=None, **attrs) -> Path:
    """The file with other attributes, or a variable of other values, sealed as its own."""
    ds = ga.load(path)
    for name, value in (values or {}).items():
        ds[name][:] = value
    return ga.save(ds, path, attrs)


def test_a_result_is_reproduced_from_what_lies_beside_it(folder, said):
    before = {file: file.read_bytes() for file in folder.iterdir()}
    again = ga.reproduce(folder / "random_subspace_fooling.h5", progress=False, say=said.append)
    assert again.same
    assert verdicts(again) == {"identical"}
    assert again.notes == ()
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_missing_and_other_inputs_are_said_and_made_again(folder, said):
    path, svd = folder / "random_subspace_fooling.h5", folder / "normal_svd.h5"
    whole = svd.read_bytes()
    svd.unlink()
    altered(folder / "boundary.h5", {"normal": 1.0})  # not looked at: its command comes first
    again = ga.reproduce(path, progress=False, say=said.append)
    assert again.notes == ("normal_svd is not beside it",)
    assert verdicts(again) == {"identical"}
    svd.write_bytes(whole)
    other = json.loads(ga.load(svd).attrs["identity"]) | {"seed": 1}
    for kind, words in (
        (json.dumps(other), "is another result than then"),
        ("{}", "cannot be used"),
    ):
        altered(svd, {"direction": 1.0}, identity=kind)
        again = ga.reproduce(path, progress=False, say=said.append)
        assert f"normal_svd beside it {words}" in again.notes[0]
        assert again.same


def test_the_command_tells_by_its_status(folder, capsys):
    path = folder / "normal_svd.h5"
    assert main(["reproduce", "--batch-size", "5", str(path), "--progress", "off"]) == 0
    assert "normal_svd.h5: reproduced, " in capsys.readouterr().out
    altered(path, {"singular_value": 1.0})
    assert main(["reproduce", str(path), "--progress", "off"]) == 1
    out = capsys.readouterr().out
    assert "different    singular_value: 3 of 3 differ" in out
    assert "identical    direction\n" in out
    assert "NOT reproduced" in out


def test_settings_are_those_of_the_file_whatever_is_default_now(folder, said):
    path = folder / "normal_svd.h5"
    line = ga.load(path).attrs["command"].splitlines()[-1]
    first = "geomadv run normal_svd --network digits-cnn --seed 0"
    assert line.startswith(first)
    altered(path, command=first)
    assert ga.reproduce(path, progress=False, say=said.append).same


OBJECTS = {"train": images(0), "test": images(1)}


def test_objects_are_given_again(tmp_path, said):
    runner(tmp_path, given={"first": {"scale": 2.0}}, seed=5).run("second")
    path = tmp_path / "net" / "second.h5"
    with pytest.raises(ga.InputError, match=r"from objects in Python .*reproduce\(path, net, im"):
        ga.reproduce(path)
    again = ga.reproduce(path, classifier(), OBJECTS, also=TABLE, say=said.append)
    assert verdicts(again) == {"identical"}
    with pytest.raises(ga.InputError, match=r"images: give both"):
        ga.reproduce(path, classifier())
    with pytest.raises(ga.InputError, match=r"another than then: network\.behaviour.*weights"):
        ga.reproduce(path, classifier(seed=1), OBJECTS, also=TABLE, say=said.append)
    other = {**OBJECTS, "test": images(2)}
    with pytest.raises(ga.InputError, match=r"another than then: images\.test: \w{8}\.\.\. -> "):
        ga.reproduce(path, classifier(), other, also=TABLE, say=said.append)
    path.with_name("first.h5").unlink()
    with pytest.raises(ga.InputError, match=r"starts from first, which is not beside it"):
        ga.reproduce(path, classifier(), OBJECTS, also=TABLE, say=said.append)


def test_another_program_is_a_note(folder, said):
    path = folder / "boundary.h5"
    identity = json.loads(ga.load(path).attrs["identity"])
    other = {**identity, "version": 99, "schema": {**identity["schema"], "gone": [[], "1"]}}
    altered(path, identity=json.dumps(other), torch_version="1.0", geomadv_version="0.1.9")
    notes = " ".join(ga.reproduce(path, progress=False, say=said.append).notes)
    for word in ("geomadv: 0.1.9 then", "torch: 1.0 then", "gone", "version: 99 -> "):
        assert word in notes


def test_code_that_only_the_file_names_does_not_run(folder, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('it ran')")
    (tmp_path / "trap.toml").write_text('network = "trap:net"\nalso = ["trap:experiment"]')
    monkeypatch.chdir(tmp_path)
    run = "geomadv run boundary --network"
    for command in (
        f"{run} trap:net",
        f"{run}=trap:net",
        f"{run} digits-cnn --also trap:experiment",
        "geomadv run trap:experiment boundary",
        "geomadv run boundary --settings trap.toml",
    ):
        path = altered(folder / "boundary.h5", command=command)
        with contextlib.suppress(ga.InputError):
            ga.reproduce(path, progress=False, say=str)
        assert "trap" not in sys.modules
    beside = {
        "experiment": "transfer",
        "command": "geomadv run transfer --network digits-cnn",
        "config": '{"seed": 0, "networks": ["trap:net"]}',
    }
    path = altered(folder / "boundary.h5", **beside)
    with pytest.raises(ga.InputError, match="repeat --network trap:net"):
        ga.reproduce(path, progress=False, say=str)


HOSTILE = {
    "no JSON": {"config": "{"},
    "a list": {"config": "[1]"},
    "no seed": {"config": '{"count": 3}'},
    "an unknown setting": {"config": '{"seed": 0, "counts": 3}'},
    "a setting of another type": {"config": '{"seed": 0, "count": "x"}'},
    "a seed that is none": {"config": '{"seed": "x"}'},
    "inputs that are a list": {"identity": '{"images": {}, "inputs": [1]}'},
    "inputs elsewhere": {"identity": '{"images": {}, "inputs": {"../x": "00"}}'},
    "inputs that are none": {"identity": '{"images": {}, "inputs": {"x": "00"}}'},
    "inputs without command": {"identity": '{"images": {}, "inputs": {"train": "00"}}'},
    "no images": {"identity": "{}"},
    "an experiment that is none": {"experiment": "nothing"},
    "a path": {"experiment": "../../x"},
    "flags that are none": {"command": "geomadv run boundary --wrong 3"},
    "help": {"command": "geomadv run boundary --help"},
    "quotes that do not close": {"command": "geomadv run boundary --network 'x"},
    "no experiment": {"command": "geomadv run --network digits-cnn"},
    "no words": {"command": "geomadv run "},
    "another program": {"command": "rm -r /"},
    "nothing": {"command": ""},
}


@pytest.mark.parametrize("attrs", HOSTILE.values(), ids=HOSTILE)
def test_files_that_say_nonsense_are_refused(folder, attrs, capsys):
    path = altered(folder / "boundary.h5", **attrs)
    assert main(["reproduce", str(path), "--progress", "off"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


# All but the one of this layout, which says it.
OLDER = [path for path in sorted(ARCHIVE.glob("*.h5")) if path.stem != "normal_svd-0.2.0"]


@pytest.mark.parametrize("path", OLDER, ids=lambda path: path.stem)
def test_older_layouts_are_refused_by_what_they_lack(path):
    with pytest.raises(ga.InputError, match=r"does not say its .*images and .*command"):
        ga.reproduce(path)
