"""Fixtures shared by all tests."""

import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parent.parent

# The same draws in every run, so that `main` is not red by chance; `make search` draws new ones.
settings.register_profile("same", derandomize=True)
settings.register_profile("search", derandomize=False, print_blob=True)
settings.load_profile("same")

# Files of more than about 15 s of CPU, the dearest first. They come after all others: a fault shows
# early, and the processes that share the files still end together.
LONG = (
    "test_pipeline_edges",
    "test_plotting",
    "test_plotting_print",
    "test_experiments_curvature",
    "test_docs",
    "test_networks_architectures",
    "test_experiments_parts",
    "test_cli",
    "test_reproduction",
    "test_pipeline_report",
    "test_report_browser",
    "test_properties",
    "test_notebook",
    "test_distributed",
    "test_pipeline_odd",
    "test_experiments_planes",
    "test_networks_training",
    "test_wheel",
    "test_boundary_region",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Short files in their order, then the long ones."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else -1)


@pytest.fixture(autouse=True)
def _same_draws_in_any_order() -> None:
    """Weights that a test does not seed are those of the test alone."""
    torch.manual_seed(0)


def _find_data() -> Path | None:
    """The folder of real data: GEOMADV_DATA, else the one beside the checkout's parent."""
    named = os.environ.get("GEOMADV_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    return folder.resolve() if folder.is_dir() else None


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data and pretrained weights; skips where there are none."""
    folder = _find_data()
    if folder is None:
        pytest.skip("real data not found: set GEOMADV_DATA to a folder with mnist/, cifar10/, ...")
    return folder


@pytest.fixture
def real_data(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Like data_dir, and GEOMADV_DATA points there for the time of the test."""
    monkeypatch.setenv("GEOMADV_DATA", str(data_dir))
    return data_dir


@pytest.fixture
def asked() -> list[str]:
    """The paths that `server` was asked for, in order."""
    return []


@pytest.fixture
def server(tmp_path: Path, asked: list[str]) -> Iterator[tuple[str, Path]]:
    """A web server's address, and the folder that it serves; under `/cut/` half of each file."""
    root = tmp_path / "server"
    root.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            asked.append(self.path)
            if not self.path.startswith("/cut/"):
                super().do_GET()
                return
            content = (root / self.path.removeprefix("/cut/")).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root))) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", root
        http.shutdown()
        thread.join()
