"""Base of rewards that hand their objects to other programs, as files that the domain writes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from graft.errors import GraftError
from graft.reward.base import BatchReward

if TYPE_CHECKING:
    from graft.domain import Domain


@dataclass(frozen=True)
class ObjectFile:
    """An object as a file.

    Attributes:
        suffix: Suffix of the file's name, with the dot.
        content: Content of the file.
        caption: Condition of the object in words, such as its prompt; "" if there is only one.
    """

    suffix: str
    content: bytes
    caption: str


class FileReward(BatchReward):
    """A reward of objects as files. `bind` gives the domain, which writes them."""

    copies_items = True  # the domain's hooks get copies
    _domain: "Domain | None" = None

    @override
    def bind(self, domain: "Domain", folder: "Path | None" = None) -> None:
        self._domain = domain

    @property
    def domain(self) -> "Domain":
        """The domain of the objects.

        Raises:
            GraftError: The reward was given none.
        """
        if self._domain is None:
            raise GraftError(
                f"the reward {self.name} has no domain that writes its objects. Use it as data.reward of a run, or "
                "call its bind(model) first; a DistributedReward cannot send it to other processes"
            )
        return self._domain

    def file_of(self, item: Any) -> ObjectFile:
        """Return an object as a file.

        Raises:
            GraftError: The object cannot be written, or there is no domain.
        """
        suffix, content = self.domain.to_file(item)
        return ObjectFile(suffix, content, self.domain.caption(item))

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the domain, which holds the networks."""
        return self.__dict__ | {"_domain": None}
