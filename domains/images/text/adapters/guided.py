"""How a pipeline joins the branches of its denoiser: found from recorded outputs, and applied to others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graft.errors import GraftError


@dataclass(frozen=True)
class Guided:
    """The output of a step from the outputs of its branches.

    Attributes:
        sign: 1, or −1 for pipelines that negate the output.
        scale: Guidance scale; None with a single branch.
        conditional: Index of the branch with the prompt.
        normalised: The guided output has the norm of the branch with the prompt, along the last dimension.
    """

    sign: float
    scale: "float | None" = None
    conditional: int = 0
    normalised: bool = False

    @property
    def unconditional(self) -> int:
        """Return the index of the branch without the prompt."""
        return 1 - self.conditional

    def mix(self, branches: Sequence[Tensor]) -> Tensor:
        """Return the output of a step, (B, ...), of the outputs of its branches."""
        if self.scale is None:
            return self.sign * branches[0]
        given, without = branches[self.conditional], branches[self.unconditional]
        mixed = without + self.scale * (given - without)
        if self.normalised:
            mixed = mixed * (given.norm(dim=-1, keepdim=True) / mixed.norm(dim=-1, keepdim=True))
        return self.sign * mixed


def branches_of(output: Any, copies: int, shape: tuple[int, ...]) -> list[Tensor]:
    """Return the outputs of the branches of a call, (B, *shape) each.

    A network that predicts a variance too has more channels than the latents, and they come last.

    Raises:
        GraftError: The output does not have the latents' shape.
    """
    batch = torch.stack(list(output)) if isinstance(output, list | tuple) else output
    found = []
    for each in batch.chunk(copies):
        if each[0].numel() == torch.Size(shape).numel():
            found.append(each.reshape(len(each), *shape))
        elif each.ndim == len(shape) + 1 and each.shape[2:] == shape[1:] and each.shape[1] > shape[0]:
            found.append(each[:, : shape[0]])
        else:
            raise GraftError(f"its denoiser gives {tuple(each.shape[1:])} for latents of {tuple(shape)}")
    return found


def find(steps: "Sequence[tuple[list[Tensor], Tensor]]", scale: float, rounding: float) -> Guided:
    """Return the rule that explains the outputs of all steps.

    Args:
        steps: Outputs of the branches and output of the step, for each step.
        scale: Guidance scale of the settings.
        rounding: Difference that rounding explains, as a share of the output's norm.

    Raises:
        GraftError: No rule explains them.
    """
    count = len(steps[0][0])
    if any(len(branches) != count for branches, _ in steps):
        raise GraftError("the number of branches of its guidance changes from step to step")
    if count > 2:
        raise GraftError(f"it joins {count} branches of its denoiser, and guidance has two")
    candidates = [Guided(sign) for sign in (1.0, -1.0)]
    if count == 2:
        if all(torch.equal(branches[0], branches[1]) for branches, _ in steps):
            raise GraftError("its denoiser gives the same with and without the prompt, so its guidance cannot be seen")
        candidates = []
        for sign in (1.0, -1.0):
            for conditional in (0, 1):
                if (fitted := _fitted(steps[0], sign, conditional)) is not None:
                    candidates.append(Guided(sign, fitted, conditional))
                candidates.append(Guided(sign, scale, conditional, True))
    for each in candidates:
        if all(_error(each.mix([b.double() for b in branches]), out) <= rounding for branches, out in steps):
            return each
    if count == 1:
        raise GraftError("its denoiser's output is changed before the step")
    raise GraftError("its guidance is not a weighted sum of the branches with and without the prompt")


def _fitted(step: "tuple[list[Tensor], Tensor]", sign: float, conditional: int) -> "float | None":
    """Return the guidance scale that fits a step best; None if it is below 1 or the branches are equal."""
    branches, out = step
    given, without = branches[conditional].double(), branches[1 - conditional].double()
    apart = given - without
    size = float((apart * apart).sum())
    if size == 0:
        return None
    found = float(((sign * out.double() - without) * apart).sum()) / size
    nearest = round(found, 4)
    found = nearest if abs(found - nearest) <= 1e-3 * abs(found) else found
    return found if found >= 1 else None


def _error(found: Tensor, expected: Tensor) -> float:
    expected = expected.double()
    return float((found - expected).norm()) / max(float(expected.norm()), 1e-30)
