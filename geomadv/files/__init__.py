"""Files that appear whole or not at all, one process at a time, and where files lie."""

import warnings

with warnings.catch_warnings():  # its progress bars ask for ipywidgets in notebooks; ours do not
    warnings.simplefilter("ignore")
    import pooch  # noqa: F401

from geomadv.files.locking import FolderLock
from geomadv.files.places import cache_dir, data_dir
from geomadv.files.writing import check_writable, disk_error, refusals, replacing

__all__ = [
    "FolderLock",
    "cache_dir",
    "check_writable",
    "data_dir",
    "disk_error",
    "refusals",
    "replacing",
]
