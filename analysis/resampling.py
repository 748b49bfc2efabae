"""Table 1: images resampled in front of the network, rescaled perturbations, a direct attack."""

from dataclasses import dataclass

import xarray as xr
from common import Flags, compute_once, load_images, load_network, main

import geomadv as ga

# Sides of the small image, as shares of the image's own: those of the paper's table, and 3/4.
_SHARES = (1.0, 200 / 227, 3 / 4, 150 / 227, 120 / 227, 100 / 227)

# Images by default: (largest number of pixel values, attacked, spanning).
_EFFORT = ((1024, 1000, 2000), (4096, 500, 1000), (float("inf"), 100, 100))


@dataclass(kw_only=True)
class Resampling(Flags):
    """Flags of this script."""

    count: int | None = None
    """Test images; default: 1,000, 500 for images of over 1,024 numbers, 100 of over 4,096."""
    span_count: int | None = None
    """Training images whose resampled perturbations span the direct attack's subspace; default:
    2,000, 1,000 or 100. 0: no direct attack."""
    low_sizes: tuple[int, ...] = ()
    """Pixels d_low on the shorter side; default: shares of the side as in the paper."""
    factors: tuple[float, ...] = (1, 2, 3, 4, 5, 10)
    """Factors f on the perturbations of the original network."""


def run(flags: Resampling) -> None:
    """Accuracy, norms and fooling rates against d_low and f."""
    net = load_network(flags)
    count, span_count = next((n, m) for most, n, m in _EFFORT if net.dimension <= most)
    if flags.span_count is not None:
        span_count = flags.span_count
    images = load_images(flags, "test", count if flags.count is None else flags.count)
    span = None if span_count == 0 else load_images(flags, "train", span_count)
    side = min(net.input_shape[1:])
    defaults = sorted({round(share * side) for share in _SHARES}, reverse=True)
    low_sizes = list(flags.low_sizes or defaults)
    config = {
        "count": len(images),
        "span_count": span_count,
        "span_sha256": None if span is None else span.sha256,
        "low_sizes": low_sizes,
        "factors": flags.factors,
        "seed": flags.seed,
    }
    tell(
        compute_once(
            flags,
            net,
            images,
            "resampling",
            config,
            lambda keep: ga.experiments.resampling(
                net,
                images,
                low_sizes,
                flags.factors,
                span_images=span,
                keep=keep,
                batch_size=flags.batch_size,
                progress=True,
            ),
        )
    )


def tell(ds: xr.Dataset) -> None:
    """The table, a line per d_low."""
    factors = " ".join(f"{f'f={f:g}':>6}" for f in ds["factor"].to_numpy())
    print(f"{'d_low':>5} {'|x|':>7} {'|r|':>7} {'acc %':>6}  fooled %: {factors}  direct |r|")
    found = ds["converged"]
    for d_low in ds["d_low"].to_numpy():
        row = ds.sel(d_low=d_low)
        norm = float(row["resampled_norm"].where(found).mean())
        rates = " ".join(f"{100 * float(rate):6.1f}" for rate in row["fooling_rate"])
        direct = float("nan")
        if "confined_norm" in row:
            direct = float(row["confined_norm"].where(row["confined_converged"]).mean())
        print(
            f"{d_low:5d} {float(row['resampled_image_norm'].mean()):7.3f} {norm:7.4f} "
            f"{100 * float(row['accuracy']):6.1f}            {rates}  {direct:10.4f}"
        )


if __name__ == "__main__":
    main(Resampling, run)
