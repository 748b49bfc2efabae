"""Reading what may never end: some damaged bytes make HDF5 loop where no signal reaches it.

It happens with texts of variable length, in a heap that has no checksum. A process of its own reads
them first, which ends itself.
"""

import subprocess
import sys
from pathlib import Path

# Far longer than reading takes.
SECONDS = 5
_LIMIT = f"import faulthandler; faulthandler.dump_traceback_later({SECONDS}, exit=True)\n"
_READ_TEXTS = """
import sys, h5py
def read(name, item):
    dict(item.attrs)
    if isinstance(item, h5py.Dataset) and item.dtype.hasobject:
        item[...]
with h5py.File(sys.argv[1], "r") as file:
    dict(file.attrs)
    file.visititems(read)
"""


def output_of(script: str, *arguments: str) -> bytes | None:
    """What a Python script prints; None if it fails, crashes, or has not ended in time."""
    command = [sys.executable, "-c", _LIMIT + script, *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def check_texts(path: Path) -> None:
    """Raises a `ValueError` for an HDF5 file whose attributes and texts cannot be read."""
    if output_of(_READ_TEXTS, str(path)) is None:
        raise ValueError(f"HDF5 cannot read its texts, or not within {SECONDS} seconds")
