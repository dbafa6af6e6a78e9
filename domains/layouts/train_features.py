"""Train the feature network of layouts.

``python -m domains.layouts.train_features --config domains/layouts/reference/features.yaml --source FILE``
"""

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from typing_extensions import override

from domains.layouts.data import LayoutData
from domains.layouts.features import Encoder, pad_layouts
from domains.layouts.layout import BINS
from domains.layouts.readers import LayoutSet
from graft.cli.script import script
from graft.core import limits, seeding
from graft.domain.feature_training import Accuracy, minimise, seeded_network
from graft.io import yaml_files

MOST = 0.2  # standard deviation of the strongest disturbance, fraction of the page
LEAST = 0.05  # standard deviation of the weakest disturbance


class RealOrDisturbed(nn.Module):
    """The encoder with the two heads that train it.

    Args:
        encoder: Encoder that makes the features.
        elements: Largest number of elements of a layout.
    """

    def __init__(self, encoder: Encoder, elements: int) -> None:
        super().__init__()
        width = encoder.width
        self.encoder = encoder
        self.real = nn.Linear(width, 1)
        self.places = nn.Parameter(0.02 * torch.randn(1, elements, width))
        layer = nn.TransformerEncoderLayer(width, encoder.heads, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.decoder = nn.TransformerEncoder(layer, encoder.layers // 2, enable_nested_tensor=False)
        self.element = nn.Linear(width, len(encoder.names) + 4)

    @override
    def forward(self, labels: Tensor, boxes: Tensor, mask: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Return (loss, share of right answers); elements are in the order of `sort_elements`."""
        features = self.encoder(labels, boxes, mask)
        logit = self.real(features)[:, 0]
        rebuilt = self.element(
            self.decoder(features[:, None] + self.places[:, : mask.shape[1]], src_key_padding_mask=mask == 0)
        )
        there = mask > 0
        guess, box = rebuilt[there][:, :-4], rebuilt[there][:, -4:].sigmoid()
        loss = nn.functional.binary_cross_entropy_with_logits(logit, real)
        loss = loss + nn.functional.cross_entropy(guess, labels[there]) + 10 * (box - boxes[there]).square().mean()
        return loss, ((logit > 0) == (real > 0.5)).double().mean()


def train(
    out: str,
    source: str = "generated",
    classes: "list[str | int] | str | int | None" = None,
    elements: int = 20,
    width: int = 64,
    layers: int = 4,
    heads: int = 4,
    steps: int = 3000,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    held_out: float = 0.15,
    seed: int = 0,
) -> Accuracy:
    """Train an encoder to tell real layouts from disturbed ones, and write it.

    A decoder also rebuilds the layouts from the features.

    Args:
        out: File for the weights, ``.safetensors``.
        source: Source of layouts of `domains.layouts.data.LayoutData`; its validation part is held out.
        classes: Names of the classes.
        elements: Largest number of elements of a layout.
        width: Number of features.
        layers: Number of layers of the encoder; the decoder has half as many.
        heads: Number of attention heads.
        steps: Number of steps of AdamW, with a one-cycle schedule.
        batch_size: Layouts of a step, half of them disturbed.
        learning_rate: Highest learning rate.
        held_out: Share of layouts that are not trained on.
        seed: Seed of the split, the weights and the batches.

    Raises:
        GraftError: There are too few steps for a learning rate that rises and falls.
        NotFiniteError: The loss or the gradient of a step is not finite; nothing is written.
    """
    limits.check("steps", steps, 4)
    data = LayoutData(source, classes, elements, val_fraction=held_out, seed=seed)
    generator = seeding.make_generator(seed, "features")
    network = seeded_network(lambda: RealOrDisturbed(Encoder(data.names, width, layers, heads), elements), seed)
    seen, kept = sort_elements(data.train_set), sort_elements(data.val_set)
    right, step = 0.0, 0

    def loss() -> Tensor:
        nonlocal right, step
        value, share = network(*_batch(seen, batch_size, generator))
        step += 1
        right += (float(share) - right) / min(step, 200)  # mean over about the last 200 steps
        return value  # type: ignore[no-any-return]

    def schedule(optimizer: torch.optim.Optimizer) -> OneCycleLR:
        return OneCycleLR(optimizer, learning_rate, steps, pct_start=min(0.5, 100 / steps))

    minimise(network, loss, steps, learning_rate, schedule, max_norm=1.0)
    with torch.no_grad():
        other = [float(network(*_batch(kept, 256, generator))[1]) for _ in range(8)]
    result = Accuracy(right, sum(other) / len(other))
    name = source.replace("\\", "/").rpartition("/")[2]  # the file's name without its folder
    network.encoder.save(out, {"source": name, "seed": seed, "steps": steps, "accuracy": vars(result)})
    return result


def sort_elements(pages: LayoutSet) -> tuple[Tensor, Tensor, Tensor]:
    """Return (labels, boxes, mask) with the elements from top to bottom, for the decoder.

    The order identifies the elements for the decoder.
    """
    labels, boxes, mask = pad_layouts(pages.layouts(), pages.labels.shape[1])
    order = (boxes[..., 1] + 1e-3 * boxes[..., 0] + 9 * (1 - mask)).argsort(1)
    return labels.gather(1, order), boxes.gather(1, order[..., None].expand_as(boxes)), mask


def _batch(
    pages: tuple[Tensor, Tensor, Tensor], count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return layouts, every second one disturbed, weakly or strongly; without needless padding.

    All are moved by up to one step of the grid of 128 places of public data. Otherwise rounding and the
    last hundredth of the page would mark real layouts, and the features would describe little else. Alignment is left
    to the metric of that name.
    """
    rows = torch.randint(len(pages[0]), (count,), generator=generator)
    labels, boxes, mask = (part[rows] for part in pages)
    most = int(mask.sum(1).max())
    labels, boxes, mask = labels[:, :most], boxes[:, :most], mask[:, :most]
    real = (torch.arange(count) % 2).float()
    strength = LEAST * (MOST / LEAST) ** torch.rand(count, 1, 1, generator=generator)
    noise = torch.randn(boxes.shape, generator=generator) * strength * (1 - real)[:, None, None]
    noise = noise + (2 * torch.rand(boxes.shape, generator=generator) - 1) / BINS
    return labels, (boxes + noise).clamp(0, 1) * mask[..., None], mask, real


if __name__ == "__main__":
    yaml_files.check_yaml_in_parser()
    script(train, __doc__)
