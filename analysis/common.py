"""What all analysis scripts share: flags, loading, and errors as exit status 2."""

import functools
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
import tyro
import xarray as xr

import geomadv as ga
from geomadv.networks import ZOO

# Numbers per image up to which a network is small enough for thousands of images in a sweep.
_SMALL_IMAGE = 1024

Names = tyro.conf.arg(metavar="NAME")


@dataclass(kw_only=True)
class Flags:
    """Flags of every analysis script."""

    network: Annotated[str, Names] = "digits-cnn"
    """A network of the zoo, package.module:function, torchvision:NAME or timm:NAME."""
    weights: Path | None = None
    """Weights for the network (.safetensors; .pt and .pth if they hold tensors only)."""
    images: Annotated[str | None, Names] = None
    """Data set by name, or a folder, .npz or .h5 file; default: the one the network is for."""
    mean: tuple[float, ...] | None = None
    """Per-channel mean that a network of your own expects to be subtracted."""
    std: tuple[float, ...] | None = None
    """Per-channel standard deviation that a network of your own expects to be divided out."""
    results: Path = Path("results")
    """Folder of the result files; each network has its own below it."""
    seed: int = 0
    """Seed of every random choice."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes a GPU where there is one."""
    batch_size: int | None = None
    """Images per pass; default: from memory. It does not change results beyond rounding."""
    overwrite: bool = False
    """Replace results of another configuration."""


@dataclass(frozen=True)
class StoredImages:
    """The images behind an earlier result, as its file names them."""

    name: str
    sha256: str


F = TypeVar("F", bound=Flags)


