"""Where data and caches lie."""

from pathlib import Path

import pytest

from geomadv.errors import InputError
from geomadv.files.places import cache_dir, data_dir


def test_data_dir_is_what_the_variable_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOMADV_DATA", str(tmp_path))
    assert data_dir() == tmp_path


@pytest.mark.parametrize("value", [None, ""])
def test_data_dir_is_none_where_the_variable_is_unset_or_empty(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GEOMADV_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("GEOMADV_DATA", value)
    assert data_dir() is None


def test_data_dir_refuses_what_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOMADV_DATA", str(tmp_path / "typo"))
    with pytest.raises(InputError, match=r"GEOMADV_DATA=.*typo is not a folder"):
        data_dir()


def test_cache_dir_is_what_the_variable_names_and_is_not_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOMADV_CACHE", str(tmp_path / "cache"))
    assert cache_dir() == tmp_path / "cache"
    assert not cache_dir().exists()


def test_paths_may_begin_with_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GEOMADV_DATA", "~")
    monkeypatch.setenv("GEOMADV_CACHE", "~/cache")
    assert data_dir() == tmp_path
    assert cache_dir() == tmp_path / "cache"


def test_the_default_cache_is_named_after_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEOMADV_CACHE", raising=False)
    assert "geomadv" in cache_dir().parts
