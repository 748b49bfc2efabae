"""Universal perturbations: fooling rates against the sample size, and which label turns into which.

Writes universal.h5 and label_graph.h5.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro
from common import Flags, compute_once, load_images, load_network, main, mean_norm, paper_share

import geomadv as ga


@dataclass(kw_only=True)
class Universal(Flags):
    """Flags of this script."""

    count: int = 1000
    """Training images that sample sets are drawn from; all if there are fewer."""
    held_out: int = 1000
    """Test images; all if there are fewer."""
    sizes: tuple[int, ...] = (10, 30, 100, 300, 1000)
    """Sizes of the sample sets; those beyond the images are left out."""
    p: Annotated[Literal["2", "inf"], tyro.conf.arg(metavar="2|inf")] = "2"
    """Norm of the ball."""
    relative_radius: float | None = None
    """Radius as a share of the images' mean p-norm; default: the paper's (4 % for p = 2, and for
    inf 10 of 255), and ten times that for grey images, whose networks it hardly fools."""
    target_rate: float = 1.0
    """Fooling rate of the sample set at which the search ends."""
    passes: int = 3
    """Passes over the sample set at most."""
    repeats: int = 3
    """Sample sets of each size."""
    method: Literal["batched", "sequential"] = "batched"
    """sequential: one image after the other, as published (slower)."""


def run(flags: Universal) -> None:
    """Searches at every sample size; the label graph of the first search on the largest."""
    net = load_network(flags)
    images = load_images(flags, "train", flags.count)
    held_out = load_images(flags, "test", flags.held_out)
    p = float(flags.p)
    relative = paper_share(net, p) if flags.relative_radius is None else flags.relative_radius
    search = {
        "target_rate": flags.target_rate,
        "passes": flags.passes,
        "method": flags.method,
    }
    sizes = sorted({n for n in flags.sizes if n < len(images)} | {len(images)})
    config = {
        "count": flags.count,
        "held_out": flags.held_out,
        "held_out_sha256": held_out.sha256,
        "sizes": sizes,
        "p": flags.p,
        "relative_radius": relative,
        "repeats": flags.repeats,
        "seed": flags.seed,
        **search,
    }
    ds = compute_once(
        flags,
        net,
        images,
        "universal",
        config,
        lambda keep: ga.experiments.universal(
            net,
            images,
            held_out,
            relative * mean_norm(images, p),
            p,
            sizes,
            flags.repeats,
            flags.seed,
            search=search,
            keep=keep,
            batch_size=flags.batch_size,
            progress=True,
        ),
    )
    # Images whose scores are not finite under the perturbation have no label to go to.
    known = ds["label"][0] >= 0
    source, label = ds["prediction"][known], ds["label"][0][known]
    graph = compute_once(
        flags,
        net,
        held_out,
        "label_graph",
        config,
        lambda _: ga.experiments.label_graph(source, label, net.class_names),
    )
    for n in sizes:
        sample, unseen = (
            100 * float(ds[name].sel(size=n).mean())
            for name in ("fooling_rate", "held_out_fooling_rate")
        )
        print(f"{n:5} images: {sample:5.1f} % of them fooled, {unseen:5.1f} % of held-out images")
    print(f"random, same norm: {100 * float(ds['random_fooling_rate'].mean()):.1f} % fooled")
    order = graph["received_share"].argsort()[::-1].to_numpy()[:3]
    labels = ", ".join(
        f"{graph['to_class'].to_numpy()[k]} {100 * float(graph['received_share'][k]):.0f} %"
        for k in order
    )
    print(f"labels that fooled images get: {labels}")


if __name__ == "__main__":
    main(Universal, run)
