"""Docking by AutoDock Vina."""

import importlib.util
import math
import re
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from domains.molecules.chemistry import molecule_key
from domains.molecules.rewards.calls import CommandReward, find_program
from domains.molecules.rewards.docked_poses import Docking, first_pose, keep_best, text_of
from domains.molecules.rewards.pdbqt import heavy_atoms, ligand_positions, positions_of, prepare_ligand, read_docking
from domains.molecules.view import surround
from graft.core import limits
from graft.errors import GraftError
from graft.io.checksum import checksum, file_checksum
from graft.io.fingerprint import fingerprint_hash, public_attributes
from graft.io.paths import find_file
from graft.reward import ScoredForm, Scores, score_each

CUTOFF = 8.0
"""Distance in Å beyond which two atoms do not interact in Vina's scoring function."""

POCKET = 5.0
"""Distance in Å from a pose within which atoms of the receptor are shown around it."""

_LIGAND_FILES = ("pdbqt", "pdb", "sdf", "mol")
_INSTALL = "Install the system package autodock-vina, or give the path of Vina 1.2 or later."


class Vina(CommandReward):
    """Affinity of the best pose that AutoDock Vina finds, in kcal/mol.

    Smaller is better.

    The molecule gets its missing hydrogens and is relaxed by MMFF94; Vina keeps its bond lengths, angles and rings, and
    searches its place and torsions. meeko writes it for Vina. Protonation states and tautomers are those of the
    molecule: nothing is changed for a pH. A molecule that fits nowhere, so that its best affinity is not below 0,
    counts as failed, as do molecules in several pieces and elements that Vina does not know, such as boron.

    Args:
        receptor: Prepared receptor, a ``.pdbqt`` file.
        center: Centre (x, y, z) of the box in Å.
        size: Edges of the box in Å.
        ligand: Ligand in the binding site (``.pdbqt``, ``.pdb``, ``.sdf`` or ``.mol``), in place of ``center``
            and ``size``: the box is put around it.
        margin: Distance in Å from the atoms of ``ligand`` to the faces of the box.
        exhaustiveness: Number of Vina's independent searches.
        seed: Seed of the searches, 1 or more.
        modes: Largest number of poses that are kept.
        cpu: Number of threads of a call.
        relax: Relax the molecule before it is docked. A molecule that MMFF94 has no parameters for is docked as it is.
        timeout: Time limit of a call in seconds.
        workers: Number of calls at a time.
        batch: Number of molecules of a call, which computes the maps of the receptor once. The affinities do not depend
            on it. A molecule without poses at the end of a call is docked alone.
        poses: Folder of the poses, one SDF file for each distinct molecule, with the best of its dockings; ``null`` for
            none. A score that is not computed again leaves no pose. Without a file, `scored_form` docks again.
        program: Name or path of Vina.
    """

    unit = "kcal/mol"
    higher_is_better = False

    def __init__(
        self,
        receptor: str,
        center: "list[float] | None" = None,
        size: "list[float] | None" = None,
        ligand: "str | None" = None,
        margin: float = 5.0,
        exhaustiveness: int = 8,
        seed: int = 1,
        modes: int = 1,
        cpu: int = 1,
        relax: bool = True,
        timeout: float = 300.0,
        workers: int = 1,
        batch: int = 16,
        poses: "str | None" = None,
        program: str = "vina",
    ) -> None:
        super().__init__(timeout, workers, {}, f"Vina {Path(receptor).stem}")
        if Path(receptor).suffix != ".pdbqt":
            raise GraftError(
                f"receptor is {receptor!r}; it must be a .pdbqt file. Prepare it with meeko's mk_prepare_receptor.py."
            )
        if (center is None) != (size is None) or (center is None) == (ligand is None):
            raise GraftError(
                "the box of Vina must have either center and size, or ligand, the file of a ligand in the site"
            )
        for name, triple in (("center", center), ("size", size)):
            if triple is not None and (len(triple) != 3 or not all(map(math.isfinite, triple))):
                raise GraftError(f"{name} is {triple}; it must be three finite numbers in Å")
        if size is not None and min(size) <= 0:
            raise GraftError(f"size is {size}; all edges must be above 0")
        if ligand is not None and Path(ligand).suffix.lower()[1:] not in _LIGAND_FILES:
            raise GraftError(f"ligand is {ligand!r}; its name must end in .{', .'.join(_LIGAND_FILES)}")
        counts = {"exhaustiveness": exhaustiveness, "seed": seed, "modes": modes, "cpu": cpu, "batch": batch}
        for name, number in counts.items():
            limits.check(name, number, 1)  # Vina takes a seed of 0 as a random one
        limits.check("margin", margin, 0)
        self.receptor, self.center, self.size, self.ligand, self.margin = receptor, center, size, ligand, margin
        self.exhaustiveness, self.seed, self.modes, self.cpu, self.relax = exhaustiveness, seed, modes, cpu, relax
        self.batch, self.poses, self.program = batch, poses, program

    @property
    @override
    def worst_value(self) -> float:
        """Return 0: an affinity that is not below it counts as failed."""
        return 0.0

    @override
    def identity(self) -> Any:
        """Return the settings, the receptor's hash and the box."""
        public = public_attributes(self)
        for name in (
            "receptor",
            "ligand",
            "center",
            "size",
            "margin",
            "timeout",
            "workers",
            "batch",
            "name",
            "poses",
            "cpu",
        ):
            public.pop(name)
        return {"vina": public, "receptor": file_checksum(find_file(self.receptor)), "box": checksum(self.box())}

    @override
    def setup(self) -> None:
        """Raise GraftError if a program, package or file is missing, or if the box is not at the receptor."""
        if find_program(self.program) is None:
            raise GraftError(f"program is {self.program!r}; there is no such program. {_INSTALL}")
        missing = [name for name in ("meeko", "gemmi") if importlib.util.find_spec(name) is None]
        if missing:
            raise GraftError(
                f"the package {missing[0]!r}, which prepares Vina's ligands, is missing. Call pip install "
                "'graft-diffusion[docking]'."
            )
        text = text_of(find_file(self.receptor))
        if re.search(r"^ROOT", text, re.MULTILINE):
            raise GraftError(
                f"receptor is {self.receptor!r}, a ligand's file with a ROOT; it must be the file of a rigid receptor"
            )
        atoms = positions_of(text)
        if not len(atoms):
            raise GraftError(f"receptor is {self.receptor!r}, which has no atoms; it must be a PDBQT file")
        center, size = self.box()
        outside = np.maximum(np.abs(atoms - center) - np.array(size) / 2, 0)
        nearest = float(np.linalg.norm(outside, axis=1).min())
        if nearest > CUTOFF:
            raise GraftError(
                f"Vina's box is {nearest:.1f} Å away from the receptor {self.receptor}; it must be within {CUTOFF:g} "
                "Å. Correct its centre."
            )

    def box(self) -> tuple[list[float], list[float]]:
        """Return the centre and the edges of the box in Å.

        Raises:
            GraftError: The file of the ligand is missing or has no atoms.
        """
        if self.ligand is None:
            return list(self.center or ()), list(self.size or ())
        atoms = ligand_positions(find_file(self.ligand))
        if not len(atoms):
            raise GraftError(
                f"ligand is {self.ligand!r}, which has no readable atoms. Give another file, or center and size."
            )
        low, high = atoms.min(0) - self.margin, atoms.max(0) + self.margin
        if (high - low).min() <= 0:
            raise GraftError(f"margin is {self.margin:g}; it must be above 0 for the flat {self.ligand}")
        return ((low + high) / 2).round(3).tolist(), (high - low).round(3).tolist()

    @override
    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every molecule, ``batch`` of them in a call and ``workers`` calls at a time."""
        size = min(self.batch, math.ceil(len(items) / self.workers))
        if size <= 1:
            return super().__call__(items)
        starts = range(0, len(items), size)
        with ThreadPoolExecutor(self.workers) as pool:
            parts = list(pool.map(lambda start: self._score_batch(items[start : start + size]), starts))
        failures = {
            start + i: why for start, part in zip(starts, parts, strict=True) for i, why in part.failures.items()
        }
        return Scores([value for part in parts for value in part.values], failures)

    @override
    def score(self, item: Any) -> float:
        """Return the affinity, and write the poses if there is a folder for them.

        Raises:
            ValueError: The molecule is not valid, or does not fit into the box.
            RuntimeError: Vina ends with another status than 0.
            TimeoutError: Vina takes too long.
        """
        return self._keep(item, self.dock(item))

    @override
    def scored_form(self, item: Any) -> ScoredForm:
        """Return the best pose with its affinity, from its file or docked again, and the receptor around it."""
        path = self.pose_file(item) if self.poses is not None else None
        pose = first_pose(path) if path is not None and path.is_file() else None
        if pose is None:
            pose = self.dock(item).poses[0]
        receptor = text_of(find_file(self.receptor))
        elements, positions = heavy_atoms(receptor)
        ligand = pose.GetConformer().GetPositions()
        near = np.linalg.norm(positions[:, None] - ligand[None], axis=-1).min(1) < POCKET
        surround(pose, [element for element, kept in zip(elements, near, strict=True) if kept], positions[near])
        return ScoredForm(pose, pose.GetDoubleProp("affinity"))

    def dock(self, item: Any) -> Docking:
        """Return the affinity and the poses of a molecule; `score` names the errors."""
        with tempfile.TemporaryDirectory(prefix="graft-") as name:
            folder = Path(name)
            (folder / "ligand.pdbqt").write_text(prepare_ligand(item, self.relax), encoding="utf-8")
            self._call(folder, ["--ligand", "ligand.pdbqt", "--out", "poses.pdbqt"])
            return read_docking(text_of(folder / "poses.pdbqt"))

    def pose_file(self, item: Any) -> Path:
        """Return the path of a molecule's poses: one for each SMILES with stereochemistry and way of docking."""
        assert self.poses is not None
        return Path(self.poses) / f"{checksum([fingerprint_hash(self), molecule_key(item, stereo=True)])[:16]}.sdf"

    @override
    def error_message(self, lines: Sequence[str]) -> str:
        """Return the first two lines: the error, and the line of the file with the fault."""
        return " ".join(line.strip() for line in lines[:2])

    def _score_batch(self, items: Sequence[Any]) -> Scores:
        """Score molecules in one call of Vina; those that it ends without are docked alone."""
        with tempfile.TemporaryDirectory(prefix="graft-") as name:
            found = self._dock_batch(items, Path(name))

        def score(row: int) -> float:
            text = found.get(row)
            return self.score(items[row]) if text is None else self._keep(items[row], read_docking(text))

        return score_each(score, range(len(items)))

    def _dock_batch(self, items: Sequence[Any], folder: Path) -> dict[int, str]:
        """Return the text of the poses of each molecule that one call of Vina docks, by its position."""
        rows = []
        for row, item in enumerate(items):
            try:
                ligand = prepare_ligand(item, self.relax)
            except Exception:  # docking it alone says what is wrong with it
                continue
            (folder / f"{row}.pdbqt").write_text(ligand, encoding="utf-8")
            rows.append(row)
        if not rows:
            return {}
        poses = folder / "poses"
        poses.mkdir()
        try:
            self._call(folder, ["--batch", *(f"{row}.pdbqt" for row in rows), "--dir", poses.name])
            ended = True
        except (RuntimeError, TimeoutError):
            ended = False
        found = {row: text_of(path) for row in rows if (path := poses / f"{row}_out.pdbqt").is_file()}
        if found and not ended:
            del found[max(found)]  # Vina may have been writing it
        return found

    def _call(self, folder: Path, ligands: Sequence[str]) -> None:
        """Run Vina in a folder.

        Args:
            folder: Folder with the ligands' files.
            ligands: Options that name the files of the ligands and of the poses.
        """
        shutil.copy(find_file(self.receptor), folder / "receptor.pdbqt")
        words = [self.program, "--receptor", "receptor.pdbqt", *ligands]
        for option, values in zip(("center", "size"), self.box(), strict=True):
            for axis, value in zip("xyz", values, strict=True):
                words += [f"--{option}_{axis}", str(value)]
        for option in ("exhaustiveness", "seed", "cpu"):
            words += [f"--{option}", str(getattr(self, option))]
        self.run([*words, "--num_modes", str(self.modes)], folder)

    def _keep(self, item: Any, docking: Docking) -> float:
        """Return the affinity, and write the poses if there is a folder for them."""
        if self.poses is not None:
            keep_best(docking, self.pose_file(item), molecule_key(item, stereo=True))
        return docking.affinity
