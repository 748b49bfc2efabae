"""Figures of the tilting plane draw from datasets alone; the slider is one whole page."""

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from geomadv import ImageSet, InputError, experiments, plotting

SWEEP = [1e-3, 1e-1, 1e1]


@pytest.fixture(scope="module", params=[1, 3])
def result(request):
    """A sweep over images of one channel or three; the second fit is marked as not converged."""
    rng = np.random.default_rng(0)
    x = rng.random((60, request.param, 4, 5), dtype=np.float32) / 2
    labels = np.tile([0, 1], 30)
    x[labels == 1, :, :2] += 0.2
    images = ImageSet(x, labels, ["<cat>", "dog & co"], name="noise")
    ds = experiments.tilting_plane(images, images, LogisticRegression(), SWEEP, examples=3)
    ds["converged"][1] = False
    return ds.assign_attrs(dataset="noise", network="none")


def texts(figure):
    found = figure.findobj(match=lambda a: hasattr(a, "get_text"))
    return " ".join(t.get_text() for t in found)


@pytest.mark.parametrize(
    "name", ["tilting_plane", "tilting_sweep", "tilting_images", "tilting_space"]
)
def test_figures_of_a_sweep(result, name, tmp_path):
    before = result.copy(deep=True)
    figure = getattr(plotting, name)(result)
    figure.savefig(tmp_path / "figure.pdf")
    assert "LogisticRegression on noise" in texts(figure)
    assert result.identical(before)


def test_one_boundary_has_no_space(result):
    single = result.isel(C=[0]).drop_vars([n for n in result if str(n).startswith("space_")])
    assert len(plotting.tilting_plane(single).axes) == 1
    with pytest.raises(InputError, match="two values of C"):
        plotting.tilting_space(single)


def test_the_curve_is_what_the_result_says(result):
    figure = plotting.tilting_sweep(result)
    curve = figure.axes[0].get_lines()[0].get_ydata()
    np.testing.assert_allclose(curve, np.degrees(result["angle"]))
    crosses = figure.axes[0].get_lines()[1]
    assert crosses.get_marker() == "x"
    assert crosses.get_xdata().tolist() == [SWEEP[1]]


def test_toy_and_normal_figures(tmp_path):
    toy = experiments.tilting_toy(LinearSVC(dual=False), SWEEP, (2, 4), samples=20)
    figure = plotting.tilting_toy(toy)
    figure.savefig(tmp_path / "toy.png")
    assert "4 dimensions" in texts(figure)
    normals = torch.eye(6, dtype=torch.float64)
    points = (normals, [0] * 6, [1] * 6)
    ds = experiments.normal_tilt(points, np.eye(6)[:2]).assign_attrs(network="a", dataset="noise")
    figure = plotting.normal_tilt(ds)
    figure.savefig(tmp_path / "angles.png")
    assert "a: median 90°" in texts(figure)
    both = xr.concat(
        [ds.expand_dims(network_name=["a"]), (ds * np.nan).expand_dims(network_name=["b"])],
        "network_name",
    )
    assert "b: no usable boundary point" in texts(plotting.normal_tilt(both))


class Page(HTMLParser):
    """Collects elements and the texts of scripts."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.ids, self.scripts, self.title = [], {}, [], ""
        self._open = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open == "script":
            self.scripts[-1] += data
        elif self._open == "title":
            self.title += data


def test_the_slider_loads_nothing(result):
    text = plotting.tilting_slider(result, points=20)
    page = Page(text)
    assert page.title == "The tilting boundary: <cat> against dog & co of noise"
    assert not any({"src", "href", "action", "data"} & attrs.keys() for _, attrs in page.elements)
    assert not {"link", "iframe", "object", "embed", "img", "base"} & {t for t, _ in page.elements}
    policy = [a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a]
    assert policy[0].startswith("default-src 'none'")
    # The one address is the name of a language, not a place.
    assert set(re.findall(r"\w+://[^\"']*", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"fetch\(|XMLHttpRequest|import\b|WebSocket|url\((?!#)", text)
    control = next(a for t, a in page.elements if a.get("id") == "strength")
    assert control["type"] == "range"


def test_the_slider_holds_the_numbers_of_the_result(result):
    data = json.loads(Page(plotting.tilting_slider(result, points=20, seed=3)).scripts[0])
    # Strong regularisation is to the right.
    assert data["C"] == SWEEP[::-1]
    turned = result.sortby("C", ascending=False)
    np.testing.assert_allclose(data["angle"], np.degrees(turned["angle"]), atol=1e-4)
    np.testing.assert_allclose(data["norm"], turned["mean_adversarial_norm"], atol=1e-4)
    assert data["converged"] == [True, False, True]
    moved = np.frombuffer(base64.b64decode(data["examples"][0]["moved"][0]), np.uint8)
    assert moved.shape == np.shape(result["example_image"][0].to_numpy().ravel())
    assert np.shape(data["n"]) == (3, 20)
    assert sum(data["label"]) == 10
    # The boundary as the page draws it: cos(angle) z + sin(angle) n + gap is the distance.
    angle, example = np.radians(data["angle"]), data["examples"][0]
    distance = np.cos(angle) * example["z"] + np.sin(angle) * example["n"] + data["gap"]
    expected = turned["test_distance"][:, example["number"]]
    np.testing.assert_allclose(distance, expected, atol=1e-3)
    pixels = np.frombuffer(base64.b64decode(example["image"]), np.uint8)
    image = result["example_image"][0].to_numpy().ravel()
    shown = 255 * (image - image.min()) / (image.max() - image.min())
    np.testing.assert_allclose(pixels, shown, atol=0.5001)


def test_unusable_boundaries_are_left_out_of_the_slider(result):
    ds = result.copy(deep=True)
    ds["angle"][1] = np.nan
    assert json.loads(Page(plotting.tilting_slider(ds)).scripts[0])["C"] == [10.0, 1e-3]
    ds["angle"][:] = np.nan
    with pytest.raises(InputError, match="nothing to show"):
        plotting.tilting_slider(ds)
    with pytest.raises(InputError, match="points=1"):
        plotting.tilting_slider(result, points=1)


def test_the_slider_runs_in_a_browser(result, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium to open the page with")
    path = tmp_path / "slider.html"
    path.write_text(plotting.tilting_slider(result), encoding="utf-8")
    done = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    # What stands in the table was written there by the page's script, in the middle of the sweep.
    angle = np.degrees(float(result["angle"].sel(C=1e-1)))
    assert f'<td id="angle">{angle:.1f}°</td>' in done.stdout
    assert 'aria-valuetext="C = 1.0e-1' in done.stdout
    assert re.search(rf'id="degrees"[^>]*>{angle:.0f}°</text>', done.stdout)
    number = int(result["example_index"][0])
    second = bool(result["test_distance"].sel(C=1e-1)[number] > 0)
    names = ["class &lt;cat&gt;", "class dog &amp; co"]
    assert f'<span id="before">predicted {names[second]}</span>' in done.stdout
    assert f'<span id="after">predicted {names[not second]}</span>' in done.stdout
    # Both axes have numbers, of equal steps around zero.
    numbers = re.findall(r'text-anchor="(\w+)" class="tick">([^<]+)<', done.stdout)
    for end in ("middle", "end"):
        ticks = [float(text.replace("\N{MINUS SIGN}", "-")) for at, text in numbers if at == end]
        assert 0 in ticks
        assert len(ticks) >= 3
        np.testing.assert_allclose(np.diff(ticks), ticks[1] - ticks[0], rtol=1e-4)
