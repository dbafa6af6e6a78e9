"""RoundSampler: sample the chunks of a round that are not on disk."""

from lightning.pytorch import Trainer

from graft.core import distributed
from graft.core.datatypes import Chunk, Weights
from graft.dataloaders.sampling import SampleRequests, sample_batch
from graft.domain import Domain
from graft.policy import Policy
from graft.rounds.ranks import Ranks
from graft.rounds.round_store import RoundStore
from graft.rounds.settings import RoundSettings
from graft.sampler import nearest_level


class RoundSampler:
    """Samples rounds in chunks, so that the samples do not depend on the number of ranks.

    Args:
        domain: The domain that samples the conditions.
        policy: The policy that samples the states.
        settings: The settings of the rounds.
        trainer: The trainer of the run.
    """

    def __init__(self, domain: Domain, policy: Policy, settings: RoundSettings, trainer: Trainer) -> None:
        self.domain, self.policy, self.settings, self.trainer = domain, policy, settings, trainer

    @property
    def weights(self) -> Weights:
        """Return the name of the weights that sample."""
        return "current" if self.settings.source.name == "current" else "reference"

    def sample(self, store: RoundStore, number: int, needed: tuple[float, ...]) -> None:
        """Write each chunk of a round that is not on disk yet.

        Args:
            store: The store of the round.
            number: Number of the round.
            needed: Levels at which the objective needs states.

        Raises:
            GraftError: A chunk on disk was sampled by another model.
        """
        settings, sizes = self.settings, self.settings.chunk_sizes
        ranks = Ranks(self.trainer, sizes)
        also = {nearest_level(level, self.policy.steps) for level in settings.record_levels} - {0.0}
        levels = tuple(sorted({*needed, *also}))
        key = ("rollout", number)
        requests = SampleRequests(
            self.domain, settings.draws, settings.batch_size, key, self.weights, levels, settings.samples_per_prefix
        )
        for index in range(ranks.rank, len(sizes), ranks.world_size):
            self._find(store, number, index, needed)
        ranks.barrier()
        missing = [index for index in range(len(sizes)) if not store.has_chunk(index)]
        # also a barrier: no rank writes before all ranks have checked the disk
        distributed.assert_same(self.trainer, "the chunks to sample", missing)
        with ranks.progress(number, "sampling") as bar:
            bar.update(ranks.total - sum(sizes[index] for index in missing))
            for index, mine in distributed.round_robin(self.trainer, missing):
                ranks.stop_after_signal()
                request = requests[index]
                with distributed.shared_errors(self.trainer):
                    drawn = sample_batch(self.trainer, request, index)
                if mine:
                    store.write_chunk(index, Chunk(drawn.state, drawn.states, request.condition))
                bar.update(min(sizes[index] * ranks.world_size, ranks.total - bar.n))

    def _find(self, store: RoundStore, number: int, index: int, needed: tuple[float, ...]) -> None:
        """Write a chunk from a scored file or from an earlier run, if there is one."""
        settings = self.settings
        if store.has_chunk(index):
            store.read_chunk(index)  # raises if another model sampled it
        elif (ready := settings.source.preloaded(settings.chunk_slice(index))) is not None:
            store.write_chunk(index, ready[0])
        elif settings.cache is not None and (settings.source.name == "reference" or number == 0):
            # an earlier run cannot hold samples of the current model of a later round
            store.link_cached(index, settings.cache, needed)
