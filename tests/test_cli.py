"""The `geomadv` command as a user types it: results, reuse, and one-paragraph errors."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import geomadv as ga
from geomadv.cli import COMMANDS, main
from geomadv.pipeline import EXPERIMENTS, commands

BOUNDARY = ("--boundary.count", "60")


@pytest.fixture
def geomadv(capsys, tmp_path):
    """Runs a command; returns its status, output and errors."""

    def run(*words, results=tmp_path / "results"):
        where = ("--results", str(results)) if words[0] in ("run", "paper", "list") else ()
        status = main([*map(str, words), *where])
        done = capsys.readouterr()
        return status, done.out, done.err

    return run


@pytest.fixture
def no_figures(monkeypatch):
    """Leaves out what takes most of a small run's time, where nothing is said of figures."""
    monkeypatch.setattr("geomadv.pipeline.drawer.draw_experiment", lambda *_, **__: 0)


def one_paragraph(status, error):
    assert status == 2
    lines = [line for line in error.strip().splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return error


def test_a_setting_given_reaches_the_experiment_and_its_input(geomadv, tmp_path):
    status, out, _ = geomadv("run", "normal-svd", *BOUNDARY, "--normal-svd.rank", "5")
    assert status == 0
    assert "normal_svd starts from boundary, which is missing: it runs first" in out
    assert "analysis 1 of 1 · normal_svd" in out
    folder = tmp_path / "results" / "digits-cnn"
    with xr.open_dataset(folder / "normal_svd.h5") as ds:
        assert (ds.sizes["rank"], int(ds["rows"] + ds["skipped"])) == (5, 60)
        first, command = ds.attrs["command"].splitlines()
    assert first == "geomadv run boundary --network digits-cnn --seed 0 --boundary.count 60"
    assert command == "geomadv run normal_svd --network digits-cnn --seed 0 --normal-svd.rank 5"
    assert {p.stem for p in (folder / "figures").glob("*.pdf")} == {
        "normal_spectrum",
        "leading_directions",
    }
    # The command that a file names makes it again.
    status, out, _ = geomadv(*command.split()[1:])
    assert status == 0
    assert "runs first" not in out
    status, out, _ = geomadv("show", folder / "normal_svd.h5")
    assert status == 0
    assert command in out
    assert "singular_value (rank 5) float64: leading singular values of the normal matrix" in out


@pytest.mark.usefixtures("no_figures")
def test_stale_results_of_the_issue_are_refused(geomadv):
    """The sequence in which old numbers once came back with status 0."""
    small = ("--random-subspace-fooling.count", "30", "--random-subspace-fooling.draws", "1")
    assert geomadv("run", "random_subspace_fooling", *BOUNDARY, *small)[0] == 0
    again = ("run", "boundary", "--boundary.count", "90", "--seed", "7")
    assert "--overwrite" in one_paragraph(*geomadv(*again)[::2])
    assert geomadv(*again, "--overwrite")[0] == 0
    for name in ("normal_svd", "random_subspace_fooling"):
        assert "is stale" in one_paragraph(*geomadv("run", name)[::2])
    _, out, _ = geomadv("list")
    states = dict(line.split()[:2] for line in out.splitlines() if line and line[0].isalpha())
    assert states["boundary"] == "done"
    assert states["normal_svd"] == states["random_subspace_fooling"] == "stale"
    status, out, _ = geomadv("run", "random_subspace_fooling", "--refresh")
    assert status == 0
    assert "stale:" not in geomadv("list")[1]


def test_settings_from_a_file(geomadv, tmp_path):
    file = tmp_path / "study.toml"
    file.write_text('network = "digits-relu"\nseed = 3\n[boundary]\ncount = 20\nmax_iter = 9\n')
    assert geomadv("run", "boundary", "--settings", file, "--boundary.count", "30")[0] == 0
    with xr.open_dataset(tmp_path / "results" / "digits-relu" / "boundary.h5") as ds:
        assert ds.sizes["sample"] == 30
        assert "--boundary.count 30 --boundary.max-iter 9" in ds.attrs["command"]
        assert ds.attrs["seed"] == 3
    command = "run boundary --network digits-relu --seed 3"
    assert command in geomadv("show", tmp_path / "results" / "digits-relu" / "boundary.h5")[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[boundary]\ncounts = 20\n", "Did you mean 'count'"),
        ("[boundry]\ncount = 20\n", "boundry is neither a flag"),
        ("boundary = 3\n", "expected a table, [boundary]"),
        ('seed = "a"\n', "seed = 'a': expected a whole number"),
        ('progress = "on"\n', "expected 'auto' or 'off'"),
        ("only = ['boundary']\n", "only is neither a flag of this command"),
        ("weights = 'nowhere.pt'\n", "nowhere.pt"),
        ("results = 3\n", "results = 3: expected a path"),
    ],
)
def test_a_bad_file_of_settings_is_refused(geomadv, tmp_path, text, message):
    (tmp_path / "bad.toml").write_text(text)
    status, _, error = geomadv("run", "boundary", "--settings", tmp_path / "bad.toml")
    assert message in one_paragraph(status, error)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "curvatur"), "Did you mean 'curvature'?"),
        (("run",), "name an experiment"),
        (("run", "--seed", "3", "boundary"), "before any flags"),
        (("run", "boundary", "--seed", "-1"), "seed=-1: expected a whole number"),
        (("run", "boundary", "--batch-size", "0"), "batch_size=0"),
        (("run", "boundary", "--seed", str(2**70)), "seed=1180591620717411303424: expected"),
        (("run", "boundary", "--batch-size", str(2**40)), ": expected"),
        (("run", "boundary", "--memory", str(2**63)), ": expected"),
        (("run", "boundary", "--device", "nonsense"), "device='nonsense' (--device): "),
        (("run", "boundary", "--device", "gpu"), "torch knows no such device"),
        (("run", "boundary", "--device", "cuda:70"), "device='cuda:70' (--device): "),
        (("run", "boundary", "--device", "cpu:3"), "there is one CPU"),
        (("run", "transfer", "--transfer.draws", str(2**40)), "at most 1e+06"),
        (("run", "boundary", "--boundary.count", str(2**40)), "at most 1e+09"),
        (("run", "boundary", "normal_tilt", "--normal-tilt.classes", "2", "11"), "class 11"),
        (("run", "random_subspace_fooling", "--normal-svd.rank", "0"), "rank = 0: expected"),
        (("run", "boundary", "--also=nowhere:experiment"), "package.module:experiment"),
        (("run", "boundary", "--network", "digit-cnn"), "Did you mean 'digits-cnn'?"),
        (("run", "boundary", "--network", "a.module:function"), "--images"),
        (("run", "boundary", "--weights", "nowhere.safetensors"), "nowhere"),
        (("run", "transfer", "--transfer.networks"), "at least two networks"),
        (("run", "normal_tilt", "--normal-tilt.classes", "2", "11"), "class 11 does not exist"),
        (("run", "categories", "--categories.relative-norms", "0", "2"), "relative_norms"),
        (("run", "score_curves", "--score-curves.steps", "2"), "steps=2: expected at least 3"),
        (("run", "direction_sweep", "--direction-sweep.reach", "0"), "reach=0"),
        (("run", "norm_fractions", "--norm-fractions.epsilon", "nan"), "epsilon=nan"),
        (("run", "confined_deepfool", "--confined-deepfool.count", "0"), "count = 0: expected"),
        (("run", "universal", "--universal.held-out", "0"), "held_out = 0: expected at least 1"),
        (("run", "transfer", "--transfer.count", "-2"), "count = -2: expected at least 1"),
        (("run", "universal", "--universal.relative-radius", "0"), "relative_radius = 0.0: expec"),
        (("run", "resampling", "--resampling.span-count", "-1"), "sample(n=-1)"),
        (("run", "nowhere:experiment"), "package.module:experiment"),
        (("paper", "--only", "curvature", "boundry"), "boundry: no experiment. Did you mean"),
        (("figures", "nowhere"), "holds no results"),
        (("claims", "nowhere"), "holds no results"),
        (("show", "nowhere.h5"), "no result file nowhere.h5"),
    ],
)
def test_bad_input_ends_with_status_2_before_any_work(geomadv, monkeypatch, words, message):
    def attack(*_, **__):
        raise AssertionError("the flags were not checked first")

    for name in ("deepfool", "boundary_points", "universal_perturbation"):
        monkeypatch.setattr(f"geomadv.{name}", attack)
    assert message in one_paragraph(*geomadv(*words)[::2])


