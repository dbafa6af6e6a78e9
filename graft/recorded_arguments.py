"""Objects that remember what they were made with, so that a configuration can be written of them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


class Described:
    """A base class that notes the arguments of the constructor; see `graft.runs.config_of_objects`."""

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> "Self":
        """Note the arguments."""
        self = super().__new__(cls)
        self.__dict__["_arguments"] = args, kwargs
        return self
