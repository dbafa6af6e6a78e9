"""Solving x = g(x) for a batch: what it takes to undo one step of a deterministic sampler."""

from collections.abc import Callable

import torch
from torch import Tensor

from graft.errors import GraftError
from graft.state import State


class InversionError(GraftError):
    """A step that cannot be inverted, or whose inverse was not found."""


def fixed_point(
    function: Callable[[State], State],
    start: State,
    what: str,
    tolerance: "float | None" = None,
    iterations: int = 200,
    memory: int = 5,
) -> State:
    """X = function(x) for each sample by Anderson acceleration (Walker & Ni 2011, algorithm AA).

    Args:
        function: A map of states that treats the samples of a batch independently.
        start: First guess, (B, ...).
        what: Named in the error.
        tolerance: Largest |function(x) − x| over |x| + 1 that counts as solved; 100 rounding units if None.
        iterations: At most so many calls of ``function``.
        memory: Number of former residuals that the next guess is mixed from.

    Raises:
        InversionError: Some sample did not reach the tolerance.
    """
    x, layout = _pack(start)
    tolerance = 100 * torch.finfo(x.dtype).eps if tolerance is None else tolerance
    guesses: list[Tensor] = []
    residuals: list[Tensor] = []
    best, best_residual, best_error = x, torch.zeros_like(x), x.new_full((len(x),), torch.inf)
    for _ in range(iterations):
        residual = _pack(function(_unpack(x, layout)))[0] - x
        error = residual.abs().amax(1) / (x.abs().amax(1) + 1)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best = torch.where(better[:, None], x, best)
        best_residual = torch.where(better[:, None], residual, best_residual)
        if bool((best_error <= tolerance).all()):
            return _unpack(best + best_residual, layout)
        # a sample whose guess led to NaN or out of range has its best guess in its place
        broken = ~torch.isfinite(4 * residual.square().sum(1, keepdim=True))
        x, residual = torch.where(broken, best, x), torch.where(broken, best_residual, residual)
        guesses, residuals = [*guesses, x][-memory:], [*residuals, residual][-memory:]
        x = x + residual if len(guesses) == 1 else _mix(guesses, residuals)
        x = torch.where(torch.isfinite(x), x, best + best_residual)
    missed = int((best_error > tolerance).sum())
    raise InversionError(
        f"{what} could not be inverted for {missed} of {len(x)} samples (worst residual {float(best_error.max()):.1e} "
        f"after {iterations} iterations): take more steps, so that each is smaller"
    )


def _mix(guesses: list[Tensor], residuals: list[Tensor]) -> Tensor:
    """The mixture of the former guesses whose linearised residual is least, moved on by that residual."""
    d_residual = torch.stack([r - residuals[-1] for r in residuals[:-1]], -1)  # (B, D, m)
    d_guess = torch.stack([g - guesses[-1] for g in guesses[:-1]], -1)
    gram = d_residual.mT @ d_residual
    ridge = 1e-10 * gram.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None] + torch.finfo(gram.dtype).tiny
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.lstsq(gram + ridge * eye, -(d_residual.mT @ residuals[-1][..., None])).solution
    mixed: Tensor = guesses[-1] + residuals[-1] + ((d_guess + d_residual) @ weights)[..., 0]
    return mixed


def _pack(state: State) -> "tuple[Tensor, State]":
    fields = [state] if isinstance(state, Tensor) else list(state.values())
    return torch.cat([f.flatten(1) for f in fields], 1), state


def _unpack(x: Tensor, layout: State) -> State:
    if isinstance(layout, Tensor):
        return x.reshape(layout.shape)
    parts = torch.split(x, [f[0].numel() for f in layout.values()], 1)
    return {name: part.reshape(f.shape) for (name, f), part in zip(layout.items(), parts, strict=True)}
