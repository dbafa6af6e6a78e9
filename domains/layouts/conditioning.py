"""Tasks as conditions: the fixed and the free part of a layout.

A condition holds ``mask`` (B, N), 1 for an element; ``free_box`` (B, N, 4) and ``free_label`` (B, N), 1 for the free
part; ``box`` (B, N, 4) and ``label`` (B, N, classes), the fixed values in the units of the state, 0 elsewhere; and
``rough`` (B,), 1 if disturbed boxes are given for the free boxes. The state is 0 in the fixed part, which has no noise,
no loss and no part in the distribution that is learned.
"""

from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from graft.core.state import Condition
from graft.errors import GraftError

Task = Literal["unconditional", "label", "size", "completion", "refinement"]
TASKS: tuple[Task, ...] = get_args(Task)
REFINEMENT_STD = 0.1  # standard deviation of the boxes to refine, fraction of the page

CENTRE = (0.5, 0.5, 0.42, 0.12)
SPREAD = (0.2, 0.25, 0.2, 0.13)
"""Mean and spread of centre x, centre y, width and height on a document page, which standardise the state."""


def to_state(boxes: Tensor) -> Tensor:
    """Return (..., 4) standardised centres and sizes of boxes (..., 4).

    Boxes are left, top, right, bottom, as fractions of the page.
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    centred = torch.cat([(low + high) / 2, high - low], -1)
    return (centred - centred.new_tensor(CENTRE)) / centred.new_tensor(SPREAD)


def to_boxes(state: Tensor) -> Tensor:
    """Return (..., 4) boxes of standardised centres and sizes: the inverse of `to_state`."""
    centred = state * state.new_tensor(SPREAD) + state.new_tensor(CENTRE)
    middle, half = centred[..., :2], centred[..., 2:] / 2
    return torch.cat([middle - half, middle + half], -1)


def unconditional(mask: Tensor, classes: int) -> Condition:
    """Return the condition of (B, N) elements without a fixed part."""
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
    """Return the condition of a task for some layouts.

    Args:
        task: ``unconditional``: the number of elements is fixed; ``label``: classes too; ``size``: classes and sizes;
            ``completion``: some of the elements, at least one and not all; ``refinement``: classes, and boxes disturbed
            by noise of standard deviation `REFINEMENT_STD`.
        boxes: (B, N, 4) boxes in the units of the state.
        labels: (B, N) int64.
        mask: (B, N) 1 where an element is.
        classes: Number of classes.
        generator: Generator of the fixed elements and of the disturbance.

    Raises:
        GraftError: There is no such task.
    """
    if task not in TASKS:
        raise GraftError(f"{task!r} is no task of layouts: give one of {', '.join(TASKS)}")
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
    """Return (boxes (B, N, 4), classes (B, N, classes)) of a state with the fixed part put in."""
    free = condition["free_box"]
    boxes = torch.where(free > 0, box, condition["box"])
    return boxes, torch.where(condition["free_label"][..., None] > 0, label, condition["label"])
