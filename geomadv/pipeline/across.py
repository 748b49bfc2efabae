"""What perturbations do beside one search: on other networks, in training, and by category."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import numpy as np
import tyro
import xarray as xr

import geomadv as ga
from geomadv.classifier import Classifier
from geomadv.errors import InputError
from geomadv.pipeline.experiment import Drawing, Experiment, Run, Sample
from geomadv.pipeline.settings import Count, Draws
from geomadv.pipeline.study import Study
from geomadv.pipeline.universality import QUICK, SETS, Radius, radius_of, search_work, sized
from geomadv.pipeline.work import FORWARD, TRAINING, Case, Walk, Work

Names = Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="NAME...")]


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Fooling rates of each network's universal perturbation on every other for the same data."""

    networks: Names = None
    """Further networks; default: all of the zoo for the same data that are at hand or train in
    minutes."""
    count: Count = 500
    """Training images of the sample set."""
    held_out: Count = 1000
    """Test images; all if there are fewer."""
    relative_radius: Radius = None
    """Norm of the perturbations as a share of the mean image norm; default: the paper's 4 %, for
    grey images ten times that."""
    passes: Count = 3
    """Passes over the sample set at most."""
    draws: Draws = 10
    """Random perturbations of the same norm."""


@dataclass(frozen=True, kw_only=True)
class Finetuning:
    """Fine-tuning on universal perturbations: fooling rate and accuracy, round after round."""

    count: Count = 5000
    """Training images; all if there are fewer."""
    held_out: Count = 1000
    """Test images; all if there are fewer."""
    relative_radius: Radius = None
    """Norm of the perturbations as a share of the mean image norm; default: the paper's 4 %, for
    grey images ten times that."""
    rounds: Count = 5
    """Rounds of fine-tuning."""
    pool: Count = 3
    """Perturbations per round (the paper: 10)."""
    samples: Count = 300
    """Images behind each perturbation."""
    epochs: Count = 5
    """Epochs of fine-tuning per round."""
    passes: Count = 2
    """Passes of each universal search at most."""


def zoo_beside(s: Any, study: Study) -> tuple[Classifier, ...]:
    """The networks named, else all of the zoo for the same data that can be loaded."""
    return study.all_beside() if s.networks is None else tuple(map(study.beside, s.networks))


def transfer(run: Run, s: Transfer, images: ga.ImageSet, held_out: ga.ImageSet) -> xr.Dataset:
    """One search for each network, then all pairs."""
    ga.experiments.check_networks(list(run.networks))
    radius = radius_of(s, images)

    def perturbation(net: Classifier) -> xr.Dataset:
        run.say(f"universal perturbation for {net.name}")
        found = ga.universal_perturbation(
            net, images, radius, target_rate=1.0, passes=s.passes, seed=run.seed, **run.pace
        )
        return xr.Dataset({"delta": (("channel", "row", "column"), found.delta.cpu().numpy())})

    found = run.keep.each({net.name: partial(perturbation, net) for net in run.networks})
    return ga.experiments.transfer(
        list(run.networks),
        [ds["delta"].to_numpy() for ds in found],
        held_out,
        draws=s.draws,
        seed=run.seed,
        **run.pace,
    )


def transfer_work(case: Case) -> Work:
    """A search, then the held-out images under every network's perturbation, and random ones."""
    s, held_out, networks = case.settings, case.count["held_out"], case.networks
    search = search_work(case.count["images"], 0, s.passes)
    return replace(
        search + Work({FORWARD: held_out * (1 + networks + s.draws)}),
        memory=(case.count["images"] + held_out) * case.image_bytes,
        sizes={"made_for": networks, "sample": held_out, "draw": s.draws},
    )


def tell_transfer(ds: xr.Dataset) -> str:
    """A line per attacked network."""
    lines = []
    for name in ds["network"].to_numpy():
        rates = ", ".join(f"{100 * float(r):.0f}" for r in ds["fooling_rate"].sel(network=name))
        noise = 100 * float(ds["random_fooling_rate"].sel(network=name).mean())
        lines.append(
            f"{name}: {rates} % fooled by the perturbations in this order, random {noise:.0f} %"
        )
    return "\n".join(lines)


def finetuning(run: Run, s: Finetuning, images: ga.ImageSet, held_out: ga.ImageSet) -> xr.Dataset:
    """All rounds."""
    return ga.experiments.finetuning(
        run.net,
        images,
        held_out,
        radius_of(s, images),
        rounds=s.rounds,
        pool=s.pool,
        seed=run.seed,
        samples=s.samples,
        epochs=s.epochs,
        search={"passes": s.passes, "target_rate": 1.0},
        keep=run.keep,
        **run.pace,
    )


def finetuning_work(case: Case) -> Work:
    """Searches before and after every round, rates on held-out images, and training."""
    s, n, held_out = case.settings, case.count["images"], case.count["held_out"]
    searches: Work = (s.rounds + 1) * s.pool * search_work(min(s.samples, n), 0, s.passes)
    rates = Work({FORWARD: (s.rounds + 1) * held_out * (1 + 2 * s.pool)})
    return replace(
        searches + rates + Work({TRAINING: s.rounds * s.epochs * n}),
        memory=(n + held_out) * case.image_bytes,
        sizes={"round": s.rounds + 1, "member": s.pool},
    )


