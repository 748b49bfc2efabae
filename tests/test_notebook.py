"""docs/explore.ipynb: every cell runs as it stands, and its figures are seen."""

import json
import shutil

import pytest
from conftest import REPOSITORY

NOTEBOOK = REPOSITORY / "docs" / "explore.ipynb"


def cells(notebook, kind="code"):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook as a user runs it, in a folder of its own."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    folder = tmp_path_factory.mktemp("notebook")
    shutil.copy(NOTEBOOK, folder)
    notebook = nbformat.read(folder / NOTEBOOK.name, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=500, resources=resources).execute()
    return folder, notebook


def shown(cell):
    """What a cell shows: kind of content -> content, of all its outputs."""
    return {k: v for output in cell["outputs"] for k, v in output.get("data", {}).items()}


def test_figures_and_the_report_are_seen_without_magic(executed):
    _, notebook = executed
    by_source = {"".join(cell["source"]): shown(cell) for cell in cells(notebook)}
    for source, content in by_source.items():
        last = source.splitlines()[-1]
        if "ga.plotting." in source:
            assert len(content["image/png"]) > 10_000, source
        if last.startswith("ga.report"):
            assert "<iframe" in content["text/html"]
    assert sum("image/png" in content for content in by_source.values()) == 3
    assert not any(source.lstrip().startswith("%") for source in by_source)


def test_no_cell_warns(executed):
    streams = [o for cell in cells(executed[1]) for o in cell["outputs"] if o.get("name")]
    assert [s["text"] for s in streams if s["name"] == "stderr"] == []


def test_what_it_writes_is_there(executed):
    folder, _ = executed
    made = {p.name for p in (folder / "explore").rglob("*")}
    assert {"report.html", "v.npy", "three-digits", "normal_svd.h5"} <= made


def test_it_is_kept_without_outputs():
    kept = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert all(not c["outputs"] and c["execution_count"] is None for c in cells(kept))
