"""Every test of figures begins and ends with the library's own style."""

import matplotlib as mpl
import pytest

from geomadv import plotting


@pytest.fixture(autouse=True)
def our_style():
    """Restores the style of all figures and matplotlib's own settings."""
    with mpl.rc_context():
        yield
    plotting.use_style()
