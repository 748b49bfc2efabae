"""Files that appear whole or not at all, one process at a time, and where files lie."""

# First, since pooch imports the same bars, which warn in notebooks unless `progress` has them.
from geomadv import progress  # noqa: F401
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