def main(flags: type[F], run: Callable[[F], Any]) -> None:
    """Parses the command line and runs; what the user can mend ends as one paragraph, status 2."""
    try:
        run(tyro.cli(flags, description=sys.modules[run.__module__].__doc__))
    except (ga.InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; the same command continues where it was", file=sys.stderr)
        sys.exit(130)


def dataset_name(flags: Flags) -> str:
    """The images of the flags: as named, else those the network is for."""
    if flags.images is not None:
        return flags.images
    if flags.network in ZOO:
        return ZOO[flags.network].dataset
    raise ga.InputError(
        f"--images: say which images network {flags.network!r} is for: a data set "
        f"({', '.join(ga.list_images())}), a folder, .npz or .h5 file. Networks that need no such "
        f"answer: {', '.join(ga.list_networks())}."
    )


def load_network(flags: Flags) -> ga.Classifier:
    """The network of the flags, on its device; images tell the shape of a foreign one."""
    device = flags.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    shape = None
    if ":" in flags.network:
        shape = ga.load_images(dataset_name(flags), limit=1).shape
    return _loaded(flags.network, flags.weights, shape, flags.mean, flags.std, device)


@functools.lru_cache(maxsize=8)
def _loaded(
    name: str,
    weights: Path | None,
    shape: tuple[int, int, int] | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    device: str,
) -> ga.Classifier:
    """One network for all analyses of a process: loading verifies checksums, which takes time."""
    return ga.load_network(
        name, weights=weights, input_shape=shape, mean=mean, std=std, device=device
    )


def load_images(flags: Flags, split: str, count: int | None) -> ga.ImageSet:
    """Images for the network of the flags: all of a split, or a seeded sample of `count`."""
    images = ga.load_images(dataset_name(flags), split=split)
    return images if count is None or count >= len(images) else images.sample(count, flags.seed)


def result_path(flags: Flags, net: ga.Classifier, experiment: str) -> Path:
    """Where the result of an experiment on a network lies; the folder is checked for writing."""
    folder = flags.results / "".join(c if c.isalnum() or c in "-._" else "-" for c in net.name)
    ga.results.check_writable(folder)
    return folder / f"{experiment}.h5"


def check_line(reach: float | None, steps: int, least: int = 1) -> None:
    """Raises an `InputError` if --reach and --steps give no scales on either side of zero."""
    if reach is not None and not 0 < reach < math.inf:
        raise ga.InputError(
            f"--reach {reach:g}: expected a finite distance > 0 in image units; leave it out to "
            "go as far as the directions lead into their classes."
        )
    if steps < least:
        raise ga.InputError(
            f"--steps {steps}: expected at least {least} scales on either side of zero."
        )


def earlier_result(
    flags: Flags, net: ga.Classifier, experiment: str, images: ga.ImageSet
) -> xr.Dataset:
    """The result of an earlier script, of this network and of images from the given data set.

    Raises:
        InputError: there is none, or it is of another network or data set.
    """
    path, script = result_path(flags, net, experiment), f"analysis/{experiment}.py"
    if not path.exists():
        raise ga.InputError(f"no result file {path}: run {script} with the same flags first.")
    ds = ga.load(path)
    check_same_network(ds, path, net)
    if ds.attrs["dataset"] != images.name:
        raise ga.InputError(
            f"{path} is of the images {ds.attrs['dataset']!r}, not of {images.name!r}: give the "
            f"same --images, run {script} --overwrite, or choose another --results folder."
        )
    return ds


def check_same_network(ds: xr.Dataset, path: Path, net: ga.Classifier) -> None:
    """Raises an `InputError` if a result is not of this network, its weights and its forward."""
    if not ga.results.is_of_network(ds.attrs, net):
        raise ga.InputError(
            f"{path} is of network {ds.attrs['network']!r} with other weights than those of "
            f"{net.name!r} now, or with another forward: run its analysis script with --overwrite, "
            "or choose another --results folder."
        )


def zoo_beside(flags: Flags, named: Sequence[str] | None) -> list[ga.Classifier]:
    """Networks of the zoo beside the one of the flags, on its device.

    As named, else all for the same data but those that train for hours (the zoo states no accuracy
    for them).
    """
    if named is None:
        data = dataset_name(flags)
        named = [
            name
            for name, spec in ZOO.items()
            if spec.dataset == data and spec.accuracy is not None and name != flags.network
        ]
    plain = replace(flags, weights=None, mean=None, std=None)
    return [load_network(replace(plain, network=name)) for name in named]


def paper_share(net: ga.Classifier, p: float = 2) -> float:
    """Radius of a universal perturbation as a share of the images' mean p-norm.

    The paper's, 4 % for p = 2 and for inf 10 of 255; ten times that for grey images, whose networks
    it hardly fools.
    """
    return (0.04 if p == 2 else 10 / 255) * (10 if net.input_shape[0] == 1 else 1)


def mean_norm(images: ga.ImageSet, p: float = 2) -> float:
    """Mean p-norm of the images, image units."""
    return float(images.images.flatten(1).norm(p=p, dim=1).mean())


def mean_image(images: ga.ImageSet) -> torch.Tensor:
    """Mean (C, H, W) of all images, summed in float64."""
    total = sum(part.images.sum(0, dtype=torch.float64) for part in images.batches(512))
    return torch.as_tensor(total) / len(images)


def image_count(net: ga.Classifier) -> int:
    """Images that a sweep of some hundred passes affords on a CPU."""
    return 10_000 if net.dimension <= _SMALL_IMAGE else 1_000


def tell_accuracy(ds: xr.Dataset, share: float = 0.95) -> None:
    """Prints, family by family, at which d the test accuracy first is a share of the plain one."""
    test = ds.sel(split="test")
    plain, constant = float(test["plain_accuracy"]), float(test["constant_accuracy"])
    print(f"plain test accuracy {100 * plain:.1f} %, most frequent class {100 * constant:.1f} %")
    for family in ds["family"].to_numpy():
        one = test.sel(family=family)
        reached = (one["accuracy"] >= share * plain).to_numpy()
        if reached.any():
            first = one.isel(d=int(reached.argmax()))
            size, pixels = int(first["subspace_dimension"]), int(ds["image_dimension"])
            where = f"first at d = {int(first['d'])}, {size} of {pixels} dimensions"
        else:
            where = f"not reached, best {100 * float(one['accuracy'].max()):.1f} %"
        width = int(one["directions_per_step"])
        told = ga.experiments.bracketed(ga.experiments.family_doubt(ds, str(family)))
        print(f"{family} ({width} directions a step){told}: {100 * share:.0f} % of it {where}")


def told(ds: xr.Dataset, family: str) -> str:
    """What is to be doubted of a sweep's leading directions of a family, behind their name."""
    leading = ds.sel(family=[family]).isel(direction=[0])
    return ga.experiments.bracketed(ga.experiments.line_doubt(leading))


def compute_once(
    flags: Flags,
    net: ga.Classifier,
    images: ga.ImageSet | StoredImages,
    experiment: str,
    config: Mapping[str, Any],
    compute: Callable[[ga.experiments.Keep], xr.Dataset],
) -> xr.Dataset:
    """The finished result of this configuration if there is one, else computes and saves it.

    `compute` gets what keeps finished parts on disk, for the experiment or for its own use: a run
    that was stopped goes on from there.
    """
    path = result_path(flags, net, experiment)
    what: dict[str, Any] = {"net": net, "images": images, "config": config}
    ready = ga.results.reuse(path, experiment=experiment, overwrite=flags.overwrite, **what)
    if ready is None:
        identity = ga.results.identity(experiment, **what)
        with ga.results.Store(path, identity, overwrite=flags.overwrite) as store:
            started = time.perf_counter()
            ds = compute(store)
            seconds = time.perf_counter() - started
            store.finish(ds, ga.results.provenance(experiment, **what, wall_time_s=seconds))
        ready = ga.load(path)
    print(f"{experiment}: {path}")
    return ready
