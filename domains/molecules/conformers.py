"""Conformers: embedded from SMILES by worker processes, and relaxed."""

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdForceFieldHelpers

from domains.molecules import etkdg
from domains.molecules.cache import cache_folder
from domains.molecules.chemistry import is_valid
from domains.molecules.conformer_cache import ConformerCache
from graft.core import limits, threads
from graft.core.progress import progress as progress_bar
from graft.reward.workers import Workers

_WORK = f"{etkdg.__name__}.{etkdg.embed_smiles.__name__}"  # the function that workers call
SECONDS = 20.0  # default limit of the embedding of one molecule
_GRACE = 1.0  # seconds that RDKit has to notice the limit before its process is killed


@dataclass(frozen=True)
class Embedded:
    """A molecule with one conformer, hydrogens included.

    Attributes:
        smiles: The SMILES. The atoms have its order, and the hydrogens follow.
        elements: (n,) uint8 atomic numbers.
        charges: (n,) int8 formal charges.
        positions: (n, 3) float32 Å.
    """

    smiles: str
    elements: NDArray[np.uint8]
    charges: NDArray[np.int8]
    positions: NDArray[np.float32]

    def molecule(self) -> Any:
        """Return the RDKit molecule with hydrogens and its conformer."""
        with rdBase.BlockLogs():
            mol = Chem.AddHs(Chem.MolFromSmiles(self.smiles))
        conformer = Chem.Conformer(mol.GetNumAtoms())
        conformer.Set3D(True)
        conformer.SetPositions(self.positions.astype(np.float64))
        mol.AddConformer(conformer)
        return mol


def embed_all(
    smiles: Sequence[str],
    seconds: float = SECONDS,
    workers: "int | None" = None,
    progress: bool = True,
    cache: bool = True,
) -> "list[Embedded | str]":
    """Return the embedded molecule of each SMILES, or the reason why there is none.

    Each conformer is that of ETKDG, relaxed by MMFF94. It depends on its SMILES and the version of RDKit alone, and is
    cached (`domains.molecules.cache.cache_folder`). Equal SMILES are embedded once. Give canonical SMILES, since
    another writing of a molecule is another conformer.

    Args:
        smiles: One SMILES for each molecule.
        seconds: Limit of the embedding of one molecule. A process that exceeds it is killed and replaced.
        workers: Number of processes; None for the number of cores.
        progress: Show a progress bar.
        cache: Use the cache.

    Raises:
        GraftError: A setting is out of range, or a process cannot start.
    """
    limits.check("embedding_seconds", seconds, 0, above=True)
    if workers is not None:
        limits.check("embedding_workers", workers, 1)
    distinct = list(dict.fromkeys(smiles))
    answers: dict[str, etkdg.Answer | str] = {}
    if not cache:
        _embed_distinct(distinct, answers, seconds, workers, progress, None)
    elif distinct:
        with ConformerCache(cache_folder()) as kept:
            for i, answer in kept.find(distinct, seconds):
                answers[distinct[i]] = answer
            missing = [each for each in distinct if each not in answers]
            _embed_distinct(missing, answers, seconds, workers, progress, kept)
    embedded = {each: _embedded(each, answer, seconds) for each, answer in answers.items()}
    return [embedded[each] for each in smiles]


def _embed_distinct(
    smiles: Sequence[str],
    answers: "dict[str, etkdg.Answer | str]",
    seconds: float,
    workers: "int | None",
    progress: bool,
    cache: "ConformerCache | None",
) -> None:
    count = min(workers or threads.cores(), len(smiles))
    with progress_bar("embedding", len(smiles), "molecule", not progress, delay=2) as bar:
        for each, answer in _answers(smiles, seconds, count):
            answers[each] = answer
            if cache is not None:
                cache.add(each, answer, seconds)
            bar.update()


def _answers(smiles: Sequence[str], seconds: float, count: int) -> "Iterator[tuple[str, etkdg.Answer | str]]":
    """Yield (SMILES, answer) in the order in which ``count`` workers finish."""
    if not smiles:
        return
    workers = Workers(count, _WORK, seconds + _GRACE, environment={threads.THREADS: "1"})
    call = workers.caller()

    def embed(each: str) -> "tuple[str, etkdg.Answer | str]":
        try:
            return each, call((each, seconds))
        except TimeoutError:
            return each, etkdg.TOO_LONG
        except RuntimeError as error:  # RDKit crashed, or raised an error of its own
            return each, f"RDKit cannot embed it: {error}"

    waiting = iter(smiles)
    pool = ThreadPoolExecutor(count)
    running: set[Future[tuple[str, etkdg.Answer | str]]] = set()
    try:
        while True:
            # few are in the queue at a time, so that an interruption loses little
            while len(running) < 2 * count and (each := next(waiting, None)) is not None:
                running.add(pool.submit(embed, each))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each_done in done:
                yield each_done.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # no thread may start another process
        workers.kill()
        pool.shutdown()


def _embedded(smiles: str, answer: "etkdg.Answer | str", seconds: float) -> "Embedded | str":
    if isinstance(answer, str):
        return f"{answer} than {seconds:g} s" if answer == etkdg.TOO_LONG else answer
    elements, charges, positions = answer
    return Embedded(
        smiles,
        np.frombuffer(elements, np.uint8),
        np.frombuffer(charges, np.int8),
        np.frombuffer(positions, "<f4").reshape(-1, 3),
    )


def relax_conformer(mol: Any) -> Any:
    """Return a copy with its conformer relaxed by MMFF94 and missing hydrogens added.

    A molecule that is not valid, or that MMFF94 has no parameters for, is returned as it is. The copy keeps the
    properties of the molecule (reward, validity).
    """
    if not is_valid(mol):
        return mol
    with rdBase.BlockLogs():
        copy = Chem.AddHs(mol, addCoords=True)
        relaxed = Chem.Mol(copy)  # MMFF94 gives it its own aromaticity, which changes SMILES and keys
        if rdForceFieldHelpers.MMFFOptimizeMolecule(relaxed, maxIters=etkdg.STEPS) < 0:
            return mol
        copy.GetConformer().SetPositions(relaxed.GetConformer().GetPositions())
    copy.ClearProp("stable_atoms")  # the count does not include the added hydrogens
    return copy
