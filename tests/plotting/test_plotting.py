"""Every figure of one network: its own results and others', axes, styles, files."""

import re
import zlib
from importlib import resources
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.text import Text
from results_for_tests import MAKERS, result

from geomadv import InputError, plotting
from geomadv.plotting.style import PAGE

SWEEPS = ["direction_sweep", "direction_sweep of directions"]
CURVES = ["score_curves", "score_curves of directions"]
BOTH = ["curvature", "curvature without a full spectrum"]
# Figure -> the results that it draws.
OWN = {
    "normal_spectrum": ["normal_svd"],
    "leading_directions": ["normal_svd"],
    "random_subspace_fooling": ["random_subspace_fooling"],
    "curvature_profile": BOTH,
    "curvature_directions": BOTH,
    "sharedness": BOTH,
    "scale_sweep": BOTH,
    "spectral_density": BOTH[1:],
    "score_curves": CURVES,
    "score_curve_measures": CURVES[:1],
    "direction_sweep": SWEEPS,
    "direction_sweep_classes": SWEEPS[:1],
    "normal_section": ["normal_section"],
    "decision_plane": ["decision_plane"],
    # One layout, other families.
    "subspace_accuracy": ["subspace_accuracy", "first_order_twin"],
    "first_order_twin": ["first_order_twin", "subspace_accuracy"],
    "norm_fractions": ["norm_fractions"],
    "confined_deepfool": ["confined_deepfool"],
    "confined_examples": ["confined_deepfool"],
    "resampling": ["resampling"],
    "universal": ["universal"],
    "label_graph": ["label_graph"],
    "norm_comparison": ["norm_comparison"],
    "transfer": ["transfer"],
    "finetuning": ["finetuning"],
    "categories": ["categories"],
    "tilting_plane": ["tilting_plane"],
    "tilting_sweep": ["tilting_plane"],
    "tilting_images": ["tilting_plane"],
    "tilting_space": ["tilting_plane"],
    "tilting_slider": ["tilting_plane"],
    "tilting_toy": ["tilting_toy"],
    "normal_tilt": ["normal_tilt"],
    "softmax_null_space": ["softmax_directions"],
    "softmax_boundary_angles": ["softmax_directions"],
    "feature_collisions": ["softmax_directions"],
}
# Figures that take axes -> how many, for the first of their results.
PANELS = {
    "normal_spectrum": 1,
    "spectral_density": 1,
    "subspace_accuracy": 1,
    "first_order_twin": 1,
    "resampling": 1,
    "norm_comparison": 1,
    "transfer": 1,
    "finetuning": 1,
    "normal_tilt": 1,
    "softmax_boundary_angles": 1,
    "random_subspace_fooling": 2,
    "curvature_profile": 2,
    "sharedness": 3,
    "scale_sweep": 2,
    "score_curve_measures": 4,
    "direction_sweep": 6,
    "confined_deepfool": 5,
    "universal": 3,
    "label_graph": 2,
    "tilting_plane": 3,
    "tilting_sweep": 4,
    "tilting_toy": 4,
    "softmax_null_space": 3,
}
ONE = [name for name, count in PANELS.items() if count == 1]


@pytest.fixture(autouse=True)
def our_style():
    """Restores the style of all figures and matplotlib's own settings."""
    with mpl.rc_context():
        yield
    plotting.use_style()


def draw(name, ds=None, **keywords):
    ds = result(OWN[name][0]) if ds is None else ds
    if name == "confined_examples":
        keywords["families"] = ["flat", "random"]
    return getattr(plotting, name)(ds, **keywords)


def texts(figure):
    return " ".join(t.get_text() for t in figure.findobj(Text))


def test_the_table_names_every_figure():
    several = {"OVERLAYS", "beside", "friends", "overlaid"}  # below
    others = {"figure_data", "save_figure", "use_style"}
    assert set(OWN) == set(plotting.__all__) - others - several
    assert {name for names in OWN.values() for name in names} == set(MAKERS)


@pytest.mark.parametrize("name", OWN)
def test_a_figure_draws_its_results_and_changes_nothing(name):
    for own in OWN[name]:
        before = result(own).copy(deep=True)
        figure = draw(name, result(own))
        assert result(own).identical(before)
        if isinstance(figure, Figure):
            figure.draw_without_rendering()
            assert "noise" in texts(figure) or "toy problem" in texts(figure)


