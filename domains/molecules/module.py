"""Molecules: the domain plugged into `graft.GraftModule`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Generator, Tensor
from torch_geometric.utils import to_dense_batch
from torchmetrics import Metric

from domains.molecules import bond_loss, chemistry, metrics, scored_files
from domains.molecules import fragment as fragments
from domains.molecules.backbone import EGNN
from domains.molecules.conformers import relax_conformer
from domains.molecules.data import MoleculeData
from domains.molecules.features import features
from domains.molecules.files import draw, write
from domains.molecules.size_distribution import size_probabilities
from domains.molecules.view import view
from graft import GraftError, GraftModule
from graft.batches import TrainingBatch
from graft.process import Categorical, Gaussian, MultiFieldProcess
from graft.rounds.sources import ScoredSet
from graft.state import Condition, State


def _by_logits(types: "Gaussian | Categorical") -> bool:
    return not isinstance(types, Gaussian) or types.prediction_type == "logits"


class Molecules(GraftModule):
    """Small molecules in 3-D: positions in Å with zero centre of mass, and atom types as a (scaled) one-hot.

    The state is {"x": (B, N, 3), "h": (B, N, types)}; the condition {"mask": (B, N)} says how many atoms there are and
    is drawn from the training data's histogram. Objects are `rdkit.Chem.Mol` with one conformer, bonds by distance.

    Args:
        convention: ``heavy``: a node is a heavy atom typed by element and number of hydrogens; ``explicit``: hydrogens
            are nodes.
        sizes: Atoms (nodes) of a sample: a number, or a share for each number, as ``{7: 1, 8: 3}``; ``qm9``: EDM's
            histogram; ``null``: the training data's.
        fragment: SDF or XYZ file of a fragment whose heavy atoms are kept, elements and places, in every sample; the
            rest, and the hydrogens, are generated around it.
        resample: With a fragment: how often each step is taken, see `graft.sampler.run`; more fits better, and costs.
        **kwargs: See `graft.GraftModule`.
    """

    file_suffix = ".sdf"
    file_suffixes = (".sdf", ".xyz", ".smi", ".csv")

    def __init__(
        self,
        *args: Any,
        convention: Literal["heavy", "explicit"] = "heavy",
        sizes: 'int | dict[int, float] | Literal["qm9"] | None' = None,
        fragment: "str | None" = None,
        resample: int = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.convention = convention
        self.vocabulary = chemistry.VOCABULARIES[convention]
        fields = self.process.fields if isinstance(self.process, MultiFieldProcess) else {}
        x, h = fields.get("x"), fields.get("h")
        if (
            not isinstance(x, Gaussian)
            or not isinstance(h, Gaussian | Categorical)
            or h.shape != (x.shape[0], len(self.vocabulary))
        ):
            raise GraftError(
                "molecules need a MultiFieldProcess of two fields, x, Gaussian, of shape [N, 3] and h of shape "
                f"[N, {len(self.vocabulary)}] ({convention} atoms: {', '.join(self.vocabulary.names)})"
            )
        self.atoms, self.scale, self.sizes = x.shape[0], h.one_hot_scale, sizes
        self.fragment = fragments.read(fragment) if fragment is not None else None
        self.has_fixed_part, self.num_resamples = fragment is not None, resample if fragment is not None else 1
        if resample < 1 or (self.has_fixed_part and (x.prediction_type != "x0" or not _by_logits(h))):
            raise GraftError(
                "a fragment needs a process whose fields predict x0 and logits, and model.resample of at least 1"
            )
        if sizes is not None:
            self._shares()  # refuses at once

    def setup(self, stage: str) -> None:
        """Take the atom counts and the known keys from the data when training on data."""
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and self.reference_file is None and isinstance(data, MoleculeData):
            counts = torch.zeros(self.atoms + 1, dtype=torch.long)
            for count, number in data.histogram().items():
                if count > self.atoms:
                    raise GraftError(
                        f"the data has molecules of {count} atoms, the process a state of {self.atoms}: leave larger "
                        f"ones out with --data.max_atoms {self.atoms}, or give the process's fields a larger shape"
                    )
                counts[count] = number
            self.dataset_statistics = {"histogram": counts, "keys": torch.unique(metrics.key_hashes(data.keys()))}

    def sample_conditions(self, count: int, generator: Generator) -> Condition:
        """Numbers of atoms as `sizes` says, and what is kept of every sample."""
        drawn = torch.multinomial(self._shares(), count, replacement=True, generator=generator)
        mask = (torch.arange(self.atoms) < drawn[:, None]).float()
        return {
            "mask": mask,
            **(fragments.fragment_condition(self.fragment, self.atoms, count) if self.fragment else {}),
        }

    def _shares(self) -> Tensor:
        """(atoms + 1,) shares of samples by their number of atoms; a fragment leaves room for at least one more."""
        found = size_probabilities(self.sizes, self.atoms, self.dataset_statistics.get("histogram"))
        if self.fragment is not None:
            found[: len(self.fragment) + 1] = 0
            if not bool(found.sum() > 0):
                raise GraftError(
                    f"the fragment has {len(self.fragment)} atoms, and no sample has more: give larger model.sizes (at "
                    f"most {self.atoms}) or a smaller fragment"
                )
        return found

    @property
    def cache_key_extras(self) -> Any:
        """See `GraftModule.cache_key_extras`: the numbers of atoms, and the fragment."""
        asked: dict[str, Any] = {} if self.sizes is None else {"sizes": self.sizes}
        if self.fragment is not None:
            asked |= {"fragment": self.fragment.identity(), "resample": self.num_resamples}
        return asked or None

    def apply_constraint(self, output: State, condition: Condition) -> State:
        """The fragment in the place of what the network thinks of the kept nodes; see `fragment.constrain`."""
        assert isinstance(output, dict)
        return fragments.constrain(output, condition, self.vocabulary) if "kept" in condition else output

    def group(self, condition: Condition) -> Tensor:
        """(B,) number of atoms."""
        return condition["mask"].sum(1).long()

    def encode(self, batch: Any) -> tuple[State, Condition]:
        """Dense state of a torch_geometric batch of graphs with ``pos`` (V, 3) Å and ``type`` (V,)."""
        x, mask = to_dense_batch(batch.pos, batch.batch, max_num_nodes=self.atoms)
        types, _ = to_dense_batch(batch.type, batch.batch, max_num_nodes=self.atoms)
        h = self.scale * torch.nn.functional.one_hot(types, len(self.vocabulary)).to(x.dtype)
        return {"x": x, "h": h * mask[..., None]}, {"mask": mask.to(x.dtype)}

    def auxiliary_loss(self, examples: TrainingBatch, level: Tensor) -> "Tensor | None":
        """The cross-entropy of the bonds of data, where the network says them; see `backbone.EGNN`."""
        net, state, mask = self.backbone, examples.state, examples.condition["mask"]
        if not isinstance(net, EGNN) or net.bonds is None or examples.from_level > 0 or not net.bond_logits:
            return None
        assert isinstance(state, dict)
        found = bond_loss.cross_entropy(net.bond_logits.pop(), state["x"], state["h"], mask, self.vocabulary)
        return net.share * found * self.process.log_snr(level).exp().clamp(0.2, 10).to(found)

    def decode(self, state: State, condition: Condition) -> list[Any]:
        """Molecules with bonds by distance; see `chemistry.build`."""
        assert isinstance(state, dict)
        counts = condition["mask"].sum(1).long()
        types, x = state["h"].argmax(-1).cpu(), state["x"].double().cpu()
        if "kept" in condition and self.fragment is not None:
            x = fragments.align_to_fragment(x, self.fragment)
        return chemistry.build(types.numpy(), x.numpy(), counts.cpu().numpy(), self.vocabulary)

    def key(self, item: Any) -> str:
        """Canonical SMILES of the largest fragment."""
        return chemistry.key(item)

    def in_training_set(self, keys: Sequence[str]) -> Tensor:
        """(n,) bool: the training data has the key."""
        if "keys" not in self.dataset_statistics:
            raise GraftError("these weights do not say what they were trained on: novelty needs the data's keys")
        hashes = torch.tensor([metrics.key_hash(key) for key in keys], dtype=torch.long)
        return torch.isin(hashes, self.dataset_statistics["keys"]) & torch.tensor(
            [key != "" for key in keys], dtype=torch.bool
        )

    def features(self, items: Sequence[Any]) -> Tensor:
        """Counts of atom environments and a few descriptors; see `features.py`."""
        return features(items)

    def metrics(self) -> Mapping[str, Metric]:
        """Stability, validity, uniqueness, novelty against the training data's keys, frequencies of atom types."""
        return {
            "molecule_stability": metrics.MoleculeStability(),
            "atom_stability": metrics.AtomStability(),
            "validity": metrics.Validity(),
            "uniqueness": metrics.Uniqueness(),
            "valid_unique": metrics.ValidAndUnique(),
            "atom_types": metrics.AtomTypes(self.convention),
            "novelty": metrics.Novelty(self.dataset_statistics.get("keys", torch.zeros(0, dtype=torch.long))),
        }

    def read_scored(self, path: Path, score: str) -> ScoredSet:
        """Molecules of an SDF file with a property, or of a CSV table of SMILES with a column; see `scored.read`."""
        molecules, values, left_out, replicates = scored_files.read(path, score, self.vocabulary, self.atoms)
        if not len(molecules):
            return ScoredSet({}, {}, [], [], left_out)
        state, condition = self.encode(molecules.batch(list(range(len(molecules)))))
        return ScoredSet(state, condition, values, list(molecules.keys), left_out, replicates)

    def render(self, items: Sequence[Any], legends: "Sequence[str] | None" = None) -> bytes:
        """Drawings in a grid; what is not valid, in pieces or not stable is marked."""
        return draw(items, legends=legends)

    def render_html(self, items: Sequence[Any], legends: "Sequence[str] | None" = None) -> str:
        """Balls and sticks that turn; see `view.py`."""
        return view(items, legends)

    def postprocess(self, items: Sequence[Any]) -> list[Any]:
        """Conformers relaxed by MMFF94, hydrogens placed; see `conformers.relaxed`."""
        return [relax_conformer(item) for item in items]

    def write(self, items: Sequence[Any], path: Path, rewards: "Sequence[float] | None" = None) -> None:
        """SDF, XYZ, SMILES or CSV."""
        for mol, reward in zip(items, rewards or (), strict=False):
            mol.SetDoubleProp("reward", reward)
        write(items, path)
