"""Whatever happens to a file's bytes is noticed or changes no value, and ends in one message."""

import json
import os
import random
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import save_file

import geomadv as ga
from geomadv.cli import main
from geomadv.errors import InputError
from geomadv.networks.cache import _digest, cached_metadata, check_cached
from geomadv.networks.weights import read_checkpoint
from geomadv.results import Store, load, provenance, reuse, save, unfinished

CONFIG = {"experiment": "e", "seed": 1, "sizes": [10, 30]}
LABEL = {"long_name": "number", "units": "1"}


def result() -> xr.Dataset:
    rng = np.random.default_rng(0)
    return xr.Dataset(
        {
            "a": (("sample", "pixel"), rng.random((30, 20), np.float32), LABEL),
            "text": ("sample", [f"name {i}" for i in range(30)], LABEL),
            "one": ((), 1.5, LABEL),
        },
        {"class": ["zero", "one"]},
        {"note": "text"},
    )


def never() -> xr.Dataset:
    raise AssertionError("this part is kept already")


def mutants(file: Path, count: int) -> Iterator[None]:
    """The file with a bit flipped, cut off, or with a block of zeros, one after the other."""
    whole, draw = file.read_bytes(), random.Random(file.name)
    for i in range(count):
        content, at = bytearray(whole), draw.randrange(len(whole))
        if i % 3 == 0:
            content[at] ^= 1 << draw.randrange(8)
        elif i % 3 == 1:
            del content[at:]
        else:
            size = min(draw.choice([8, 64, 4096]), len(content) - at)
            content[at : at + size] = bytes(size)
        file.write_bytes(content)
        yield
    file.write_bytes(whole)


def noticed(file: Path, count: int, read: Callable[[], Any], same: Callable[[Any], Any]) -> int:
    """How many of so many mutants of a file are refused; the others read the same."""
    refused = 0
    for _ in mutants(file, count):
        try:
            found = read()
        except InputError:
            refused += 1
        else:
            same(found)
    same(read())
    return refused


# --- results, parts, manifests, networks ------------------------------------------------------


def test_no_mutant_of_a_result_gives_another_value(tmp_path: Path) -> None:
    path = save(result(), tmp_path / "a.h5", provenance(CONFIG, config=CONFIG))
    whole = load(path)
    refused = noticed(
        path, 60, lambda: load(path), lambda found: xr.testing.assert_identical(found, whole)
    )
    assert refused > 40  # others write zeros over zeros


def test_no_mutant_of_a_large_chunked_result_gives_another_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geomadv.results.files._BLOCK_BYTES", 1)
    path = save(result().drop_vars("text"), tmp_path / "a.h5")
    whole = load(path)
    monkeypatch.setattr("geomadv.results.files._IN_MEMORY_BYTES", 0)

    def read() -> xr.Dataset:
        with load(path) as ds:
            return ds.load()

    assert noticed(path, 30, read, lambda found: xr.testing.assert_identical(found, whole)) > 15


