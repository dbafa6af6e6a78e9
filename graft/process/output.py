"""The check of a network's output against the shape of the state."""

from typing import Any

from torch import Tensor

from graft.core.state import State
from graft.errors import GraftError


def check_output(output: Any, state: State) -> State:
    """Return the network's ``output``; raise GraftError if its shape is not the state's.

    An output of another shape would be broadcast without an error.

    Args:
        output: Output of the network.
        state: Input of the network: a tensor (B, ...), or a dict of tensors. A dict of outputs may have further fields;
            they are not checked.

    Raises:
        GraftError: The output is not a tensor (a dict of tensors) of floating-point numbers, or a shape is not the
            state's.
    """
    if isinstance(state, Tensor):
        _check(output, state, "the network's output")
    else:
        if not isinstance(output, dict):
            raise GraftError(
                f"the network's output is {_kind(output)}; it must be a dict of the state's fields, {_names(state)}. "
                "Return one tensor for each of them"
            )
        missing = [name for name in state if name not in output]
        if missing:
            raise GraftError(
                f"the network's output has the fields {_names(output) or '(none)'}; it must have those of the state, "
                f"{_names(state)}. Return a tensor for {', '.join(missing)}, too"
            )
        for name, field in state.items():
            _check(output[name], field, f"the network's output for the field {name!r}")
    found: State = output
    return found


def _check(output: Any, field: Tensor, what: str) -> None:
    if not isinstance(output, Tensor) or not output.is_floating_point():
        raise GraftError(
            f"{what} is {_kind(output)}; it must be a tensor of floating-point numbers of shape {_shape(field)}, the "
            "state's. Return such a tensor"
        )
    if output.shape != field.shape:
        raise GraftError(
            f"{what} has shape {_shape(output)}; it must have shape {_shape(field)}, the state's (the batch first). "
            "Return one number for each number of the state"
        )


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')} numbers"
    return "None" if value is None else f"an object of type {type(value).__name__}"


def _names(fields: "dict[str, Any]") -> str:
    return ", ".join(map(str, fields))


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