STOPPED = "stopped; the same command continues where it was"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_command_with_a_line(geomadv, monkeypatch, name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    if threading.current_thread() is not threading.main_thread() or before == signal.SIG_IGN:
        pytest.skip("signals do not arrive here")
    monkeypatch.setattr("geomadv.pipeline.commands.claims", lambda *_: os.kill(os.getpid(), number))
    status, _, error = geomadv("claims")
    assert (status, error.strip()) == (128 + number, STOPPED)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_a_signal_during_the_imports_ends_a_command_with_a_line(name):
    with subprocess.Popen(
        [sys.executable, "-m", "geomadv", "list"], stderr=subprocess.PIPE, text=True
    ) as process:
        while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
            time.sleep(0.01)
        process.send_signal(getattr(signal, name))
        error = process.communicate()[1]
    assert (process.returncode, error.strip()) == (128 + getattr(signal, name), STOPPED)


def test_missing_data_says_where_to_put_it(geomadv, tmp_path, monkeypatch):
    monkeypatch.setenv("GEOMADV_DATA", str(tmp_path))
    monkeypatch.setenv("GEOMADV_CACHE", str(tmp_path / "cache"))
    # No download: the answer must not depend on a network.
    for name in ("HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    error = one_paragraph(*geomadv("run", "boundary", "--network", "lenet-mnist")[::2])
    assert "GEOMADV_DATA" in error


def test_quiet_prints_nothing(geomadv):
    assert geomadv("run", "train", "--quiet") == (0, "", "")


def test_help_needs_no_network_and_names_every_command():
    code = (
        "import sys; from geomadv.cli import main; main(['--help']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE)


def test_help_explains_every_setting(capsys):
    for experiment in EXPERIMENTS:
        with pytest.raises(SystemExit) as ended:
            main(["run", experiment.name, "--help"])
        assert ended.value.code == 0
        text = capsys.readouterr().out
        for field in experiment.settings.__dataclass_fields__:
            flag = f"--{experiment.name}.{field}".replace("_", "-")
            assert flag in text
        for flag in ("network", "weights", "images", "results", "seed", "device", "overwrite"):
            assert f"--{flag}" in text


def test_an_unknown_command_has_a_suggestion(capsys):
    assert main(["curvatre"]) == 2
    assert main(["figure"]) == 2
    assert "Did you mean 'figures'" in capsys.readouterr().err


OWN = textwrap.dedent(
    '''
    """A stranger's study."""
    from dataclasses import dataclass
    from matplotlib.figure import Figure
    import xarray as xr
    from geomadv.pipeline import Drawing, Experiment, Sample

    @dataclass(frozen=True, kw_only=True)
    class MeanDistance:
        """How far the boundary is, in parts."""

        parts: int = 3
        """Parts."""

    def compute(run, s, images, boundary):
        def part(i):
            import pathlib
            with open(pathlib.Path(__file__).with_suffix(".log"), "a") as log:
                log.write(f"{i}\\n")
            if i == 1 and pathlib.Path(__file__).with_suffix(".kill").exists():
                raise KeyboardInterrupt
            mean = float(boundary["distance"][i :: s.parts].mean())
            return xr.Dataset({"distance": ("part", [mean])})

        return run.keep.rows({f"part-{i}": lambda i=i: part(i) for i in range(s.parts)}, "part")

    def draw(ds):
        figure = Figure()
        figure.subplots().plot(ds["distance"])
        return figure

    experiment = Experiment(
        name="mean_distance",
        settings=MeanDistance,
        compute=compute,
        schema={"distance": (("part",), "mean distance", "image units")},
        images={"images": Sample("test")},
        inputs=("boundary",),
        tell=lambda ds: f"mean distance {float(ds['distance'].mean()):.3g}",
        figures={"mean_distance": Drawing(draw)},
    )
    '''
)


def test_an_experiment_of_ones_own_needs_no_other_file(geomadv, tmp_path, monkeypatch):
    """Function, figure and definition: run, figures, list, show, resuming and staleness work."""
    (tmp_path / "my_study.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_study.kill").touch()
    own, folder = "my_study:experiment", tmp_path / "results" / "digits-cnn"
    assert geomadv("run", own, *BOUNDARY)[0] == 130
    (tmp_path / "my_study.kill").unlink()
    status, out, _ = geomadv("run", own)
    assert status == 0
    assert "mean distance 0." in out
    assert (tmp_path / "my_study.log").read_text().split() == ["0", "1", "1", "2"]
    (folder / "figures" / "mean_distance.png").unlink()
    assert geomadv("figures", folder, "--also", own)[0] == 0
    assert (folder / "figures" / "mean_distance.png").stat().st_size > 2000
    listed = geomadv("list", "--also", own)[1]
    assert re.search(r"^mean_distance +done +How far the boundary is", listed, re.MULTILINE)
    assert "mean distance [image units]" in geomadv("show", folder / "mean_distance.h5")[1]
    assert "--mean-distance.parts" in geomadv_help(own)
    assert geomadv("run", "boundary", "--boundary.count", "40", "--overwrite")[0] == 0
    assert "is stale" in one_paragraph(*geomadv("run", own)[::2])
    assert geomadv("run", own, "--refresh")[0] == 0
    # The command that the file names finds the experiment.
    command = ga.load(folder / "mean_distance.h5").attrs["command"].splitlines()[-1]
    assert geomadv(*command.split()[1:])[0] == 0
    file = tmp_path / "study.toml"
    file.write_text(f'also = ["{own}"]\n[mean_distance]\nparts = 2\n')
    status, _, error = geomadv("run", "mean-distance", "--settings", file)
    assert "parts: 3 -> 2" in one_paragraph(status, error)


def geomadv_help(*words):
    from contextlib import redirect_stdout
    from io import StringIO

    with redirect_stdout(StringIO()) as text, pytest.raises(SystemExit):
        main(["run", *words, "--help"])
    return text.getvalue()


def write_network(path, *layers):
    """A module of the user's, whose `build` makes a network for the digits."""
    path.write_text(
        "import torch\nfrom torch import nn\n\ndef build():\n    torch.manual_seed(0)\n    return "
        f"nn.Sequential(nn.Flatten(), {', '.join(layers)})\n"
    )


def test_a_network_of_ones_own_is_found_by_its_name(geomadv, tmp_path, monkeypatch):
    """Module, weights and images of the user's, in a folder with a space: run, list, figures."""
    monkeypatch.chdir(tmp_path)
    write_network(tmp_path / "my_nets.py", "nn.Linear(64, 8)", "nn.Softplus()", "nn.Linear(8, 10)")
    own = ("--network", "my_nets:build", "--images", "digits", "--mean", "0.5", "--std", "0.25")
    here = tmp_path / "my results"
    assert geomadv("run", "normal_svd", *BOUNDARY, *own, results=here)[0] == 0
    command = ga.load(here / "my_nets.build" / "normal_svd.h5").attrs["command"].splitlines()[-1]
    assert geomadv(*command.split()[1:], results=here)[0] == 0
    where = ("--network", "my_nets:build", "--results", here)
    assert geomadv("figures", *where, "--only", "normal-spectrum")[0] == 0
    assert "holds no results" not in geomadv("claims", *where)[2]


@pytest.mark.usefixtures("no_figures")
def test_names_in_any_order_run_each_once_and_inputs_first(geomadv):
    given = ("normal_svd", "train", "boundary", "train", *BOUNDARY, "--overwrite", "--seed", "2")
    status, out, _ = geomadv("run", *given)
    assert status == 0
    ran = re.findall(r"analysis \d of 3 · (\w+)", out)
    assert ran == ["train", "boundary", "normal_svd"]


@pytest.mark.usefixtures("no_figures")
def test_a_run_ends_with_what_it_made_and_explains_its_choices(geomadv, tmp_path):
    few = ("run", "train", "normal_svd", "--train.count", "20", *BOUNDARY)
    status, out, _ = geomadv(*few, "-v", "--batch-size", "32")
    assert status == 0
    assert "\ndevice    cpu" in f"\n{out}"
    assert "32 images a pass: as given (--batch-size)" in out
    assert "\nengine    evaluated in its fastest form" in out
    rows = out.partition("\nfile ")[2].splitlines()[1:]
    assert [row.split()[0] for row in rows[:3]] == ["train.h5", "boundary.h5", "normal_svd.h5"]
    assert [row.split()[1] for row in rows[:3]].count("kept") == 0
    assert "accuracy " in rows[0]
    assert rows[-1] == f"one page of all: geomadv report {tmp_path / 'results' / 'digits-cnn'}"
    status, out, _ = geomadv(*few)
    assert "\ndevice " not in out
    rows = out.partition("\nfile ")[2].splitlines()[1:]
    assert [row.split()[:2] for row in rows[:2]] == [
        ["train.h5", "kept"],
        ["normal_svd.h5", "kept"],
    ]


def test_what_a_network_cannot_have_does_not_keep_a_quick_study_from_running(geomadv, tmp_path):
    digits = ga.load_images("digits", "test")
    some = digits[np.isin(digits.labels.numpy(), (0, 1, 5))]
    np.savez(tmp_path / "few.npz", images=some[:].images.numpy(), labels=some.labels.numpy())
    few = (
        "--only",
        "train",
        "normal_svd",
        "tilting_plane",
        "--images",
        tmp_path / "few.npz",
        "--by-number",
    )
    status, out, err = geomadv("paper", *few, "--quick", *BOUNDARY)
    assert status == 2
    assert err.startswith("error: tilting_plane: image set")
    assert "error: these failed" in err
    assert (tmp_path / "results" / "digits-cnn" / "train.h5").exists()
    assert "tilting_plane: none" in out
    # Settings that the user gave are refused before anything runs.
    status, _, err = geomadv("paper", *few, "--quick", "--tilting-plane.values", "3")
    assert err.startswith("error: image set")


def test_a_fault_of_one_experiment_does_not_end_a_study(geomadv, tmp_path, monkeypatch):
    usual = commands._run_one

    def faulty(runner, name, explain):
        if name in ("normal_svd", "transfer"):
            raise ZeroDivisionError(f"deep inside of {name}")
        return usual(runner, name, explain)

    monkeypatch.setattr(commands, "_run_one", faulty)
    few = ("--only", "train", "normal_svd", "label_graph", "--train.count", "20")
    status, out, err = geomadv("paper", *few, "--quick", *BOUNDARY)
    assert status == 2
    for words in (
        "deep inside of normal_svd",
        "in faulty",
        "error: normal_svd: this is no refusal",
    ):
        assert words in err
    assert "error: these failed, see their messages above: normal_svd." in err
    for name in ("train", "label_graph"):
        assert (tmp_path / "results" / "digits-cnn" / f"{name}.h5").exists()
    assert "report: none" not in out
    # Asked for by name, it is nothing to go on without.
    with pytest.raises(ZeroDivisionError, match="deep inside"):
        geomadv("run", "normal_svd", "--quick")


def test_a_lone_network_leaves_out_what_needs_two_and_fails_nothing(geomadv, monkeypatch, tmp_path):
    monkeypatch.setattr("geomadv.pipeline.study.Study.all_beside", lambda *_: ())
    few = ("--only", "train", "label_graph", "transfer", "--quick")
    status, out, err = geomadv("paper", *few)
    assert (status, err) == (0, "")
    assert "left out: nets: transfer needs at least two networks" in out
    # Where that was all, there is nothing to report or to judge.
    status, out, err = geomadv("paper", "--only", "transfer", "--quick", results=tmp_path / "none")
    assert (status, err) == (0, "")
    assert "found no results" in out
    status, _, err = geomadv("run", "transfer", "--quick")
    assert status == 2
    assert "needs at least two networks" in err


def test_splits_without_a_common_class_leave_out_what_takes_pairs_of_classes(geomadv, tmp_path):
    """As where a class has one image only: its halves share none."""
    digits, paths = ga.load_images("digits"), [tmp_path / f"{k}.npz" for k in range(2)]
    for path, rest in zip(paths, (digits.labels < 5, digits.labels >= 5), strict=True):
        some = digits[rest.numpy()]
        np.savez(path, images=some.images.numpy(), labels=some.labels.numpy())
    own = ("--images", str(paths[0]), "--test-images", str(paths[1]), "--by-number", "--quick")
    pairs = ("tilting_plane", "normal_tilt")
    status, out, err = geomadv("paper", "--only", "tilting_toy", *pairs, *own)
    assert (status, err) == (0, "")
    for name in pairs:
        assert f"left out: {name} takes images of the same classes from both splits" in out
    status, _, err = geomadv("run", "tilting_plane", *own)
    assert status == 2
    assert "share no class: give a data set" in err


def test_a_network_leaves_out_what_it_cannot_have_and_fails_nothing(geomadv, tmp_path, monkeypatch):
    """No softmax layer at the end, and nothing that a claim is about."""
    monkeypatch.chdir(tmp_path)
    write_network(tmp_path / "cut_off.py", "nn.Linear(64, 10)", "nn.ReLU()")
    own = ("--network", "cut_off:build", "--images", "digits", "--mean", "0.5", "--std", "1")
    few = ("--only", "train", "softmax_directions")
    status, out, err = geomadv("paper", *few, *own, "--quick")
    assert (status, err) == (0, "")
    assert re.search("left out: network 'cut_off.build' does not end in a linear layer", out)
    assert re.search("left out: .* holds no results that a claim is about", out)
    # What was named is no one's to leave out.
    assert geomadv("run", "softmax_directions", *own, "--quick")[0] == 2
