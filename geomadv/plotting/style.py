"""How all figures look: a style file of ours, or what the user puts in its place."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import style as styles

from geomadv.errors import InputError

# Widths of one and two columns of a conference paper, in inches.
COLUMN, PAGE = 3.3, 6.9

# Baselines and bounds, in every figure; series have the colours C0, C1, ... of the style.
GREY = "#666666"

# What is not what it is called, such as a value along a direction that is no eigenvector.
HOLLOW: Any = {"linestyle": "", "marker": "o", "markersize": 3, "markerfacecolor": "white"}

Look = Mapping[Any, Any]

_OURS = "geomadv"
# Points of ordinary text in our style, on which sizes in figures are given.
_TEXT = 8.0


def use_style(look: str | os.PathLike[str] | Look | None = _OURS) -> None:
    """Sets the look of the figures drawn from now on.

    A figure that is drawn into axes of the caller's (`ax=`) has their look in any case.

    Args:
        look: a style of matplotlib by name, the path of a style file, rcParams, or None for
            matplotlib's rcParams as they are when a figure is drawn; "geomadv" is the default.

    Raises:
        InputError: no such style, or settings that matplotlib does not know.
    """
    global _look
    _look = _read(look)


def current_look() -> Look:
    """The rcParams that `use_style` has chosen."""
    return _look


def style(look: Look | None = None) -> AbstractContextManager[None]:
    """The settings of all figures, or those given, for the time of the block."""
    settings: Any = _look if look is None else look
    return mpl.rc_context(settings)


def scaled(points: float) -> float:
    """A size of text that is `points` where ordinary text has 8, as in our style."""
    return points / _TEXT * float(mpl.rcParams["font.size"])


def _read(look: str | os.PathLike[str] | Look | None) -> Look:
    if look is None:
        return {}
    try:
        if isinstance(look, Mapping):
            return mpl.RcParams(look)
        if str(look) in styles.library:
            return styles.library[str(look)]
        path = Path(__file__).with_name("geomadv.mplstyle") if look == _OURS else look
        return mpl.rc_params_from_file(path, use_default_template=False)
    except (KeyError, ValueError, OSError) as error:
        raise InputError(
            f"use_style({look!r}): expected the name of a style of matplotlib, the path of a style "
            f"file, a mapping of its rcParams, or None; {error}."
        ) from error


_look = _read(_OURS)
