"""A reward in front of another one."""

from collections.abc import Sequence

from typing_extensions import override

from graft.reward.base import Reward


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
