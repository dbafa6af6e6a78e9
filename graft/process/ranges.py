"""The check of a process's settings against their ranges."""

from typing import Any

from graft.errors import GraftError


def require(right: bool, name: str, value: Any, condition: str, action: str = "Change it in the process") -> None:
    """Raise GraftError unless ``right``.

    Args:
        right: True if the value is in its range; a comparison with NaN is False.
        name: Name of the setting.
        value: Value of the setting.
        condition: Condition that the setting must meet, such as "be positive".
        action: Advice to the user, a sentence without its full stop.
    """
    if not right:
        shown = f"{value:g}" if isinstance(value, float) else repr(value)
        raise GraftError(f"`{name}` is {shown}; it must {condition}. {action}")
