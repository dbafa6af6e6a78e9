"""A transformer of sets, equivariant to permutations: it has no positional encoding.

Boxes enter the attention in two ways. The differences of the six lines of two boxes (left, centre, right; top, middle,
bottom) bias it, and each element also receives the mean distances of those lines to the elements that it attends to, in
units of the noise. So a small network can align boxes exactly.
"""

import math

import torch
from torch import Tensor, nn
from typing_extensions import override

from domains.layouts.conditioning import merge_given, to_boxes
from graft.core.state import Condition, State
from graft.process.schedules import CosineSchedule, Schedule

SCALES = (0.01, 0.04, 0.16)  # scales of differences of lines, fractions of the page
FREQUENCIES = 5  # frequencies of a line's place: half a period a page and its octaves
APART = 10  # distances of two boxes: six of their lines, four of facing edges
CLOCK = 32  # features of the time
CLOSEST = 0.004  # fraction of the page, half a step of the grid of 128 places
GROUPS, SMALLEST = 4, 8  # number of groups of layouts of similar sizes in a batch, and layouts in a group


class Block(nn.Module):
    """Attention with biases, and a feed-forward layer, both modulated by the time.

    Args:
        width: Features of an element.
        heads: Number of attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.time = nn.Linear(CLOCK, 4 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width + APART * heads, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU("tanh"), nn.Linear(2 * width, width))
        nn.init.zeros_(self.time.weight)
        nn.init.zeros_(self.time.bias)

    @override
    def forward(self, x: Tensor, clock: Tensor, bias: Tensor, away: Tensor) -> Tensor:
        """Return (B, N, width) elements after the block.

        Args:
            x: (B, N, width) elements.
            clock: (B, `CLOCK`) features of the time.
            bias: (B, heads, N, N) bias of the attention.
            away: (B, N, N, `APART`) distances.
        """
        batch, count, width = x.shape
        scale, shift, scale_fed, shift_fed = self.time(clock)[:, None].chunk(4, -1)
        projected = self.qkv(self.norms[0](x) * (1 + scale) + shift).view(batch, count, 3, self.heads, -1)
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        weight = (query @ key.transpose(-1, -2) / math.sqrt(width // self.heads) + bias).softmax(-1)
        attended = (weight @ value).transpose(1, 2).reshape(batch, count, width)
        lines = (weight.transpose(1, 2) @ away).reshape(batch, count, -1)
        x = x + self.proj(torch.cat([attended, lines], -1))
        out: Tensor = x + self.mlp(self.norms[1](x) * (1 + scale_fed) + shift_fed)
        return out


class LayoutTransformer(nn.Module):
    """Denoiser of {"box": (B, N, 4), "label": (B, N, classes)}.

    It is called with (state, time (B,), condition of `conditioning`). It returns "box" (B, N, 4) in the prediction type
    of the boxes' process, and "label" (B, N, classes), logits.

    Args:
        classes: Number of classes of elements.
        width: Features of an element.
        layers: Number of attention layers.
        heads: Number of attention heads.
        schedule: Schedule of the process that adds noise to the boxes; `CosineSchedule` if not given.
    """

    thread_safe = True  # `graft.network.row_threads` may call it in several threads

    def __init__(
        self,
        classes: int = 5,
        width: int = 96,
        layers: int = 4,
        heads: int = 4,
        schedule: "Schedule | None" = None,
    ) -> None:
        super().__init__()
        self.classes, self.width, self.heads, self.schedule = classes, width, heads, schedule or CosineSchedule()
        features = 4 + 6 * 2 * FREQUENCIES + classes + 4 + 1 + 4 + 2
        self.embed = nn.Linear(features, width)
        self.clock = nn.Sequential(nn.Linear(CLOCK, CLOCK), nn.SiLU(), nn.Linear(CLOCK, CLOCK), nn.SiLU())
        self.bias = nn.Linear(APART * (len(SCALES) + 1), heads * layers)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, 4 + classes)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @override
    def forward(self, state: State, time: Tensor, condition: Condition) -> State:
        """Return {"box": (B, N, 4), "label": (B, N, classes)}.

        Layouts of similar sizes go through the network together, without the padding that they do not need.
        """
        assert isinstance(state, dict)
        counts = condition["mask"].sum(1)
        order = counts.argsort()
        box = state["box"].new_zeros(state["box"].shape)
        label = box.new_zeros(*box.shape[:2], self.classes)
        for rows in order.chunk(max(1, min(GROUPS, len(order) // SMALLEST))):
            most = max(1, int(counts[rows[-1]]))
            part = {name: field[rows, :most] for name, field in state.items()}
            given = {k: condition[k][rows, :most] for k in ("mask", "free_box", "free_label", "box", "label")}
            out = self.denoise(part, time[rows], {**given, "rough": condition["rough"][rows]})
            box[rows, :most], label[rows, :most] = out[..., :4].to(box), out[..., 4:].to(box)
        return {"box": box, "label": label}

    def denoise(self, state: dict[str, Tensor], time: Tensor, condition: Condition) -> Tensor:
        """Return (B, N, 4 + classes) outputs for a part of a batch."""
        mask = condition["mask"].to(state["box"].dtype)
        rough = condition["rough"][:, None, None]
        box, label = merge_given(state["box"], state["label"], condition)
        corners = to_boxes(box)
        lines, noise = edge_and_center_lines(corners), self.noise(time)[:, None, None, None]
        angle = lines[..., None] * (math.pi * 2.0 ** torch.arange(FREQUENCIES, device=lines.device))
        x = torch.cat(
            [
                box,
                angle.sin().flatten(2),
                angle.cos().flatten(2),
                label,
                condition["free_box"],
                condition["free_label"][..., None],
                condition["box"] * rough,
                rough.expand(*mask.shape, 1),
                (mask.sum(1)[:, None, None] / 10).expand(*mask.shape, 1),
            ],
            -1,
        )
        clock = self.embed_time(time)
        apart = distances(corners, lines)
        away = torch.tanh(apart / (2 * noise + CLOSEST))
        near = [(-0.5 * (apart / scale) ** 2).exp() for scale in SCALES]
        bias = self.bias(torch.cat([*near, torch.tanh(4 * apart)], -1)).permute(0, 3, 1, 2)
        biases = (bias + (mask[:, None, None] - 1) * 1e4).chunk(len(self.blocks), 1)
        x = self.embed(x)
        for block, own in zip(self.blocks, biases, strict=True):
            x = block(x, clock, own, away)
        out: Tensor = self.out(self.norm(x)) * mask[..., None]
        return out

    def noise(self, time: Tensor) -> Tensor:
        """Return (B,) approximate noise of a box's lines, as a fraction of the page; at most 1."""
        alpha, sigma = self.schedule.alpha_sigma(time.double())
        return (0.2 * sigma / alpha.clamp(min=1e-3)).clamp(max=1).to(self.embed.weight.dtype)

    def embed_time(self, time: Tensor) -> Tensor:
        """Return (B, `CLOCK`) features of the process's time in [0, 1]."""
        frequency = torch.exp(torch.linspace(0, math.log(1000.0), CLOCK // 2, device=time.device))
        angle = (time[:, None] * frequency).to(self.embed.weight.dtype)
        out: Tensor = self.clock(torch.cat([angle.sin(), angle.cos()], -1))
        return out


def distances(boxes: Tensor, lines: Tensor) -> Tensor:
    """Return (B, N, N, `APART`) distances from element i to j.

    They are those of the six lines, and the gaps on the four sides.

    Args:
        boxes: (B, N, 4) left, top, right, bottom, fractions of the page.
        lines: (B, N, 6) lines of the boxes.
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    before, after = low[:, None] - high[:, :, None], high[:, None] - low[:, :, None]
    return torch.cat([lines[:, None] - lines[:, :, None], before, after], -1)


def edge_and_center_lines(boxes: Tensor) -> Tensor:
    """Return (..., 6) left, centre, right, top, middle, bottom of boxes (..., 4).

    Boxes are left, top, right, bottom.
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.stack([low, (low + high) / 2, high], -1).flatten(-2)