@pytest.mark.parametrize("name", OWN)
def test_a_figure_says_whose_result_it_needs(name):
    """Of another experiment: a figure where the layout is the same, else one clear error."""
    experiment = OWN[name][0].split()[0]
    for other in MAKERS:
        if other in OWN[name]:
            continue
        with pytest.raises(InputError) as error:
            draw(name, result(other))
        if other.split()[0] != experiment:
            assert f"{name} draws results of the experiment '{experiment}'" in str(error.value)
            assert f"of the experiment '{other.split()[0]}')" in str(error.value)


def test_what_is_missing_is_named():
    ds = result("direction_sweep")
    lacking = ds.drop_vars(["transition", "retention"])
    lacking.attrs = {}
    with pytest.raises(InputError, match=r"unknown origin\) has no variable transition, retention"):
        plotting.direction_sweep(lacking)
    with pytest.raises(InputError, match="a dataset, not a str: read the result file"):
        plotting.direction_sweep("direction_sweep.h5")
    with pytest.raises(InputError, match="needs the variable density"):
        plotting.spectral_density(result("curvature"))
    with pytest.raises(InputError, match=r"norm_fractions \(accuracy\) .* 'universal'"):
        plotting.norm_fractions(result("norm_fractions"), result("universal"))


# Axes of the user's


@pytest.mark.parametrize("name", PANELS)
def test_a_figure_is_drawn_into_axes(name):
    page = Figure()
    given = page.subplots(2, 4).ravel()[: PANELS[name]]
    free = set(page.axes) - set(given)
    before = page.get_size_inches().tolist(), page.get_suptitle()
    figure = draw(name, ax=given[0] if len(given) == 1 else list(given))
    assert figure is page
    assert all(axes.has_data() for axes in given)
    assert not any(axes.has_data() for axes in free)
    assert (page.get_size_inches().tolist(), page.get_suptitle()) == before
    assert not page.legends
    page.draw_without_rendering()


@pytest.mark.parametrize("name", PANELS)
def test_other_axes_than_a_figure_takes_are_refused(name):
    page = Figure()
    axes = [*page.subplots(1, PANELS[name] + 1)]
    plural = "s" if PANELS[name] > 1 else ""
    for wrong in (axes, page):
        with pytest.raises(InputError, match=rf"has {PANELS[name]} panel{plural}; give"):
            draw(name, ax=wrong)


def test_axes_may_lie_in_a_part_of_a_figure():
    page = Figure()
    part = page.subfigures(1, 2)[1]
    assert plotting.finetuning(result("finetuning"), ax=part.subplots()) is page


# Styles


@pytest.mark.parametrize("name", ONE)
def test_axes_of_the_users_keep_their_look(name):
    mine = {"lines.linewidth": 3.5, "font.size": 13.0, "axes.titlesize": 17.0}
    with mpl.rc_context(mine):
        page = Figure()
        axes = page.subplots()
        draw(name, ax=axes)
        assert mpl.rcParams["axes.spines.top"]
        assert axes.title.get_fontsize() in (17.0, 13.0 * 7 / 8)
        assert axes.xaxis.label.get_fontsize() == 13.0


def test_colours_of_series_come_from_the_cycle():
    cycle = mpl.cycler(color=["#111111", "#222222", "#333333", "#444444"])
    with mpl.rc_context({"axes.prop_cycle": cycle}):
        axes = Figure().subplots()
        plotting.normal_spectrum(result("normal_svd"), ax=axes)
        assert mpl.colors.to_hex(axes.get_lines()[1].get_color()) == "#111111"


def test_a_style_replaces_ours(tmp_path):
    ours = draw("transfer")
    assert ours.axes[0].title.get_fontsize() == 8.0
    file = tmp_path / "mine.mplstyle"
    file.write_text("axes.titlesize: 21\n")
    for look, size in (({"axes.titlesize": 19}, 19), (file, 21), (str(file), 21)):
        plotting.use_style(look)
        assert draw("transfer").axes[0].title.get_fontsize() == size
    plotting.use_style("ggplot")
    assert draw("transfer").axes[0].get_facecolor() == mpl.colors.to_rgba("#E5E5E5")
    plotting.use_style(None)
    with mpl.rc_context({"axes.titlesize": 23}):
        assert draw("transfer").axes[0].title.get_fontsize() == 23
    plotting.use_style()
    assert draw("transfer").axes[0].title.get_fontsize() == 8.0


