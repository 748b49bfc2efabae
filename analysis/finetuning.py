"""Fine-tuning on universal perturbations: fooling rate and clean accuracy, round after round."""

from dataclasses import dataclass

from common import Flags, compute_once, load_images, load_network, main, mean_norm, paper_share

import geomadv as ga


@dataclass(kw_only=True)
class Finetuning(Flags):
    """Flags of this script."""

    count: int = 5000
    """Training images; all if there are fewer."""
    held_out: int = 1000
    """Test images; all if there are fewer."""
    relative_radius: float | None = None
    """Norm of the perturbations as a share of the mean image norm; default: the paper's 4 %, for
    grey images ten times that."""
    rounds: int = 5
    """Rounds of fine-tuning."""
    pool: int = 3
    """Perturbations per round (the paper: 10)."""
    samples: int = 300
    """Images behind each perturbation."""
    epochs: int = 5
    """Epochs of fine-tuning per round."""
    passes: int = 2
    """Passes of each universal search at most."""


def run(flags: Finetuning) -> None:
    """All rounds."""
    net = load_network(flags)
    images = load_images(flags, "train", flags.count)
    held_out = load_images(flags, "test", flags.held_out)
    relative = paper_share(net) if flags.relative_radius is None else flags.relative_radius
    config = {
        "count": flags.count,
        "held_out": flags.held_out,
        "held_out_sha256": held_out.sha256,
        "relative_radius": relative,
        "rounds": flags.rounds,
        "pool": flags.pool,
        "samples": flags.samples,
        "epochs": flags.epochs,
        "passes": flags.passes,
        "seed": flags.seed,
    }
    ds = compute_once(
        flags,
        net,
        images,
        "finetuning",
        config,
        lambda keep: ga.experiments.finetuning(
            net,
            images,
            held_out,
            relative * mean_norm(images),
            rounds=flags.rounds,
            pool=flags.pool,
            seed=flags.seed,
            samples=flags.samples,
            epochs=flags.epochs,
            search={"passes": flags.passes, "target_rate": 1.0},
            keep=keep,
            batch_size=flags.batch_size,
            progress=True,
        ),
    )
    for number in ds["round"].to_numpy():
        fresh, first, accuracy = (
            100 * float(ds[name].sel(round=number).mean())
            for name in ("fooling_rate", "first_fooling_rate", "accuracy")
        )
        print(
            f"after {number} rounds: {fresh:5.1f} % fooled by new perturbations, {first:5.1f} % by "
            f"the first ones, accuracy {accuracy:5.1f} %"
        )


if __name__ == "__main__":
    main(Finetuning, run)
