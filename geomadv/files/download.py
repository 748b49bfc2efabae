"""Fetching files that are nowhere on this machine, verified, into the cache."""

import contextlib
import hashlib
import html
import importlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import pooch
import requests
from requests import HTTPError, RequestException
from requests.exceptions import ChunkedEncodingError

from geomadv.errors import InputError
from geomadv.files.kinds import is_page
from geomadv.files.places import CACHE_VARIABLE
from geomadv.files.writing import is_forgotten, is_of_disk

# Seconds to connect, and between two packets. There are no further attempts: without a network the
# error comes at once.
_TIMEOUT = (10, 60)


_INDEX = "pypi:"
_TARS, _ZIPS = (".tar.gz", ".tgz"), (".whl", ".zip")


@dataclass(frozen=True)
class RemoteFile:
    """A file to download.

    Attributes:
        url: its address, or `pypi:PACKAGE/FILE` for a file of the index that pip is set up with.
        md5: checksum (hex) that its publisher states, "" for none.
        sha256: likewise; its first digits suffice.
    """

    url: str
    md5: str = ""
    sha256: str = ""

    @property
    def name(self) -> str:
        """File name, the last part of the address."""
        return self.url.rsplit("/", 1)[-1]


def fetch(files: Sequence[RemoteFile], folder: Path, progress: bool) -> None:
    """Downloads files into a folder, and unpacks those that are archives.

    Nothing incomplete is ever seen under a final name: files and unpacked folders appear there by
    rename, after their checksum was verified.

    Args:
        files: what to download.
        folder: where to; created if need be.
        progress: show a bar per file.

    Raises:
        InputError: no connection, a web page, another checksum, or a disk that refuses.
    """
    with work_area(folder) as work:
        for remote in files:
            path = _download(remote, work, progress)
            if remote.name.endswith((*_TARS, *_ZIPS)):
                _unpack(remote, path, folder)
            else:
                os.replace(path, folder / remote.name)


@contextlib.contextmanager
def work_area(folder: Path) -> Iterator[Path]:
    """A temporary folder on the same file system; refusals of the disk become `InputError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stray in folder.glob(".download-*"):  # of killed processes
            if is_forgotten(stray):
                shutil.rmtree(stray, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as work:
            yield Path(work)
    except OSError as error:
        raise InputError(
            f"cannot write {folder} ({error.strerror or error}). Free some space, or set "
            f"{CACHE_VARIABLE} to a folder where geomadv may write."
        ) from error


def _download(remote: RemoteFile, work: Path, progress: bool) -> Path:
    path = work / remote.name
    try:
        address = _on_index(remote.url) if remote.url.startswith(_INDEX) else remote.url
        pooch.HTTPDownloader(progressbar=progress, timeout=_TIMEOUT)(address, str(path), None)
    except RequestException as error:
        raise InputError(f"the download of {remote.url} failed ({_brief(error)})") from error
    with path.open("rb") as file:
        if is_page(file.read(512)):
            raise InputError(
                f"the download of {remote.url} is a web page, not the file (of a login or a proxy?)"
            )
    _verify(remote, path)
    return path


def _on_index(url: str) -> str:
    """The address of a file of a package, as the index that pip uses lists it (PEP 503)."""
    package, _, name = url.removeprefix(_INDEX).partition("/")
    index = f"{_pip_index().rstrip('/')}/{package}/"
    page = requests.get(index, headers={"Accept": "text/html"}, timeout=_TIMEOUT)
    page.raise_for_status()
    for link in re.findall(r'href="([^"#]+)', page.text):
        if link.endswith(f"/{name}"):
            return urljoin(page.url, html.unescape(link))
    raise InputError(f"the download of {url} failed ({name} is not listed at {index})")


def _pip_index() -> str:
    """The address of the index of packages, from pip's settings, else its own default."""
    if given := os.environ.get("PIP_INDEX_URL"):
        return given
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0 and done.stdout.strip():
        return done.stdout.strip()
    try:
        default: str = importlib.import_module("pip._internal.models.index").PyPI.simple_url
    except (ImportError, AttributeError) as error:
        raise InputError(
            "the index of packages is not known: set PIP_INDEX_URL to its address"
        ) from error
    return default


def _verify(remote: RemoteFile, path: Path) -> None:
    for kind, expected in (("md5", remote.md5), ("sha256", remote.sha256)):
        if expected:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, kind).hexdigest()
            if not found.startswith(expected):
                raise InputError(
                    f"the download of {remote.url} has another checksum ({kind} {found}, expected "
                    f"{expected}): it is cut off, damaged or another version"
                )


def _brief(error: RequestException) -> str:
    """The server's answer, or what kind of failure: those repeat the whole request in words."""
    if isinstance(error, ChunkedEncodingError):
        return "it broke off"
    return str(error) if isinstance(error, HTTPError) else type(error).__name__


def _unpack(remote: RemoteFile, archive: Path, folder: Path) -> None:
    """Moves the top folders of an archive into place, each as a whole."""
    inside = archive.with_name("unpacked")
    try:
        if archive.name.endswith(_ZIPS):
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(inside)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(inside, filter="data")
    except Exception as error:  # damaged bytes may raise anything
        if is_of_disk(error):
            raise
        reason = (str(error) or type(error).__name__).partition("\n")[0]
        raise InputError(f"the download of {remote.url} cannot be unpacked ({reason})") from error
    for part in inside.iterdir():
        # Another process may have been faster: what it put there is the same.
        if not (folder / part.name).exists():
            part.rename(folder / part.name)
