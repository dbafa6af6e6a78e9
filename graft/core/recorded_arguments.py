"""Record constructor arguments, so that a configuration can be written from an object."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


class Described:
    """A base class that records constructor arguments for `graft.runs.object_settings`."""

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> "Self":
        """Record the arguments."""
        self = super().__new__(cls)
        self.__dict__["_arguments"] = args, kwargs
        return self
