"""A reward in front of another one."""

from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from graft.io.fingerprint import fingerprint
from graft.reward.base import BatchReward, Reward


class WrappedReward(Reward):
    """A reward that is computed from another reward, which is called and counted in its place.

    Attributes:
        reward: The inner reward, which gets copies of the objects.
    """

    copies_items = True
    reward: Reward

    @property
    @override
    def parts(self) -> Sequence[Reward]:
        return (self.reward,)

    @override
    def setup(self) -> None:
        self.reward.setup()

    @override
    def teardown(self) -> None:
        self.reward.teardown()


class SameScores(WrappedReward, BatchReward):
    """A reward that gives the scores of its inner reward, from a cache or from other processes.

    Args:
        reward: The inner reward, whose name, unit and direction it takes.
    """

    def __init__(self, reward: Reward) -> None:
        self.reward = reward
        self.name, self.unit, self.higher_is_better = reward.name, reward.unit, reward.higher_is_better

    @property
    @override
    def worst_value(self) -> "float | None":
        return self.reward.worst_value

    @override
    def identity(self) -> Any:
        """Return the description of the inner reward, since the scores are the same."""
        return fingerprint(self.reward)
