"""What a file is where another one is expected: damaged is said only of what remains.

The operating system, the first bytes and HDF5's own words tell. Each reader asks here, before it
reads or when it cannot, so that a link, a web page or a lock is called by the same name everywhere.
"""

import os
import re
from collections.abc import Collection
from pathlib import Path

from geomadv.errors import InputError

# Kind -> first bytes, what such a file is, and what to do. The first that matches counts.
_KINDS: dict[str, tuple[bytes, str, str]] = {
    "empty": (rb"\Z", "is empty", "Fetch or write it anew."),
    "pointer": (
        rb"version https://git-lfs",
        "is a pointer of Git LFS, not the file itself",
        "Fetch the file with `git lfs pull`.",
    ),
    "page": (
        rb"(\xef\xbb\xbf)?\s*<(!doctype|!--|html|head|body|\?xml)",
        "is a web page, not the file itself",
        "Download it anew, from its direct address.",
    ),
    "JSON": (
        rb"(\xef\xbb\xbf)?\s*[{\[]\s*[\"{\[]",
        "is a JSON text (an index, a configuration or the answer of a server)",
        "Name the file with the numbers themselves.",
    ),
    "gzip": (
        rb"\x1f\x8b",
        "is compressed by gzip",
        "Unpack it with gunzip, or tar where it is one.",
    ),
    "archive": (
        rb"BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|Rar!|7z\xbc\xaf|.{257}ustar",
        "is packed, as an archive or by a compression",
        "Unpack it and name the file or folder inside.",
    ),
    "zip": (
        rb"PK",
        "is a zip archive",
        "If it is of NumPy, call it .npz; weights go to the argument weights (--weights); else "
        "unpack it.",
    ),
    "HDF5": (
        rb"\x89HDF\r\n\x1a\n",
        "is an HDF5 file",
        "Images in it: call it .h5. Weights (of Keras?): convert them to a PyTorch state dict.",
    ),
    "netCDF-3": (
        rb"CDF[\x01\x02\x05]",
        "is of netCDF-3, not netCDF-4 (which is HDF5)",
        "Convert it, with `nccopy -k nc4 OLD NEW` or "
        'xarray.open_dataset(old, engine="scipy").to_netcdf(new, engine="h5netcdf").',
    ),
    "npy": (rb"\x93NUMPY", "is an array of NumPy", "Call it .npy."),
    "image": (
        rb"\x89PNG|\xff\xd8\xff|GIF8|BM.{4}\0|II\*\0|MM\0\*|RIFF.{4}WEBP",
        "is an image",
        "Give it as such (images, --images), with its usual suffix.",
    ),
}
# The longest pattern looks at so many bytes; white space may come before a page.
_HEAD = 512


def other_kind(path: Path, role: str, own: Collection[str] = ()) -> InputError | None:
    """The error for a file that is none, must not be read, or is of another kind; else None.

    path: where something is: a file, perhaps, or a link that leads nowhere.
    role: what is expected there, for the message: "the weight file".
    own: kinds (see the table) that are no others for this reader.
    """
    if broken := broken_link(path, role):
        return broken
    try:
        if path.exists() and not path.is_file():
            what = "a folder" if path.is_dir() else "a device or a pipe"
            return InputError(f"{role} {path} is {what}, not a file. Name the file itself.")
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError:
        return InputError(
            f"{role} {path} is not there any more: put it back, and keep it during the run."
        )
    except OSError as error:
        return InputError(f"{role} {path} must not be read ({error.strerror}). Change its rights.")
    for kind, (start, what, remedy) in _KINDS.items():
        if kind not in own and re.match(start, head, re.DOTALL | re.IGNORECASE):
            return InputError(f"{role} {path} {what}. {remedy}")
    return None


def is_page(head: bytes) -> bool:
    """Whether a file that begins so is a web page."""
    return re.match(_KINDS["page"][0], head, re.DOTALL | re.IGNORECASE) is not None


def broken_link(path: Path, role: str) -> InputError | None:
    """The error for a link that leads nowhere; else None."""
    if not path.is_symlink() or path.exists():
        return None
    return InputError(
        f"{role} {path} is a link to {os.readlink(path)}, which is not there. Put that back, or "
        "correct or remove the link."
    )


def hdf5_refusal(path: Path, error: object, role: str, own: Collection[str]) -> InputError | None:
    """The error for a file that HDF5 does not open though it is not damaged; else None.

    error: what HDF5 says; the rest as for `other_kind`.
    """
    text = str(error)
    if "unable to lock" in text:
        return InputError(
            f"{role} {path} is open for writing in another process: wait until it has closed the "
            "file, or set HDF5_USE_FILE_LOCKING=FALSE if you know that nothing is written."
        )
    if "already open for write" in text:
        return InputError(
            f"{role} {path} is open for writing, or was not closed when its writer was killed: "
            "close it there; if nothing writes it any more, free it with `h5clear -s FILE`."
        )
    return other_kind(path, role, {"HDF5", *own})
