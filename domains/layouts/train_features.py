"""Trains the feature network of layouts.

``python -m domains.layouts.train_features --config domains/layouts/reference/features.yaml --source FILE``
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from domains.layouts.data import LayoutData
from domains.layouts.features import Encoder, pad_layouts
from domains.layouts.layout import BINS
from domains.layouts.readers import LayoutSet
from graft import plain_yaml, seeding
from graft.cli.script import script
from graft.errors import GraftError
from graft.finite import require_finite_step

MOST = 0.2  # standard deviation of the strongest disturbance, fraction of the page
LEAST = 0.05  # of the weakest


class RealOrDisturbed(nn.Module):
    """The encoder with the two heads that train it.

    Args:
        encoder: That makes the features.
        elements: The most of a layout.
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

    def forward(self, labels: Tensor, boxes: Tensor, mask: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, right answers to "real or disturbed?"); elements are in the order of `ordered`."""
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


@dataclass
class Result:
    """Of a training: the shares of layouts, real or disturbed, that it tells right."""

    training: float
    held_out: float


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
) -> Result:
    """Train the network to tell layouts from disturbed ones and to rebuild them, and write its encoder.

    Args:
        out: File for the weights, ``.safetensors``.
        source: Of layouts, see `domains.layouts.data.LayoutData`; what it holds out is held out here.
        classes: Names of the classes.
        elements: The most of a layout.
        width: Of the features.
        layers: Of the encoder; the decoder has half as many.
        heads: Of the attention.
        steps: Of the optimizer, AdamW with a cosine.
        batch_size: Layouts of a step, half of them disturbed.
        learning_rate: Highest.
        held_out: Share of layouts that it does not see.
        seed: Of everything.

    Raises:
        GraftError: There are too few steps for a learning rate that rises and falls.
        NotFiniteError: The loss or the gradient of a step is not finite; nothing is written.
    """
    if steps < 4:
        raise GraftError(f"steps is {steps}; it must be at least 4")
    data = LayoutData(source, classes, elements, validation=held_out, seed=seed)
    generator = seeding.make_generator(seed, "features")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = RealOrDisturbed(Encoder(data.names, width, layers, heads), elements)
    seen, kept = sort_elements(data.training), sort_elements(data.held_out)
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps, pct_start=min(0.5, 100 / steps))
    right = 0.0
    for step in range(steps):
        loss, told = network(*_batch(seen, batch_size, generator))
        right += (float(told) - right) / min(step + 1, 200)
        optimizer.zero_grad()
        loss.backward()
        require_finite_step(loss, network.parameters(), step + 1, float(schedule.get_last_lr()[0]))
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        other = [float(network(*_batch(kept, 256, generator))[1]) for _ in range(8)]
    result = Result(right, sum(other) / len(other))
    name = source.replace("\\", "/").rpartition("/")[2]  # of the file, not where it was
    network.encoder.save(out, {"source": name, "seed": seed, "steps": steps, "accuracy": vars(result)})
    return result


def sort_elements(pages: LayoutSet) -> tuple[Tensor, Tensor, Tensor]:
    """(labels, boxes, mask) with the elements from top to bottom, so that a decoder can say which is which."""
    labels, boxes, mask = pad_layouts(pages.layouts(), pages.labels.shape[1])
    order = (boxes[..., 1] + 1e-3 * boxes[..., 0] + 9 * (1 - mask)).argsort(1)
    return labels.gather(1, order), boxes.gather(1, order[..., None].expand_as(boxes)), mask


def _batch(
    pages: tuple[Tensor, Tensor, Tensor], count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Layouts of which every second one is disturbed, weakly or strongly; padding that none needs is left away.

    All are moved by up to a place of the 128 that public data are rounded to: else that and the last hundredth of the
    page would tell the real ones, and the features would be of little else. Lines that meet are Alignment's to judge.
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
    plain_yaml.install()
    script(train, __doc__)
