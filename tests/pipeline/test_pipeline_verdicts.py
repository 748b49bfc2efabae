"""The table of claims: a valid one of Markdown, the same in JSON, and one claim explained."""

import json
import math
import re
from dataclasses import replace

import pytest
from claims_for_tests import QUICK, accuracy, crossed, layer, universal

import geomadv as ga
from geomadv import results
from geomadv.claims import CLAIMS, Verdict
from geomadv.errors import InputError
from geomadv.pipeline.commands import claims_
from geomadv.pipeline.verdicts import claims, contrast, explained, interval

RESULTS = {
    "subspace_accuracy": accuracy(positive=QUICK, flat=QUICK),
    "direction_sweep": crossed(enter=0.8, random=0.3),
    "universal": universal(0.2, 0.1, random=0.3),
    "softmax_directions": layer(),
}


@pytest.fixture
def folder(tmp_path):
    for name, ds in RESULTS.items():
        known = {"experiment": name, "network": "a|b\\net", "dataset": "noise-test"}
        named = ds.assign_attrs(known)
        for variable in named.variables.values():
            variable.attrs = {"long_name": "number", "units": "1"}
        ga.save(named, tmp_path / f"{name}.h5")
    return tmp_path


def rows(text):
    """Cells of every table row, as GitHub splits them: at bars without a backslash before."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [re.split(r"(?<!\\)\|", line.strip("|")) for line in lines]


def test_the_table_is_valid_and_in_json_beside(folder):
    printed = claims(folder)
    table = rows((folder / "claims.md").read_text(encoding="utf-8"))
    # Two tables, each with a head and a rule.
    assert len(table) == len(CLAIMS) + 4
    assert {len(row) for row in table} == {len(table[0])}
    content = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
    found = {one["name"]: one for one in content["claims"]}
    assert content["network"] == "a|b\\net"
    assert [*found] == [claim.name for claim in CLAIMS]
    one = found["positive_dimensions"]
    assert (one["answer"], one["count"]) == ("holds", "240 images")
    assert one["low"] < one["value"] < one["high"] < one["threshold"] == 0.5
    assert one["value"] == pytest.approx(one["effect"] / one["null"])
    assert (found["held_out_rate"]["answer"], found["held_out_rate"]["low"]) == (
        "not measured",
        None,
    )
    answers = [one["answer"] for one in content["claims"] if not one["of_mathematics"]]
    assert f"{answers.count('holds')} hold, " in printed
    assert "checks of the mathematics: 3 of 3 hold" in printed
    assert len(answers) == len(CLAIMS) - 3


def test_verdicts_from_stale_results_say_so(folder):
    name = "direction_sweep"
    ds = ga.load(folder / f"{name}.h5").drop_attrs(deep=False)
    known = {"experiment": name, "version": 0, "schema": {}}
    told = {"network": "a|b\\net", "dataset": "noise-test"}
    results.save(ds, folder / f"{name}.h5", results.provenance(known, **told))
    printed = claims(folder).splitlines()
    content = json.loads((folder / "claims.json").read_text(encoding="utf-8"))["claims"]
    sweeps = [one for one in content if one["experiment"] == name]
    assert sweeps
    for one in content:
        ends = (one["sentence"], f"{one['sentence']} · STALE")
        (line,) = [line for line in printed if line.endswith(ends)]
        assert line.endswith("STALE") == one["note"].startswith("stale:") == (one in sweeps)
    assert "(stale: this geomadv" in (folder / "claims.md").read_text(encoding="utf-8")


def test_bars_and_lines_in_notes_stay_in_their_cells(folder, monkeypatch):
    monkeypatch.setattr(
        "geomadv.claims.subspaces.images_of", lambda weights: "a | bar, a \\| and a\nline <b>"
    )
    claims(folder)
    table = rows((folder / "claims.md").read_text(encoding="utf-8"))
    assert {len(row) for row in table} == {len(table[0])}
    assert any(
        "a &#124; bar, a &#92;&#124; and a line &lt;b>" in cell for row in table for cell in row
    )


@pytest.mark.parametrize(
    ("ends", "told"),
    [((-math.inf, 0.25), " […, 0.25]"), ((0.25, math.inf), " [0.25, …]"),
     ((-math.inf, math.inf), " […, …]"), ((0.25, 0.25), " [0.25, 0.25]")],
    ids=["below", "above", "both", "a point"],
)  # fmt: skip
def test_an_interval_without_an_end_says_so(ends, told):
    verdict = Verdict(CLAIMS[0], "holds", 1.0, 2.0, 0.5, *ends)
    assert interval(verdict) == told
    exact = replace(verdict, claim=replace(CLAIMS[0], of_mathematics=True))
    assert interval(exact) == (told if ends[0] < ends[1] else "")
    assert "inf" not in contrast(verdict)


@pytest.mark.parametrize("name", [claim.name for claim in CLAIMS])
def test_every_claim_is_explained(name):
    (claim,) = [claim for claim in CLAIMS if claim.name == name]
    text = explained(name)
    for words in (claim.sentence, claim.paper, claim.formula, f"{claim.experiment}.h5"):
        assert words in text
    assert f"--threshold {name}=" in text
    assert "figures/" in text
    assert ("figures/tilting_slider.html" in text) == (claim.experiment == "tilting_plane")
    assert "slider.pdf" not in text


def test_the_command_explains_and_takes_other_thresholds(folder, capsys):
    claims_([str(folder), "--threshold", "positive_dimensions=0.1"])
    assert "does not hold" in re.findall(".*few directions of S_pos.*", capsys.readouterr().out)[0]
    claims_(["--explain", "transfer"])
    assert capsys.readouterr().out.startswith("transfer: universal perturbations carry over")
    for words, message in (
        (["--explain", "transfr"], "Did you mean"),
        ([str(folder), "--threshold", "transfer"], "expected NAME=NUMBER"),
        ([str(folder), "--threshold", "transfr=2"], "transfr=2"),
    ):
        with pytest.raises(InputError, match=message):
            claims_(words)
