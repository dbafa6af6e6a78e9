"""Train the judge of pictures that ships.

``python -m domains.images.captioned.train_judge --config domains/images/captioned/judge.yaml --source FILE.npz``
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from domains.images.captioned import captions
from domains.images.captioned.augment import flawed
from domains.images.captioned.captions import Caption
from domains.images.captioned.judge import PARTS, Judge
from domains.images.captioned.scenes import Scenes
from domains.images.pixels import to_float
from graft.cli.script import script
from graft.core import seeding
from graft.domain.feature_training import Accuracy, minimise, seeded_network
from graft.io import yaml_files


def train(
    out: str,
    source: str,
    held_out: float = 0.15,
    width: int = 12,
    size: int = 48,
    steps: int = 2500,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    seed: int = 2,
) -> Accuracy:
    """Train a judge, write it, and return the shares of pictures in which every part is right.

    Args:
        out: File for the weights, ``.safetensors``.
        source: ``.npz`` file of emoji, as in `domains.images.captioned.scenes.Scenes`.
        held_out: Share of the pairs of object and colour that are not trained on; ``seed`` chooses them.
        width: Channels of the first convolution.
        size: Number of features.
        steps: Number of steps of AdamW, with a cosine schedule.
        batch_size: Pictures of a step.
        learning_rate: Highest learning rate.
        seed: Seed of the held-out pairs, the weights and the batches.

    Raises:
        GraftError: The source holds no emoji.
        NotFiniteError: The loss or the gradient of a step is not finite; nothing is written.
    """
    scenes, (seen, unseen) = Scenes(source), captions.split(held_out, seed)
    generator = seeding.make_generator(seed, "judge")
    network = seeded_network(lambda: Judge(width, size), seed)

    def loss() -> Tensor:
        batch = _some(seen, batch_size, generator)
        found = network(flawed(to_float(scenes.draw(batch, generator)), generator))
        losses = [
            nn.functional.cross_entropy(found[part], _answers(batch, part), label_smoothing=0.05) for part in PARTS
        ]
        return torch.stack(losses).sum()

    minimise(network, loss, steps, learning_rate, lambda adam: CosineAnnealingLR(adam, steps), max_norm=1.0)
    later = seeding.make_generator(seed, "judge", "held out")
    result = Accuracy(*(accuracy(network, scenes, _some(part, 1000, later), later) for part in (seen, unseen)))
    network.save(out, {"seed": seed, "steps": steps, "held_out": held_out, "accuracy": vars(result)})
    return result


@torch.no_grad()
def accuracy(network: Judge, scenes: Scenes, among: Sequence[Caption], generator: Generator) -> float:
    """Return the share of pictures of the captions in which every part is right."""
    found = network(to_float(scenes.draw(among, generator)))
    right = [found[part].argmax(1) == _answers(among, part) for part in PARTS]
    return float(torch.stack(right).all(0).double().mean())


def _some(among: Sequence[Caption], count: int, generator: Generator) -> list[Caption]:
    return [among[row] for row in torch.randint(len(among), (count,), generator=generator).tolist()]


def _answers(batch: Sequence[Caption], part: str) -> Tensor:
    return torch.tensor([PARTS[part].index(getattr(caption, part)) for caption in batch])


if __name__ == "__main__":
    yaml_files.check_yaml_in_parser()
    script(train, __doc__)