@pytest.mark.parametrize("name", ["part-part.bin", "manifest.json"])
def test_no_mutant_of_unfinished_work_gives_another_value(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.h5"
    with Store(path, CONFIG, memo={"count": 3}) as store:
        store("part", result)

    def read() -> tuple[Any, xr.Dataset]:
        memo = unfinished(path)
        with Store(path, CONFIG, memo={"count": 3}) as store:
            return memo, store("part", never)

    def same(found: tuple[Any, xr.Dataset]) -> None:
        xr.testing.assert_identical(found[1], result())

    assert noticed(store.folder / name, 60, read, same) > 40


def network(path: Path) -> Path:
    torch.manual_seed(0)
    tensors = {"a": torch.rand(30, 20), "steps": torch.tensor(7)}
    told = {"test_accuracy": "0.98", "network": "mine"}
    save_file(tensors, path, told | {"sha256": _digest(tensors, told)})
    return path


def test_no_mutant_of_a_cached_network_gives_other_weights(tmp_path: Path) -> None:
    path = network(tmp_path / "mine.safetensors")
    whole, told = read_checkpoint(path).entries, cached_metadata(path)

    def same(found: Any) -> None:
        entries = found[0].entries
        assert entries.keys() == whole.keys()
        assert all(torch.equal(entries[name].value, whole[name].value) for name in whole)
        assert cached_metadata(path) == told

    assert noticed(path, 90, lambda: check_cached(path), same) > 75


def test_a_network_of_nan_without_checksum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    save_file({"a": torch.tensor([1.0, torch.nan])}, path, {"geomadv_version": "0.1.0"})
    with pytest.raises(InputError, match="NaN"):
        check_cached(path)


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.10.0", "1.0.1", None])
def test_only_the_version_without_checksums_is_believed_to_have_none(
    version: str | None, tmp_path: Path
) -> None:
    told = {"sha25v": "0"} if version is None else {"sha25v": "0", "geomadv_version": version}
    path = tmp_path / "net.safetensors"
    save_file({"a": torch.ones(3)}, path, told)
    if version == "0.1.0":
        assert not check_cached(path)[1]
    else:
        with pytest.raises(InputError, match="not what was written"):
            check_cached(path)


# --- other ways to change a file --------------------------------------------------------------


def test_a_value_changed_by_other_programs_is_noticed(tmp_path: Path) -> None:
    path = save(result(), tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file["a"][0, 0] = 500
    with pytest.raises(InputError, match="changed after it had been written"):
        load(path)


def test_rot_is_noticed_by_every_reader_of_hdf5(tmp_path: Path) -> None:
    path = save(result(), tmp_path / "a.h5")
    with h5py.File(path) as file:
        at = file["a"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[at + 100] ^= 4
    path.write_bytes(content)
    with h5py.File(path) as file, pytest.raises(OSError, match=r"[Ff]letcher32|filter"):
        file["a"][...]


def test_hdf5_that_is_read_for_ever_is_given_up(data_dir: Path, tmp_path: Path) -> None:
    damaged = data_dir / "field-cases" / "damaged" / "part-loop.h5"
    if not damaged.is_file():
        pytest.skip("no field-cases/ in the folder of real data")
    shutil.copy(damaged, tmp_path / "a.h5")
    started = time.monotonic()
    with pytest.raises(InputError, match="not a complete result file"):
        load(tmp_path / "a.h5")
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("text", ["no JSON", "[1]", "{", '{"a": 1', "3"])
def test_a_configuration_that_is_no_json_is_named(tmp_path: Path, text: str) -> None:
    path = save(result(), tmp_path / "a.h5", {"identity": text})
    with pytest.raises(InputError, match=r"a\.h5 is damaged.*compute it again"):
        reuse(path, CONFIG)


# --- geomadv verify ---------------------------------------------------------------------------


def test_verify_names_what_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEOMADV_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "networks").mkdir(parents=True)
    file = save(result(), tmp_path / "results" / "net" / "e.h5")
    weights = network(tmp_path / "cache" / "networks" / "mine.safetensors")
    with Store(tmp_path / "results" / "net" / "f.h5", CONFIG) as store:
        store("part", result)
    everything = [file, store.folder / "part-part.bin", weights]
    assert main(["verify"]) == 0
    assert capsys.readouterr().out.count("ok ") == 3
    for damaged in everything:
        whole = damaged.read_bytes()
        damaged.write_bytes(whole[:-200] + bytes([whole[-200] ^ 1]) + whole[-199:])
        assert main(["verify", "results", "cache"]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert [line[:7] for line in lines].count("DAMAGED") == 1
        assert main(["verify", str(damaged)]) == 1
        damaged.write_bytes(whole)
        capsys.readouterr()
    assert main(["verify", "nowhere"]) == 2


# --- what killed processes leave --------------------------------------------------------------


def aged(path: Path, days: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    os.utime(path, 2 * (time.time() - days * 86400,))
    return path


def test_temporary_files_go_by_age_and_owner(tmp_path: Path) -> None:
    host, alive = socket.gethostname(), os.getppid()
    gone = [aged(tmp_path / f".a.h5.{name}.tmp", 2) for name in ("node-7.org.12", f"{host}.x")]
    stay = [
        aged(tmp_path / ".a.h5.node-7.org.12345.tmp", 0.5),
        aged(tmp_path / f".a.h5.{host}.{alive}.tmp", 2),
        aged(tmp_path / ".b.h5.node-7.org.12.tmp", 2),
    ]
    save(result(), tmp_path / "a.h5")
    assert not any(file.exists() for file in gone)
    assert all(file.exists() for file in stay)


@pytest.mark.parametrize(("days", "left"), [(1, True), (40, False)])
def test_what_was_to_replace_a_result_is_kept_for_a_month(
    tmp_path: Path, days: float, left: bool
) -> None:
    path = save(result(), tmp_path / "a.h5", provenance(CONFIG))
    with Store(path, CONFIG | {"seed": 2}, overwrite=True) as store:
        store("part", result)
    aged(store.folder / "assembled.h5.tmp", days)
    for file in store.folder.iterdir():
        os.utime(file, 2 * (time.time() - days * 86400,))
    assert reuse(path, CONFIG) is not None
    assert (store.folder / "part-part.bin").exists() == left
    assert not (store.folder / "assembled.h5.tmp").exists()


def test_resuming_needs_the_room_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run killed at its end goes on where the disk has room for the result alone.

    A plan asks for some more of so small a result, as it has tables of chunks and checksums.
    """
    net, images = ga.load_network("digits-cnn", progress=False), "digits"
    finish = Store.finish

    def killed(*_: Any) -> Path:
        raise KeyboardInterrupt

    def run() -> xr.Dataset:
        given = {"count": 400, "results": tmp_path}
        return ga.run("boundary", net, images, **given)

    monkeypatch.setattr(Store, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(Store, "finish", finish)
    whole = 400 * 3 * 4 * 64
    free = type("Usage", (), {"free": int(1.5 * whole)})
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    assert run().sizes["sample"] == 400
    with pytest.raises(InputError, match="GB are needed"):
        ga.run("boundary", net, images, count=400, results=tmp_path / "other")


def test_a_manifest_in_another_coding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with Store(path, CONFIG) as store:
        store("part", result)
        text = json.dumps({"config": "größer"}, ensure_ascii=False)
        (store.folder / "manifest.json").write_bytes(text.encode("latin1"))
    for read in (lambda: Store(path, CONFIG), lambda: unfinished(path)):
        with pytest.raises(InputError, match=r"manifest\.json is damaged.*delete the folder"):
            read()
