"""Training the networks of the zoo, reproducibly."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geomadv.images import ImageSet, load_images
from geomadv.networks.spec import NetworkSpec, Recipe
from geomadv.progress import tqdm


def _normalise(images: Tensor, spec: NetworkSpec) -> Tensor:
    """Images (N, C, H, W) in [0, 1] -> what the module is fed."""
    if spec.mean is None or spec.std is None:
        return images
    mean, std = (images.new_tensor(v).reshape(-1, 1, 1) for v in (spec.mean, spec.std))
    return (images - mean) / std


def _augment(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Randomly mirrored and shifted copies of normalised images, (N, C, H, W) -> the same."""
    n, channels, height, width = images.shape
    if recipe.flip:
        mirrored = torch.rand(n, generator=generator) < 0.5
        images = torch.where(
            mirrored.to(images.device)[:, None, None, None], images.flip(3), images
        )
    if recipe.shift:
        s = recipe.shift
        corner = torch.randint(2 * s + 1, (2, n, 1), generator=generator)
        rows = (corner[0] + torch.arange(height)).to(images.device)
        columns = (corner[1] + torch.arange(width)).to(images.device)
        each = torch.arange(n, device=images.device)[:, None, None, None]
        channel = torch.arange(channels, device=images.device)[None, :, None, None]
        padded = F.pad(images, (s, s, s, s))
        images = padded[each, channel, rows[:, None, :, None], columns[:, None, None, :]]
    return images


def _batches(
    images: ImageSet, recipe: Recipe, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """All batches of all epochs, each epoch in a new order."""
    for _ in range(recipe.epochs):
        order = torch.randperm(len(images), generator=generator)
        for part in order.split(recipe.batch_size):
            batch = images[part]
            yield batch.images, batch.labels


def _optimizer(
    module: nn.Module, recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]:
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "adam":
        optimizer = torch.optim.Adam(
            module.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
    else:
        optimizer = torch.optim.SGD(
            module.parameters(),
            lr=recipe.learning_rate,
            momentum=0.9,
            weight_decay=recipe.weight_decay,
            nesterov=True,
        )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=recipe.learning_rate, total_steps=steps, cycle_momentum=False
    )
    return optimizer, schedule


def train(
    spec: NetworkSpec,
    progress: bool = True,
    *,
    images: ImageSet | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """Trains a network of the zoo from scratch, by its recipe.

    The same seed, data, machine, thread count and software give bit-identical weights. The global
    random state is as it was afterwards.

    Args:
        spec: a network with a recipe.
        progress: show a bar with the loss and the time.
        images: training images with labels; default: the training split of `spec.dataset`.
        device: where to train; default CPU.

    Returns:
        The module in evaluation mode, on the CPU.

    Raises:
        InputError: the data set cannot be had.
        ValueError: the network has no recipe.
        RuntimeError: the loss became NaN or infinite.
    """
    recipe = spec.recipe
    if recipe is None:
        raise ValueError(f"network {spec.name!r} has no training recipe.")
    images = load_images(spec.dataset, split="train") if images is None else images
    place = torch.device(device or "cpu")
    gpus = list(range(torch.cuda.device_count())) if place.type == "cuda" else []
    # Initial weights and dropout can only be drawn from the global generators.
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(recipe.seed)
        # Channels-last: the convolutions' backward pass is up to twice as fast on a CPU.
        module = _move(spec.build().train(), place, torch.channels_last)
        _fit(module, spec, recipe, images, place, progress)
    return _move(module.eval(), torch.device("cpu"), torch.contiguous_format)


def _move(module: nn.Module, device: torch.device, memory_format: torch.memory_format) -> nn.Module:
    """The module itself, moved; `Module.to` has no typed overload with a memory format."""
    return module.to(device=device, memory_format=memory_format)  # type: ignore[call-overload,no-any-return]


def _fit(
    module: nn.Module,
    spec: NetworkSpec,
    recipe: Recipe,
    images: ImageSet,
    device: torch.device,
    progress: bool,
) -> None:
    """Runs the recipe on the module, in place."""
    generator = torch.Generator().manual_seed(recipe.seed)
    steps = recipe.epochs * -(-len(images) // recipe.batch_size)
    optimizer, schedule = _optimizer(module, recipe, steps)
    description = f"{spec.name}: first use, training on {spec.dataset}"
    # Told at once and left on the screen: it takes its time at the first use alone.
    with tqdm(
        total=steps, desc=description, unit="step", delay=0, leave=True, disable=not progress
    ) as bar:
        for x, labels in _batches(images, recipe, generator):
            x = _augment(_normalise(x.to(device), spec), recipe, generator)
            x = x.contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(module(x), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if not loss.isfinite():
                raise RuntimeError(f"training {spec.name!r} diverged: the loss is {loss.item()}.")
            if progress:
                bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
            bar.update()