@pytest.mark.parametrize("look", ["no such style", Path("none.mplstyle"), {"no.such.key": 1}])
def test_an_unknown_style_is_refused(look):
    with pytest.raises(InputError, match="use_style"):
        plotting.use_style(look)
    assert draw("transfer").axes[0].title.get_fontsize() == 8.0


def test_a_figure_keeps_the_look_it_was_drawn_with(tmp_path):
    """Colours of the cycle are settled when a figure is drawn, whatever the settings are then."""
    figure = draw("normal_spectrum")
    figure.savefig(tmp_path / "one.png")
    plotting.use_style("ggplot")
    with mpl.rc_context({"axes.prop_cycle": mpl.cycler(color=["red"]), "savefig.dpi": 10}):
        figure.savefig(tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_the_style_is_a_file_of_the_package():
    text = resources.files("geomadv.plotting").joinpath("geomadv.mplstyle").read_text()
    assert "axes.prop_cycle" in text


# Notebooks and files


def test_notebooks_show_a_figure():
    """IPython calls _repr_png_ of what a cell ends with; pyplot has no part in it."""
    figure = draw("finetuning")
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert not hasattr(figure, "_repr_svg_")


def test_figures_are_saved_as_pdf_and_png_without_a_date(tmp_path):
    figure = draw("normal_spectrum")
    engine = figure.get_layout_engine()
    path = plotting.save_figure(figure, tmp_path / "new" / "figures", "spectrum")
    assert path == tmp_path / "new" / "figures" / "spectrum.pdf"
    again = plotting.save_figure(draw("normal_spectrum"), tmp_path, "again")
    assert path.read_bytes() == again.read_bytes()
    assert b"CreationDate" not in path.read_bytes()
    assert path.with_suffix(".png").read_bytes() == again.with_suffix(".png").read_bytes()
    assert figure.get_layout_engine() is engine
    # One layout for both files is the layout of each, but for letters' widths in whole pixels.
    both = [axes.get_position().bounds for axes in figure.axes]
    figure.savefig(tmp_path / "alone.png")
    alone, saved = (mpl.image.imread(tmp_path / f"{name}.png") for name in ("alone", "again"))
    assert alone.shape == saved.shape
    np.testing.assert_allclose(
        [axes.get_position().bounds for axes in figure.axes], both, atol=0.02
    )


def test_a_pdf_holds_the_outlines_of_its_letters_and_no_tables_for_layout(tmp_path):
    path = plotting.save_figure(draw("universal"), tmp_path, "universal")
    found = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", path.read_bytes(), re.DOTALL)
    fonts = [font for s in found if b"glyf" in (font := decompressed(s))[:400]]
    assert fonts
    assert not any(table in font[:400] for font in fonts for table in (b"GSUB", b"GPOS", b"kern"))


def decompressed(stream):
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return stream


def test_figures_of_other_origin_are_saved_too(tmp_path):
    page = Figure()
    page.subplots().plot([1, 2])
    assert plotting.save_figure(page, tmp_path, "plain").exists()


def test_pages_of_text_are_saved_as_html(tmp_path):
    path = plotting.save_figure(draw("tilting_slider"), tmp_path, "slider")
    assert path == tmp_path / "slider.html"
    assert path.read_text(encoding="utf-8") == draw("tilting_slider")


def test_several_networks_side_by_side():
    four = result("categories")
    both = [four.expand_dims(network=[name]) for name in ("a", "b")]
    figure = plotting.categories(xr.concat(both, "network", combine_attrs="override"))
    assert [axes.get_title() for axes in figure.axes[:2]] == ["a", "b"]
    assert figure.get_figwidth() == PAGE


@pytest.mark.parametrize("kind", ["figure", "page"])
def test_a_figure_appears_whole_or_not_at_all(tmp_path, monkeypatch, kind):
    """Whoever looks while it is written sees the one before."""
    drawing = "new page" if kind == "page" else Figure()
    names = ["f.html"] if kind == "page" else ["f.csv", "f.pdf", "f.png"]
    for name in names:
        (tmp_path / name).write_text("before")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("geomadv.files.writing.os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            plotting.save_figure(drawing, tmp_path, "f")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == dict.fromkeys(names, "before")
    plotting.save_figure(drawing, tmp_path, "f")
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert all(p.read_bytes() != b"before" for p in tmp_path.iterdir())
