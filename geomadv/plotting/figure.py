"""What every figure shares: check of the dataset, panels, heading, legend, note, file."""

import io
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from geomadv.errors import InputError
from geomadv.files.writing import write_whole
from geomadv.plotting.data import figure_data
from geomadv.plotting.style import GREY, current_look, scaled, style

P = ParamSpec("P")
R = TypeVar("R")

# Axes of the caller's to draw into.
Given = Axes | Sequence[Axes] | NDArray[Any] | None

# Points of the small print below a figure, and a letter's mean width in such sizes.
_SMALL, _LETTER = 6.0, 0.56


class LookedFigure(Figure):
    """A matplotlib figure that keeps the look it was drawn with, and that notebooks show.

    It is independent of pyplot's list of open figures.

    Attributes:
        note: what n is and what bands mean, as the small print below the figure says it.
    """

    note = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._look = current_look()

    def draw(self, renderer: Any) -> None:
        """Draws it: ticks and colours of a cycle are settled only then."""
        with style(self._look):
            super().draw(renderer)

    def savefig(self, fname: Any, **kwargs: Any) -> None:
        """Writes it, as `matplotlib.figure.Figure.savefig`."""
        with style(self._look):
            super().savefig(fname, **kwargs)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi="figure")
        return buffer.getvalue()


class ShownFigure(LookedFigure):
    """The figure of one result: whoever draws it gives it a title, a legend and a layout."""


