"""Trials: the checks of a domain's hooks, and their results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graft.core.state import Condition
from graft.domain import hooks
from graft.errors import GraftError
from graft.module import GraftModule

COUNT = 3
"""Number of samples: one more than two, so that a shape of a pair of objects is no shape of the batch."""
WITHOUT = {  # hooks without which graft does less
    "key": "no de-duplication, memory or novelty",
    "in_training_set": "no novelty",
    "features": "no similarity filter, diversity or distance of features",
    "encode": "no training on data",
    "read_scored": "no scored files",
    "render": "no pictures",
}


@dataclass(frozen=True)
class Trial:
    """The result of one check.

    Attributes:
        name: Name of the hook or part.
        fault: Sentence about the fault; "" without one.
        note: Shapes, values or the reason why the check was left out.
    """

    name: str
    fault: str = ""
    note: str = ""

    def __str__(self) -> str:
        return f"{self.name:<18} {'FAULT' if self.fault else 'ok':<6} {self.fault or self.note}".rstrip()


class Trials:
    """Checks of one domain, tried one after the other.

    Args:
        module: The model.
        results: Results so far, to which those of these checks are added.
    """

    def __init__(self, module: GraftModule, results: list[Trial]) -> None:
        self.module, self.kind, self.results = module, type(module).__qualname__, results

    def attempt(self, name: str, trial: Callable[[], "str | None"], hook: str = "") -> bool:
        """Run a trial, keep its result, and return True if there is no fault.

        Args:
            name: Name of the result.
            trial: Returns a note, or raises an error.
            hook: Hook without which the trial is left out.
        """
        if hook and not self.module.supports(hook):
            without = f" ({WITHOUT[hook]})" if hook in WITHOUT else ""
            self.results.append(Trial(name, note=f"not implemented{without}"))
            return True
        try:
            with hooks.named(f"{self.kind}.{hook or name}"):
                note = trial()
        except GraftError as error:
            self.results.append(Trial(name, fault=" ".join(str(error).split())))
            return False
        self.results.append(Trial(name, note=note or ""))
        return True


def on_device(value: Any, device: torch.device) -> Any:
    """Return a condition or a state with its tensors on a device."""
    if isinstance(value, dict):
        return {name: on_device(each, device) for name, each in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value


def fields_by_name(value: Any) -> dict[str, Any]:
    """Return the tensors of a state by name; a single tensor has the name ""."""
    return value if isinstance(value, dict) else {"": value}


def equal_conditions(first: Condition, second: Condition) -> bool:
    """Return True if two conditions have the same values."""
    return all(
        torch.equal(value, second[name]) if isinstance(value, Tensor) else value == second[name]
        for name, value in first.items()
    )


def describe_shapes(state: Any) -> str:
    """Return the shapes of a state or a condition in words."""
    if isinstance(state, Tensor):
        return str(tuple(state.shape))
    return ", ".join(f"{name} {describe(value)}" for name, value in state.items())


def describe(value: Any) -> str:
    """Return the shape of a tensor, or the type of another value."""
    return f"{tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def of_field(name: str) -> str:
    """Return the end of a message about a field of a state."""
    return f" of {name}" if name else ""


def faults(trials: Sequence[Trial]) -> list[str]:
    """Return the sentences of the faults."""
    return [each.fault for each in trials if each.fault]
