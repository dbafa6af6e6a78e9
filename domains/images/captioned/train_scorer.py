"""Train the scorer of pictures and captions that ships.

``python -m domains.images.captioned.train_scorer --config domains/images/captioned/scorer.yaml --source FILE.npz``
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from domains.images.captioned import captions
from domains.images.captioned.augment import flawed
from domains.images.captioned.captions import BACKGROUNDS, COLOURS, OBJECTS, Caption
from domains.images.captioned.scenes import Scenes
from domains.images.captioned.scorer import TwoTowers, known_words
from domains.images.pixels import to_float
from graft.cli.script import script
from graft.core import seeding
from graft.domain.feature_training import minimise, seeded_network
from graft.io import yaml_files


@dataclass
class Ranking:
    """Shares of pictures whose caption scores highest among captions with one word changed.

    Attributes:
        training: Share with captions of the training.
        held_out: Share with captions whose pair of object and colour was held out.
    """

    training: float
    held_out: float


def train(
    out: str,
    source: str,
    held_out: float = 0.15,
    width: int = 16,
    size: int = 64,
    steps: int = 2500,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    seed: int = 1,
) -> Ranking:
    """Train a scorer, write it, and return how often it ranks the right caption first.

    Args:
        out: File for the weights, ``.safetensors``.
        source: ``.npz`` file of emoji, as in `domains.images.captioned.scenes.Scenes`.
        held_out: Share of the pairs of object and colour that are not trained on; those of the pipeline.
        width: Channels of the first convolution.
        size: Size of the embeddings.
        steps: Number of steps of AdamW, with a cosine schedule.
        batch_size: Pictures of a step; each brings its caption and one with a word changed.
        learning_rate: Highest learning rate.
        seed: Seed of the weights and the batches.

    Raises:
        GraftError: The source holds no emoji.
        NotFiniteError: The loss or the gradient of a step is not finite; nothing is written.
    """
    scenes, (seen, unseen) = Scenes(source), captions.split(held_out)
    generator = seeding.make_generator(seed, "scorer")
    chosen = random.Random(seed)
    network = seeded_network(lambda: TwoTowers(known_words(), width, size), seed)

    def loss() -> Tensor:
        batch = chosen.choices(seen, k=batch_size)
        pixels = flawed(to_float(scenes.draw(batch, generator)), generator)
        queries = batch + [changed(caption, chosen) for caption in batch]
        texts = captions.texts(queries, generator)
        queries = [captions.parse(text) for text in texts]  # a caption may leave the background open
        right = torch.tensor([[_describes(text, caption) for text in queries] for caption in batch]).float()
        found = nn.functional.binary_cross_entropy_with_logits(network(pixels, texts), right, reduction="none")
        weight = torch.where(right > 0, 8.0, 1.0)
        weight = torch.where(
            torch.eye(batch_size).repeat(1, 2) > 0, 8.0, weight
        )  # its own caption, and the changed one
        return (found * weight).sum() / weight.sum()

    minimise(network, loss, steps, learning_rate, lambda adam: CosineAnnealingLR(adam, steps), max_norm=1.0)
    result = Ranking(*(ranked_first(network, scenes, part, seed) for part in (seen, unseen)))
    network.save(out, {"seed": seed, "steps": steps, "held_out": held_out, "ranked_first": vars(result)})
    return result


def changed(caption: Caption, chosen: random.Random) -> Caption:
    """Return a caption with another object, colour or background."""
    return chosen.choice(neighbours(caption))


def neighbours(caption: Caption) -> list[Caption]:
    """Return all captions with one word changed."""
    found = [replace(caption, object=thing) for thing in OBJECTS]
    found += [replace(caption, colour=colour) for colour in COLOURS if colour != caption.background]
    found += [replace(caption, background=ground) for ground in BACKGROUNDS if ground != caption.colour]
    return [each for each in found if each != caption]


@torch.no_grad()
def ranked_first(network: TwoTowers, scenes: Scenes, among: Sequence[Caption], seed: int, count: int = 400) -> float:
    """Return the share of pictures whose caption scores above all captions with one word changed."""
    generator = seeding.make_generator(seed, "scorer", "held out")
    batch = random.Random(seed).choices(among, k=count)
    pixels = to_float(scenes.draw(batch, generator))
    right = 0
    for row, caption in enumerate(batch):
        logits = network(pixels[row : row + 1], [each.text() for each in (caption, *neighbours(caption))])[0]
        right += int(logits.argmax() == 0)
    return right / count


def _describes(text: Caption, picture: Caption) -> bool:
    same = text.object == picture.object and text.colour == picture.colour
    return same and text.background in ("", picture.background)


if __name__ == "__main__":
    yaml_files.check_yaml_in_parser()
    script(train, __doc__)