def figure(experiment: str, *needs: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Marks a function that draws a figure of an experiment's result, its first argument.

    needs: variables, coordinates and dimensions without which there is no such figure. The function
    runs in the style of all figures, with `ax` in that of the axes given.
    """

    def decorate(draw: Callable[P, R]) -> Callable[P, R]:
        @wraps(draw)
        def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
            require(args[0] if args else kwargs.get("ds"), draw.__name__, experiment, *needs)
            with style() if kwargs.get("ax") is None else nullcontext():
                return draw(*args, **kwargs)

        return drawn

    return decorate


def require(ds: object, name: str, experiment: str, *needs: str) -> None:
    """Makes sure that a dataset can be drawn by the figure of this name.

    Raises:
        InputError: it is none, or lacks what the figure needs.
    """
    if not isinstance(ds, xr.Dataset):
        raise InputError(
            f"{name} draws a dataset, not a {type(ds).__name__}: read the result file with "
            "geomadv.load first."
        )
    missing = [need for need in needs if need not in ds.variables and need not in ds.sizes]
    if missing:
        known = ds.attrs.get("experiment")
        origin = f"of the experiment {known!r}" if known else "of unknown origin"
        raise InputError(
            f"{name} draws results of the experiment {experiment!r}; this dataset ({origin}) has "
            f"no variable {', '.join(missing)}: load the right file or run that experiment."
        )


def new_figure(width: float, height: float) -> ShownFigure:
    """An empty figure of this size, in inches."""
    return ShownFigure(figsize=(width, height), layout="constrained")


def panels(
    ax: Given, width: float, height: float, rows: int = 1, columns: int = 1, **grid: Any
) -> list[Axes]:
    """The panels to draw into, row by row: those given, or those of a new figure.

    Raises:
        InputError: others are given than a figure of so many panels takes.
    """
    if ax is None:
        drawing = new_figure(width, height)
        made = drawing.subplots(rows, columns, squeeze=False, **grid).ravel().tolist()
        return cast(list[Axes], made)
    given = np.asarray(ax, dtype=object).ravel().tolist()
    if len(given) != rows * columns or not all(isinstance(axes, Axes) for axes in given):
        raise InputError(
            f"ax={ax!r}: this figure has {rows * columns} panel{'s' * (rows * columns > 1)}; give "
            "as many matplotlib Axes, or leave ax out for a figure of its own."
        )
    return given


def panel(ax: Axes | None, width: float, height: float) -> Axes:
    """The only panel of a figure: the one given, or that of a new figure."""
    return panels(ax, width, height)[0]


def whole(axes: Axes) -> Figure:
    """The figure in which axes are, whatever parts of it lie between."""
    return axes.figure.figure


def heading(first: Axes, *parts: str) -> Figure:
    """Titles the figure, in the caller's axes the first panel; returns the figure.

    parts: the lines; empty ones are left out.
    """
    drawing = whole(first)
    if isinstance(drawing, ShownFigure):
        drawing.suptitle(lines(*parts))
    else:
        first.set_title(lines(*parts, first.get_title()))
    return drawing


def legend(
    axes: Axes,
    columns: int = 1,
    handles: Sequence[Any] | None = None,
    drop: float | None = None,
    **looks: Any,
) -> None:
    """A legend below the figure or `drop` axes' heights below axes; inside those of the caller's.

    handles: what it names; default what the axes hold.
    """
    named = axes.get_legend_handles_labels()[0] if handles is None else handles
    drawing = whole(axes)
    if not isinstance(drawing, ShownFigure):
        axes.legend(handles=named)
    elif drop is None:
        drawing.legend(
            **{"loc": "outside lower center", "ncols": columns, "handles": named} | looks
        )
    else:
        looks |= {"loc": "upper center", "bbox_to_anchor": (0.5, -drop), "ncols": columns}
        axes.legend(handles=named, **looks)


def note(drawing: Figure, *parts: str) -> Figure:
    """Says below a figure what n is and what bands mean, in small print; returns the figure.

    The last thing done to a figure, which grows by the lines. Figures of the caller's stay as they
    are.

    parts: empty ones are left out.
    """
    if not isinstance(drawing, ShownFigure):
        return drawing
    size, (width, height) = scaled(_SMALL), drawing.get_size_inches()
    drawing.note = "; ".join(filter(None, parts))
    rows = textwrap.wrap(drawing.note, int(72 * width / (_LETTER * size)))
    room = (1.3 * size * len(rows) + 6) / 72
    drawing.set_figheight(height + room)
    share = room / (height + room)
    drawing.text(0.5, 0.2 * share / len(rows), "\n".join(rows), ha="center", va="bottom",
                 fontsize=size, color=GREY)  # fmt: skip
    engine = drawing.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, share, 1, 1 - share))
    for one in drawing.legends:
        # The layout reserves no room for a legend that has an anchor of its own.
        one.borderaxespad = 72 * room / one.prop.get_size_in_points()
    return drawing


def settle(drawing: Figure) -> Figure:
    """Lays the panels of a figure of its own out; of a page its maker does, once it is whole."""
    return lay_out(drawing) if isinstance(drawing, ShownFigure) else drawing


def lay_out(drawing: Figure) -> Figure:
    """Lays panels out that their first layout changes: of a fixed aspect, or with legends below."""
    if (engine := drawing.get_layout_engine()) is not None:
        engine.execute(drawing)
    return drawing


def lines(*parts: str) -> str:
    """Lines of text, without the empty ones."""
    return "\n".join(filter(None, parts))


def save_figure(drawing: Figure | str, folder: str | Path, name: str) -> Path:
    """Writes a figure as <name>.pdf and <name>.png, a page of text as <name>.html.

    Beside a figure stands what it draws as numbers, <name>.csv. Each appears whole or not at all.
    The same result gives the same files: there is no date in them.

    Args:
        drawing: what a function of this package returns.
        folder: where to; created if it is not there.
        name: of the files, without a suffix.

    Returns:
        Path of the PDF or HTML file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(drawing, str):
        page = folder / f"{name}.html"
        write_whole(page, drawing)
        return page
    path = folder / f"{name}.pdf"
    image, pages = io.BytesIO(), io.BytesIO()
    with _laid_out(drawing):
        drawing.savefig(image, format="png")
        with _fonts_of_outlines():
            drawing.savefig(pages, format="pdf", metadata={"CreationDate": None})
    write_whole(path.with_suffix(".csv"), figure_data(drawing).to_csv(index=False))
    write_whole(path.with_suffix(".png"), image.getvalue())
    write_whole(path, pages.getvalue())
    return path


@contextmanager
def _fonts_of_outlines() -> Iterator[None]:
    """Leaves the tables out by which programs lay text out: a PDF gives each glyph its place.

    To cut them to the glyphs in use took most of the time of writing a PDF.
    """
    from fontTools.subset import Options  # half a second, for PDFs alone

    name = "_drop_tables_default"
    before = getattr(Options, name, [])
    setattr(Options, name, [*before, "GSUB", "GPOS", "GDEF", "BASE", "MATH", "kern"])
    try:
        yield
    finally:
        setattr(Options, name, before)


@contextmanager
def _laid_out(drawing: Figure) -> Iterator[None]:
    """Lays a figure out once: saving would do so, with a trial drawing, for every file."""
    engine = drawing.get_layout_engine()
    if engine is None:
        yield
        return
    engine.execute(drawing)
    with rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
        drawing.set_layout_engine(None)
    try:
        yield
    finally:
        drawing.set_layout_engine(engine)
