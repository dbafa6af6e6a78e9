"""What of a layout is given and not made: the tasks, as conditions.

A condition holds ``mask`` (B, N) the elements that are there; ``free_box`` (B, N, 4) and ``free_label`` (B, N), 1 for
what is to be made; ``box`` (B, N, 4) and ``label`` (B, N, classes), the given values in the units of the state, 0
elsewhere; and ``rough`` (B,), 1 where the boxes to be made are given too, but disturbed. The state is 0 where something
is given: what is not made has no noise, no loss and no part in the law that is shaped.
"""

from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from graft.state import Condition

Task = Literal["unconditional", "label", "size", "completion", "refinement"]
TASKS: tuple[Task, ...] = get_args(Task)
REFINEMENT_STD = 0.1  # standard deviation of the boxes to refine, fraction of the page

CENTRE = (0.5, 0.5, 0.42, 0.12)
SPREAD = (0.2, 0.25, 0.2, 0.13)
"""Of centre x, centre y, width and height on a document page; the state's coordinates are of the order of 1."""


def to_state(boxes: Tensor) -> Tensor:
    """(..., 4) centres and sizes, standardised, of boxes (..., 4) left, top, right, bottom, fractions of the page."""
    low, high = boxes[..., :2], boxes[..., 2:]
    centred = torch.cat([(low + high) / 2, high - low], -1)
    return (centred - centred.new_tensor(CENTRE)) / centred.new_tensor(SPREAD)


def to_boxes(state: Tensor) -> Tensor:
    """The inverse of `to_state`."""
    centred = state * state.new_tensor(SPREAD) + state.new_tensor(CENTRE)
    middle, half = centred[..., :2], centred[..., 2:] / 2
    return torch.cat([middle - half, middle + half], -1)


def unconditional(mask: Tensor, classes: int) -> Condition:
    """The condition of (B, N) elements of which nothing is given."""
    return {
        "mask": mask,
        "free_box": mask[..., None].repeat(1, 1, 4),
        "free_label": mask.clone(),
        "box": mask.new_zeros(*mask.shape, 4),
        "label": mask.new_zeros(*mask.shape, classes),
        "rough": mask.new_zeros(len(mask)),
    }


def make_condition(
    task: Task, boxes: Tensor, labels: Tensor, mask: Tensor, classes: int, generator: "Generator | None" = None
) -> Condition:
    """What ``task`` gives of some layouts.

    Args:
        task: ``unconditional``: the number of elements; ``label``: their classes; ``size``: classes and sizes;
            ``completion``: some of them, at least one and not all; ``refinement``: classes, and boxes disturbed by
            noise of standard deviation `REFINEMENT_STD`.
        boxes: (B, N, 4) as in the state.
        labels: (B, N) int64.
        mask: (B, N).
        classes: How many there are.
        generator: For what is chosen and disturbed.
    """
    condition = unconditional(mask, classes)
    box, label = torch.zeros_like(mask)[..., None].repeat(1, 1, 4), torch.zeros_like(mask)
    if task in ("label", "size", "refinement"):
        label = mask
    if task == "size":
        box = torch.cat([box[..., :2], mask[..., None].repeat(1, 1, 2)], -1)
    if task == "completion":
        order = torch.rand(mask.shape, generator=generator) + (1 - mask)
        kept = (torch.rand(len(mask), 1, generator=generator) * (mask.sum(1, keepdim=True) - 1)).ceil()
        label = (order.argsort(1).argsort(1) < kept).to(mask) * mask
        box = label[..., None].repeat(1, 1, 4)
    condition["free_box"], condition["free_label"] = mask[..., None] - box, mask - label
    onehot = torch.nn.functional.one_hot(labels, classes).to(mask)
    condition["box"], condition["label"] = boxes * box, onehot * label[..., None]
    if task == "refinement":
        noise = torch.randn(boxes.shape, generator=generator) * REFINEMENT_STD / boxes.new_tensor(SPREAD)
        condition["box"] = (boxes + noise) * mask[..., None]
        condition["rough"] = torch.ones_like(condition["rough"])
    return condition


def merge_given(box: Tensor, label: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
    """(boxes (B, N, 4), classes (B, N, classes)) of a state, with what is given in its place."""
    free = condition["free_box"]
    boxes = torch.where(free > 0, box, condition["box"])
    return boxes, torch.where(condition["free_label"][..., None] > 0, label, condition["label"])