def tell_finetuning(ds: xr.Dataset) -> str:
    """A line per round."""
    lines = []
    for number in ds["round"].to_numpy():
        fresh, first, accuracy = (
            100 * float(ds[name].sel(round=number).mean())
            for name in ("fooling_rate", "first_fooling_rate", "accuracy")
        )
        lines.append(
            f"after {number} rounds: {fresh:5.1f} % fooled by new perturbations, {first:5.1f} % by "
            f"the first ones, accuracy {accuracy:5.1f} %"
        )
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Categories:
    """The four categories of vulnerability, of several networks on the same images."""

    networks: Names = None
    """Further networks; default: all of the zoo for the same data that are at hand or train in
    minutes."""
    count: Count = 200
    """Test images; all if there are fewer."""
    norms: int = 10
    """Norms, equally spaced in their logarithm."""
    relative_norms: tuple[float, float] = (0.002, 2.0)
    """Smallest and largest norm as shares of the mean image norm; it ends at the distance of the
    two images that are farthest apart."""
    levels: tuple[float, ...] = (0.5,)
    """Shares of images that count as fooled; the figure shows the first."""
    draws: Draws = 20
    """Random directions."""
    passes: Count = 2
    """Passes of each universal search at most."""


def _check_categories(s: Categories, net: Classifier) -> Categories:
    del net
    low, high = s.relative_norms
    if not 0 < low < high < np.inf or s.norms < 1:
        raise InputError(
            f"relative_norms={s.relative_norms} must be positive, finite and ascending, and "
            f"norms={s.norms} at least 1."
        )
    return s


def categories(run: Run, s: Categories, images: ga.ImageSet) -> xr.Dataset:
    """The three curves and the categories of every network."""
    ga.experiments.check_same_task(list(run.networks))
    radii = images.mean_norm() * np.geomspace(*s.relative_norms, s.norms)
    # From bright images every other one is nearer than twice their norm.
    if radii[-1] > (most := ga.experiments.farthest(run.networks[0])):
        if radii[0] >= most:
            raise InputError(
                f"relative_norms={s.relative_norms}: the smallest norm is {radii[0]:.3g}, and no "
                f"two images are farther apart than {most:.3g} (image units). Give smaller shares."
            )
        radii = np.geomspace(radii[0], most, s.norms)

    def one(net: Classifier) -> xr.Dataset:
        run.say(f"categories of {net.name}")
        return ga.experiments.categories(
            net,
            images,
            radii.tolist(),
            s.levels,
            s.draws,
            run.seed,
            search={"passes": s.passes},
            keep=ga.experiments.within(run.keep, net.name),
            **run.pace,
        )

    each = [one(net).expand_dims(network=[net.name]) for net in run.networks]
    return xr.concat(each, "network", join="exact", combine_attrs="override")


def categories_work(case: Case) -> Work:
    """The nearest boundary points, a search at every norm, and random directions."""
    s, n = case.settings, case.count["images"]
    # Most norms are so small that no perturbation fools many images.
    searches: Work = s.norms * search_work(n, 0, s.passes, missed=0.7)
    rest = Work({Walk(end="nearest"): n, FORWARD: n * (1 + s.norms * (1 + s.draws))})
    sizes = {"radius": s.norms, "level": len(s.levels), "sample": n, "draw": s.draws}
    return replace(searches + rest, memory=24 * n * case.image_bytes, sizes=sizes)


def tell_categories(ds: xr.Dataset) -> str:
    """From which norm on each network is in each category."""
    lines = []
    for name in ds["network"].to_numpy():
        category = ds["category"].isel(level=0).sel(network=name)
        begins = [
            f"{k} from {float(ds['radius'][category >= k].min()):.2g}"
            for k in (2, 3, 4)
            if bool((category >= k).any())
        ]
        known = f"{', '.join(begins)} image units" if begins else "no other at any norm"
        lines.append(f"{name}: category 1, {known}")
    return "\n".join(lines)


ACROSS = (
    Experiment(
        name="transfer",
        divided="networks",
        settings=Transfer,
        compute=transfer,
        measured_on="held_out",
        resolve=sized,
        networks=zoo_beside,
        tell=tell_transfer,
        work=transfer_work,
        quick={**QUICK, "draws": 3},
        figures={
            "transfer": Drawing(
                ga.plotting.transfer,
                "How often a perturbation made for one network (row) fools another "
                "(column), in per cent of held-out images; the last row is a random one of "
                "that norm. Columns as full off the diagonal as on it mean that "
                "perturbations carry over.",
            )
        },
        **SETS,
    ),
    Experiment(
        name="finetuning",
        divided="searches",
        settings=Finetuning,
        compute=finetuning,
        measured_on="held_out",
        resolve=sized,
        tell=tell_finetuning,
        headline=-1,
        work=finetuning_work,
        quick={**QUICK, "count": 200, "rounds": 1, "pool": 1, "samples": 30, "epochs": 1},
        figures={
            "finetuning": Drawing(
                ga.plotting.finetuning,
                "The network is trained further on perturbed images, round by round: share "
                "of held-out images that new universal perturbations fool (orange-red), "
                "that those of round 0 fool (yellow), and accuracy on clean images. A first "
                "curve that stays high means that fine-tuning closes old holes only.",
            )
        },
        images={
            "images": Sample("train", "count", labels=True),
            "held_out": Sample("test", "held_out", labels=True),
        },
    ),
    Experiment(
        name="categories",
        divided="searches",
        settings=Categories,
        compute=categories,
        resolve=_check_categories,
        images={"images": Sample("test", "count")},
        networks=zoo_beside,
        tell=tell_categories,
        work=categories_work,
        quick={"count": 20, "norms": 4, "draws": 5, "passes": 1},
        quick_large={"count": 5, "draws": 2},
        figures={
            "categories": Drawing(
                ga.plotting.categories,
                "Share of images fooled by a perturbation of their own (A), by one for all "
                "(U) and by a random direction (R), against the norm allowed. The bar says "
                "from which norm on each passes the dotted level: no, some, universal, or "
                "all perturbations are adversarial.",
            )
        },
    ),
)
