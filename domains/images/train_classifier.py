"""Train a small classifier of pictures, for features or as a reward.

``python -m domains.images.train_classifier --config domains/images/reference/features.yaml``
"""

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from domains.images.classifier import Network
from domains.images.dataset.read import read_pictures
from domains.images.pixels import to_float
from graft.cli.script import script
from graft.core import seeding
from graft.domain.feature_training import Accuracy, minimise, seeded_network
from graft.errors import GraftError
from graft.io import yaml_files


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
) -> Accuracy:
    """Train a classifier on labelled pictures and write it.

    Args:
        out: File for the weights, ``.safetensors``.
        source: Source of labelled pictures, as in `domains.images.data.ImageData`.
        size: Side in pixels.
        width: Channels of the first convolution.
        features: Number of features.
        steps: Number of steps of AdamW, with a cosine schedule.
        batch_size: Pictures of a step.
        learning_rate: Highest learning rate.
        noise: Largest standard deviation of the Gaussian noise that is added in training, since the classifier is used
            on sampled pictures.
        shift: Largest shift of a picture in training, in pixels.
        held_out: Share of pictures that are not trained on.
        seed: Seed of the split, the weights and the batches.

    Raises:
        GraftError: The pictures have no labels.
        NotFiniteError: The loss or the gradient of a step is not finite; nothing is written.
    """
    found = read_pictures(source, size)
    if found.labels is None:
        raise GraftError(f"a classifier needs labels, and the pictures of {source!r} have none")
    generator = seeding.make_generator(seed, "classifier")
    pixels = to_float(torch.from_numpy(found.pixels).movedim(-1, 1).contiguous())
    labels = torch.from_numpy(found.labels)
    order = torch.randperm(len(pixels), generator=generator)
    kept = order[: round(len(order) * held_out)]
    seen = order[len(kept) :]
    classes = int(labels.max()) + 1
    network = seeded_network(lambda: Network(pixels.shape[1], pixels.shape[2], classes, width, features), seed)

    def loss() -> Tensor:
        rows = seen[torch.randint(len(seen), (batch_size,), generator=generator)]
        spread = noise * torch.rand(batch_size, 1, 1, 1, generator=generator)
        x = _moved(pixels[rows], shift, generator)
        x = x + spread * torch.randn(x.shape, generator=generator)
        return nn.functional.cross_entropy(network(x), labels[rows], label_smoothing=0.05)

    minimise(network, loss, steps, learning_rate, lambda adam: CosineAnnealingLR(adam, steps))
    result = Accuracy(*(_accuracy(network, pixels[rows], labels[rows]) for rows in (seen, kept)))
    names = found.names or [str(i) for i in range(classes)]
    network.save(out, names, {"source": source, "seed": seed, "steps": steps, "accuracy": vars(result)})
    return result


def _moved(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Return pictures, each shifted by up to ``most`` pixels; the border is repeated."""
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
    yaml_files.check_yaml_in_parser()
    script(train, __doc__)
