"""The ranges of a process's settings: a value outside is refused in one sentence."""

from typing import Any

from graft.errors import GraftError


def require(right: bool, name: str, value: Any, condition: str, action: str = "Change it in the process") -> None:
    """Raise GraftError unless ``right``.

    Args:
        right: The value is in its range; a comparison with NaN is not.
        name: Of the setting.
        value: That it has.
        condition: What it must do, such as "be positive".
        action: What to do about it, as a sentence without its full stop.

    Raises:
        GraftError: In one sentence that names the setting, its value and its range.
    """
    if not right:
        shown = f"{value:g}" if isinstance(value, float) else repr(value)
        raise GraftError(f"`{name}` is {shown}; it must {condition}. {action}")
