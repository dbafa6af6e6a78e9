"""The molecule domain: a `graft.GraftModule` of molecules in 3-D."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch_geometric.utils import to_dense_batch
from torchmetrics import Metric
from typing_extensions import override

from domains.molecules import bond_loss, chemistry, metrics, scored_files
from domains.molecules import fragment as fragments
from domains.molecules.backbone import EGNN
from domains.molecules.builder import build
from domains.molecules.conformers import relax_conformer
from domains.molecules.data import MoleculeData
from domains.molecules.default_process import default_process
from domains.molecules.features import molecule_features
from domains.molecules.files import render_grid, write_molecules
from domains.molecules.size_distribution import size_probabilities
from domains.molecules.view import view
from domains.molecules.vocabulary import Convention, find_vocabulary
from graft import GraftError, GraftModule
from graft.core.datatypes import ScoredSet, TrainingBatch
from graft.core.distributed import rank_zero_print
from graft.core.state import Condition, State
from graft.dataloaders.in_memory import pretraining_data
from graft.domain.training_set import KeySet
from graft.process import (
    Categorical,
    Gaussian,
    MultiFieldProcess,
    Process,
)
from graft.runs.architecture import require_network


def _by_logits(types: "Gaussian | Categorical") -> bool:
    return not isinstance(types, Gaussian) or types.prediction_type == "logits"


class Molecules(GraftModule):
    """Small molecules in 3-D: positions in Å with zero centre of mass, and atom types.

    Types are a (scaled) one-hot.

    The state is {"x": (B, N, 3), "h": (B, N, types)}. The condition is {"mask": (B, N)}: its number of atoms is drawn
    from the training data's histogram. Objects are `rdkit.Chem.Mol` with one conformer, whose bonds and stereochemistry
    come from the positions (`builder.build`).

    Networks that are equivariant to reflections, as those of `domains.molecules.backbone`, give a molecule and its
    mirror image the same probability: no reward makes them prefer one enantiomer.

    Args:
        backbone: Network, as in `graft.GraftModule`.
        process: Process; ``null`` without weights: `default_process`.
        convention: ``heavy``: a node is a heavy atom of C, N, O or F, typed by element and number of hydrogens;
            ``drug_like``: also B, P, S, Cl, Br and I, typed by formal charge, too; ``explicit``: hydrogens are nodes,
            the convention of EDM; or a list of types of heavy atoms, such as ``[C, CH, CH2, CH3, O, OH, N+, O-]``.
        max_atoms: Largest number of nodes of the default process.
        sizes: Number of atoms (nodes) of a sample: a number, or a share for each number, as ``{7: 1, 8: 3}``; ``qm9``
            for EDM's histogram; ``null`` for the training data's.
        fragment: SDF or XYZ file of a fragment: its heavy atoms have their elements and positions in every sample, and
            the rest, including hydrogens, is generated around it.
        resample: With a fragment: number of times that each sampler step is taken (`graft.sampler.run_stages`); more
            make the two parts fit better and take more denoiser calls.
        stereo_keys: Take stereoisomers as different molecules in keys, and thus in duplicates, uniqueness and novelty.
        **kwargs: Arguments of `graft.GraftModule`.
    """

    file_suffix = ".sdf"
    file_suffixes = (".sdf", ".xyz", ".smi", ".csv")
    default_process = staticmethod(default_process)

    def __init__(
        self,
        backbone: "nn.Module | None" = None,
        process: "Process | None" = None,
        *args: Any,
        convention: Convention = "heavy",
        max_atoms: "int | None" = None,
        sizes: 'int | dict[int, float] | Literal["qm9"] | None' = None,
        fragment: "str | None" = None,
        resample: int = 4,
        stereo_keys: bool = False,
        **kwargs: Any,
    ) -> None:
        weights = args[0] if args else kwargs.get("weights")
        backbone, process = require_network(backbone, process, weights, lambda: default_process(convention, max_atoms))
        super().__init__(backbone, process, *args, **kwargs)
        self.convention, self.stereo_keys = convention, stereo_keys
        self.vocabulary = find_vocabulary(convention)
        fields = self.policy.process.fields if isinstance(self.policy.process, MultiFieldProcess) else {}
        x, h = fields.get("x"), fields.get("h")
        if (
            not isinstance(x, Gaussian)
            or not isinstance(h, Gaussian | Categorical)
            or h.shape != (x.shape[0], len(self.vocabulary))
        ):
            raise GraftError(
                "molecules need a MultiFieldProcess of two fields, x, Gaussian, of shape [N, 3] and h of shape "
                f"[N, {len(self.vocabulary)}] ({self.vocabulary.name} atoms: {', '.join(self.vocabulary.names)})"
            )
        self.atoms, self.scale, self.sizes = x.shape[0], h.one_hot_scale, sizes
        self.fragment = fragments.read_fragment(fragment, self.vocabulary) if fragment is not None else None
        self.has_fixed_part, self.num_resamples = fragment is not None, resample if fragment is not None else 1
        if resample < 1 or (self.has_fixed_part and (x.prediction_type != "x0" or not _by_logits(h))):
            raise GraftError(
                "model.fragment needs process fields that predict x0 and logits, and model.resample of at least 1"
            )
        if sizes is not None:
            self._shares()  # raises GraftError before anything is sampled

    @override
    def setup(self, stage: str) -> None:
        """Take the histogram of atom counts and the keys from the data in pre-training."""
        data = pretraining_data(self, MoleculeData, stage)
        if data is not None:
            counts = torch.zeros(self.atoms + 1, dtype=torch.long)
            for count, number in data.histogram().items():
                if count > self.atoms:
                    raise GraftError(
                        f"the data has molecules of {count} atoms, the process a state of {self.atoms}: leave larger "
                        f"ones out with --data.max_atoms {self.atoms}, or give the process's fields a larger shape"
                    )
                counts[count] = number
            self.dataset_statistics = {"histogram": counts, "keys": KeySet.of(data.keys(self.stereo_keys)).hashes}

    @override
    def sample_conditions(self, count: int, generator: Generator) -> Condition:
        """Return {"mask": (count, N)} of numbers of atoms drawn by `sizes`, and the fragment."""
        drawn = torch.multinomial(self._shares(), count, replacement=True, generator=generator)
        mask = (torch.arange(self.atoms) < drawn[:, None]).float()
        return {
            "mask": mask,
            **(fragments.fragment_condition(self.fragment, self.atoms, count) if self.fragment else {}),
        }

    def _shares(self) -> Tensor:
        """Return (atoms + 1,) shares of each number of atoms.

        With a fragment a sample has at least one more atom than the fragment.
        """
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
    @override
    def cache_key_extras(self) -> Any:
        """Return the numbers of atoms and the fragment, as far as they are given."""
        extras: dict[str, Any] = {} if self.sizes is None else {"sizes": self.sizes}
        if self.fragment is not None:
            extras |= {"fragment": self.fragment.identity(), "resample": self.num_resamples}
        return extras or None

    @override
    def apply_constraint(self, output: State, condition: Condition) -> State:
        """Return the output with the fragment in place of the estimate of its nodes."""
        assert isinstance(output, dict)
        return fragments.constrain(output, condition) if "kept" in condition else output

    @override
    def group(self, condition: Condition) -> Tensor:
        """Return (B,) number of atoms."""
        return condition["mask"].sum(1).long()

    @override
    def encode(self, batch: Any) -> tuple[State, Condition]:
        """Return state and mask of a torch_geometric batch: ``pos`` (V, 3) Å, ``type`` (V,)."""
        x, mask = to_dense_batch(batch.pos, batch.batch, max_num_nodes=self.atoms)
        types, _ = to_dense_batch(batch.type, batch.batch, max_num_nodes=self.atoms)
        h = self.scale * torch.nn.functional.one_hot(types, len(self.vocabulary)).to(x.dtype)
        return {"x": x, "h": h * mask[..., None]}, {"mask": mask.to(x.dtype)}

    @override
    def auxiliary_loss(self, batch: TrainingBatch, level: Tensor) -> "Tensor | None":
        """Return (B,) weighted cross-entropy of bonds, None without a head for bonds."""
        net, state, mask = self.policy.backbone, batch.state, batch.condition["mask"]
        if not isinstance(net, EGNN) or net.bonds is None or batch.from_level > 0 or not net.bond_logits:
            return None
        assert isinstance(state, dict)
        found = bond_loss.cross_entropy(net.bond_logits.pop(), state["x"], state["h"], mask, self.vocabulary)
        return net.share * found * self.policy.process.log_snr(level).exp().clamp(0.2, 10).to(found)

    @override
    def decode(self, state: State, condition: Condition) -> list[Any]:
        """Return RDKit molecules with the bonds of the positions (`builder.build`)."""
        assert isinstance(state, dict)
        counts = condition["mask"].sum(1).long()
        types, x = state["h"].argmax(-1).cpu(), state["x"].double().cpu()
        if "kept" in condition and self.fragment is not None:
            x = fragments.align_to_fragment(x, self.fragment)
        return build(types.numpy(), x.numpy(), counts.cpu().numpy(), self.vocabulary)

    @override
    def key(self, item: Any) -> str:
        return chemistry.molecule_key(item, self.stereo_keys)

    @override
    def table_columns(self, items: Sequence[Any]) -> Mapping[str, Sequence[str]]:
        """Return the SMILES of the molecules with stereochemistry."""
        return {"smiles": [chemistry.molecule_key(item, stereo=True) for item in items]}

    @override
    def in_training_set(self, keys: Sequence[str]) -> Tensor:
        return KeySet.from_statistics(self.dataset_statistics).contains(keys)

    @override
    def features(self, items: Sequence[Any]) -> Tensor:
        """Return (n, 265) counts of atom environments and descriptors (`features.py`)."""
        return molecule_features(items)

    @override
    def metrics(self) -> Mapping[str, Metric]:
        """Return validity, stability, uniqueness, novelty and frequencies of atom types."""
        whole: dict[str, Metric] = {"molecule_stability": metrics.MoleculeStability()}
        return {
            **(whole if self.vocabulary.explicit else {"valid_connected": metrics.ValidAndConnected()}),
            "atom_stability": metrics.AtomStability(),
            "validity": metrics.Validity(),
            "uniqueness": metrics.Uniqueness(self.stereo_keys),
            "valid_unique": metrics.ValidAndUnique(self.stereo_keys),
            "atom_types": metrics.AtomTypes(self.convention),
            "novelty": metrics.Novelty(
                self.dataset_statistics.get("keys", torch.zeros(0, dtype=torch.long)), self.stereo_keys
            ),
        }

    @override
    def read_scored(self, path: Path, score: str, **options: Any) -> ScoredSet:
        """Read an SDF file with a property, or a table of SMILES with a column.

        Args:
            path: Path of the file.
            score: Property or column that holds the score.
            **options: Settings of `domains.molecules.scored_files.Options`.
        """
        found = scored_files.read_scored_molecules(
            path, score, self.vocabulary, self.atoms, scored_files.parse_options(options)
        )
        if not len(found.molecules):
            return ScoredSet({}, {}, [], [], found.left_out, 0, found.filtered, found.notes)
        state, condition = self.encode(found.molecules.batch(list(range(len(found.molecules)))))
        keys = list(found.molecules.keys)
        return ScoredSet(
            state, condition, found.values, keys, found.left_out, found.replicates, found.filtered, found.notes
        )

    @override
    def caption(self, item: Any) -> str:
        """Return the number of atoms of a molecule."""
        if self.vocabulary.explicit:
            return f"{item.GetNumAtoms()} atoms"
        return f"{item.GetNumHeavyAtoms()} heavy atoms"

    @override
    def render(self, items: Sequence[Any], legends: "Sequence[str] | None" = None) -> bytes:
        """Return a PNG grid, which marks molecules that are invalid, in pieces or not stable."""
        return render_grid(items, legends=legends)

    @override
    def render_html(self, items: Sequence[Any], legends: "Sequence[str] | None" = None) -> str:
        """Return HTML of balls and sticks that turn (`view.py`)."""
        return view(items, legends)

    @override
    def postprocess(self, items: Sequence[Any]) -> list[Any]:
        """Return copies with conformers relaxed by MMFF94 and hydrogens added."""
        return [relax_conformer(item) for item in items]

    @override
    def write(self, items: Sequence[Any], path: Path, rewards: "Sequence[float] | None" = None) -> None:
        """Write SDF, XYZ, SMILES or CSV; rewards that did not fail are set as the property ``reward``."""
        for mol, reward in zip(items, rewards or (), strict=False):
            if math.isfinite(reward):
                mol.SetDoubleProp("reward", reward)
        write_molecules(items, path)
        invalid = sum(not chemistry.is_valid(mol) for mol in items) if path.suffix.lower() == ".smi" else 0
        if invalid:
            rank_zero_print(f"{invalid} of {len(items)} molecules are not valid and have no line in the file")
