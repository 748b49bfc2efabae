"""What a figure draws, as a table of numbers: read from its axes, whatever function drew them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection, PolyCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import AxLine, Line2D
from matplotlib.patches import Polygon, Rectangle, StepPatch

# Marks images that only show something, such as a picture: their pixels are no data of a figure.
PICTURE = "picture"

_COLUMNS = ("panel", "title", "x_label", "y_label", "kind", "series", "color", "x", "y", "value")

# Kind, and columns x, y and value of as many rows.
_Part = tuple[str, Any, Any, Any]


def figure_data(drawing: Figure) -> pd.DataFrame:
    """All points that a figure draws, in the coordinates of its axes.

    Lines and markers give their points, bands their lower and upper edges, bars their left edges
    and heights, segments their ends, tables and meshes their cells with the cells' values. What
    spans an axis, such as a baseline, has one coordinate. Pictures, arrows, texts and panels in
    three dimensions are left out: the result file has their numbers.

    Args:
        drawing: any matplotlib figure.

    Returns:
        A row for each point: panel (from 0), its title and labels, kind, series (the legend's
        words, empty where there are none), color (as hex; a series without words is told apart by
        it), x, y and value.
    """
    # Colours of a cycle are those of the look that the figure was drawn with.
    with rc_context(getattr(drawing, "_look", {})):
        rows = [*_rows(drawing)]
    if not rows:
        return pd.DataFrame(columns=list(_COLUMNS))
    return pd.concat(rows, ignore_index=True)[list(_COLUMNS)]


def _rows(drawing: Figure) -> Iterator[pd.DataFrame]:
    for number, axes in enumerate(drawing.axes):
        if axes.name == "3d":
            continue
        words = (axes.get_title(), axes.get_xlabel(), axes.get_ylabel())
        named = [" ".join(text.split()) for text in words]
        for artist in axes.get_children():
            for kind, x, y, value in _parts(axes, artist):
                part = pd.DataFrame({"x": x, "y": y, "value": value}, dtype=float)
                label = str(artist.get_label())
                series = "" if label.startswith("_") else label
                about = (number, *named, kind, series, _color(artist))
                yield part.assign(**dict(zip(_COLUMNS, about, strict=False)))


def _parts(axes: Axes, artist: Artist) -> Iterator[_Part]:
    """What an artist draws, in the coordinates of its axes."""
    if isinstance(artist, Line2D):
        if not isinstance(artist, AxLine):
            yield from _line(axes, artist)
    elif isinstance(artist, Collection):
        yield from _collection(axes, artist)
    elif isinstance(artist, AxesImage):
        values = artist.get_array()
        if artist.get_gid() != PICTURE and values is not None and values.ndim == 2:
            row, column = np.indices(values.shape)
            yield "cell", column.ravel(), row.ravel(), np.ma.filled(values, np.nan).ravel()
    elif isinstance(artist, StepPatch):
        values, edges, _ = artist.get_data()
        yield "bar", edges[:-1], values, np.nan
    elif isinstance(artist, Rectangle) and artist is not axes.patch:
        yield from _bar(axes, artist)
    elif isinstance(artist, Polygon):
        corners = artist.get_xy()
        yield "outline", corners[:, 0], corners[:, 1], np.nan


def _line(axes: Axes, line: Line2D) -> Iterator[_Part]:
    along_x, along_y = line.get_transform().contains_branch_seperately(axes.transData)
    x, y = (np.asarray(values, dtype=float) for values in line.get_data())
    kind = "points" if line.get_linestyle() in ("None", "") else "line"
    if along_x and along_y:
        yield kind, x, y, np.nan
    elif along_x:
        yield kind, np.unique(x), np.nan, np.nan
    elif along_y:
        yield kind, [np.nan], np.unique(y), np.nan


def _bar(axes: Axes, bar: Rectangle) -> Iterator[_Part]:
    along_x, along_y = bar.get_transform().contains_branch_seperately(axes.transData)
    if along_x and along_y:
        yield "bar", [bar.get_x()], [bar.get_height()], np.nan
    elif along_x:
        yield "span", [bar.get_x(), bar.get_x() + bar.get_width()], np.nan, np.nan
    elif along_y:
        yield "span", np.nan, [bar.get_y(), bar.get_y() + bar.get_height()], np.nan


def _collection(axes: Axes, drawn: Collection) -> Iterator[_Part]:
    if isinstance(drawn, PolyCollection):
        for path in drawn.get_paths():
            # Of `fill_between`: one edge, and the other one backwards, each behind a corner.
            x, y = np.asarray(path.vertices).T
            count = (len(x) - 3) // 2
            there, back = slice(1, count + 1), slice(2 * count + 1, count + 1, -1)
            yield "band, lower edge", x[there], y[there], np.nan
            yield "band, upper edge", x[back], y[back], np.nan
    elif isinstance(drawn, LineCollection):
        for ends in drawn.get_segments():
            yield "segment", ends[:, 0], ends[:, 1], np.nan
    elif isinstance(drawn, QuadMesh):
        corners = np.asarray(drawn.get_coordinates())[:-1, :-1]
        values = np.ma.filled(np.ma.asarray(drawn.get_array()).astype(float), np.nan)
        yield "cell", corners[..., 0].ravel(), corners[..., 1].ravel(), values.ravel()
    elif drawn.get_offset_transform().contains_branch(axes.transData):
        x, y = np.ma.filled(np.ma.asarray(drawn.get_offsets()).astype(float), np.nan).T
        yield "points", x, y, np.nan


def _color(artist: Artist) -> str:
    """Colour of a line, edge or area, as hex."""
    for name in ("get_color", "get_facecolor", "get_edgecolor"):
        if hasattr(artist, name) and not isinstance(artist, AxesImage | QuadMesh):
            color = getattr(artist, name)()
            if isinstance(color, np.ndarray) and color.ndim == 2:
                color = color[0] if len(color) else "none"
            return "" if isinstance(color, str) and color == "none" else to_hex(color)
    return ""
