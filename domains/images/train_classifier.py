"""Trains a small classifier of pictures, for features or as a reward.

``python -m domains.images.train_classifier --config domains/images/reference/features.yaml``
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from domains.images.classifier import Network
from domains.images.dataset.read import read
from domains.images.pixels import to_float
from graft import plain_yaml, seeding
from graft.cli.script import script
from graft.errors import GraftError
from graft.finite import require_finite_step


@dataclass
class Result:
    """Of a training: shares of right answers on pictures that it saw and that it did not see."""

    training: float
    held_out: float


def train(
    out: str,
    source: str = "digits",
    size: "int | None" = None,
    width: int = 24,
    features: int = 64,
    steps: int = 2000,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    noise: float = 0.15,
    shift: int = 1,
    held_out: float = 0.1,
    seed: int = 0,
) -> Result:
    """Train a classifier on labelled pictures and write it.

    Args:
        out: File for the weights, ``.safetensors``.
        source: Of labelled pictures, see `domains.images.data.ImageData`.
        size: Pixels of a side.
        width: Channels of the first convolution.
        features: Size of the features.
        steps: Of the optimizer, AdamW with a cosine.
        batch_size: Pictures of a step.
        learning_rate: Highest.
        noise: Largest standard deviation of the Gaussian noise added in training, for pictures are drawn, not real.
        shift: Most pixels that a picture is moved in training.
        held_out: Share of pictures that it does not see.
        seed: Of everything.

    Raises:
        GraftError: The pictures have no labels.
        NotFiniteError: The loss or the gradient of a step is not finite; nothing is written.
    """
    found = read(source, size)
    if found.labels is None:
        raise GraftError(f"a classifier needs labels, and the pictures of {source!r} have none")
    generator = seeding.make_generator(seed, "classifier")
    pixels = to_float(torch.from_numpy(found.pixels).movedim(-1, 1).contiguous())
    labels = torch.from_numpy(found.labels)
    order = torch.randperm(len(pixels), generator=generator)
    kept = order[: round(len(order) * held_out)]
    seen = order[len(kept) :]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(pixels.shape[1], pixels.shape[2], int(labels.max()) + 1, width, features)
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        rows = seen[torch.randint(len(seen), (batch_size,), generator=generator)]
        spread = noise * torch.rand(batch_size, 1, 1, 1, generator=generator)
        x = _moved(pixels[rows], shift, generator)
        x = x + spread * torch.randn(x.shape, generator=generator)
        loss = nn.functional.cross_entropy(network(x), labels[rows], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        require_finite_step(loss, network.parameters(), step + 1, float(schedule.get_last_lr()[0]))
        optimizer.step()
        schedule.step()
    network.eval()
    result = Result(*(_accuracy(network, pixels[rows], labels[rows]) for rows in (seen, kept)))
    names = found.names or [str(i) for i in range(int(labels.max()) + 1)]
    network.save(out, names, {"source": source, "seed": seed, "steps": steps, "accuracy": vars(result)})
    return result


def _moved(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Pictures moved by up to ``most`` pixels, each by its own; the border is repeated."""
    if not most:
        return x
    side = x.shape[-1]
    padded = nn.functional.pad(x, (most,) * 4, mode="replicate")
    across, down = torch.randint(2 * most + 1, (2, len(x), 1), generator=generator) + torch.arange(side)
    batch = torch.arange(len(x))[:, None, None]
    return padded.movedim(1, -1)[batch, down[:, :, None], across[:, None]].movedim(-1, 1)


@torch.no_grad()
def _accuracy(network: Network, pixels: Tensor, labels: Tensor) -> float:
    return float((network(pixels).argmax(1) == labels).double().mean()) if len(pixels) else float("nan")


if __name__ == "__main__":
    plain_yaml.install()
    script(train, __doc__)
