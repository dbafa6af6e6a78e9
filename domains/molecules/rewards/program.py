"""A command-line program as a reward, such as xTB or docking."""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

from rdkit import Chem, rdBase
from typing_extensions import override

from domains.molecules.chemistry import is_valid, molecule_key
from domains.molecules.rewards.calls import CommandReward, find_program, tail
from graft.errors import GraftError
from graft.io.checksum import file_checksum
from graft.io.fingerprint import public_attributes
from graft.io.paths import find_file
from graft.reward import to_finite_float

NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"


class ExternalProgram(CommandReward):
    r"""The number that a program prints for a molecule.

    Each call runs in a temporary folder of its own, which holds the molecule's file and is removed afterwards. A call
    fails if its status is not 0, if it prints no number, or if it takes too long; the program and its children are then
    killed. A failed call costs its molecule alone.

    Args:
        command: Program and arguments, each a word of its own (no shell). ``{input}`` is the name of the molecule's
            file in the temporary folder, ``{smiles}`` its SMILES. For xTB's energy ``[xtb, "{input}", --gfn, "2"]``
            with ``pattern: 'TOTAL ENERGY\s+(\S+)'``.
        format: Format of the molecule's file: ``xyz``, ``sdf`` or ``pdb`` with its conformer and added hydrogens, or
            ``smi``.
        pattern: Regular expression with one group, the number; the last match counts. The last number if not given.
        output: File in the temporary folder that holds the number; ``null`` for the printed output.
        files: Files that are copied to the temporary folder, such as a docking receptor.
        timeout: Time limit of a call in seconds.
        workers: Number of calls at a time.
        environment: Environment variables of the program, such as ``{OMP_NUM_THREADS: "1"}``.
        higher_is_better: False if smaller is better.
        name: Name in tables; the program's if not given.
        unit: Unit of the number.
    """

    def __init__(
        self,
        command: "list[str]",
        format: Literal["xyz", "sdf", "pdb", "smi"] = "xyz",
        pattern: str = NUMBER,
        output: "str | None" = None,
        files: "list[str] | None" = None,
        timeout: float = 60.0,
        workers: int = 1,
        environment: "dict[str, str] | None" = None,
        higher_is_better: bool = True,
        name: "str | None" = None,
        unit: str = "",
    ) -> None:
        if not command:
            raise GraftError("the command of an external program is empty: give the program and its arguments")
        words = set(re.findall(r"\{[A-Za-z_]\w*\}", " ".join(command)))
        if not words or not words <= {"{input}", "{smiles}"}:
            wrong = f"has {min(words - {'{input}', '{smiles}'})}" if words else "has neither {input} nor {smiles}"
            raise GraftError(
                f"the command of {command[0]} {wrong}: {{input}} stands for the molecule's file, {{smiles}} for its "
                "SMILES"
            )
        super().__init__(timeout, workers, environment, name or Path(command[0]).name)
        try:
            self._pattern = re.compile(pattern, re.MULTILINE)
        except re.error as error:
            raise GraftError(f"{pattern!r} is not a regular expression: {error}") from None
        if self._pattern.groups != 1:
            raise GraftError(f"the pattern {pattern!r} has {self._pattern.groups} groups: it needs one, the number")
        self.command, self.format, self.pattern, self.output = command, format, pattern, output
        self.files, self.higher_is_better, self.unit = files or [], higher_is_better, unit

    @override
    def identity(self) -> Any:
        """Return the command and the hashes of its files."""
        public = public_attributes(self)
        for name in ("timeout", "workers", "name"):
            public.pop(name)
        return {"program": public, "files": [file_checksum(find_file(name)) for name in self.files]}

    @override
    def setup(self) -> None:
        """Raise GraftError if the program or one of its files is missing."""
        if find_program(self.command[0]) is None:
            raise GraftError(
                f"there is no program {self.command[0]!r}: install it, or give its path as the first word of command"
            )
        for name in self.files:
            find_file(name)

    @override
    def score(self, item: Any) -> float:
        """Return the number.

        Raises:
            ValueError: The molecule is not valid, or the program prints no number.
            RuntimeError: The program ends with another status than 0.
            TimeoutError: The program takes too long.
        """
        if not is_valid(item):
            raise ValueError("the molecule is not valid")
        with tempfile.TemporaryDirectory(prefix="graft-") as name:
            folder = Path(name)
            (folder / f"molecule.{self.format}").write_text(written(item, self.format), encoding="utf-8")
            for needed in self.files:
                shutil.copy(find_file(needed), folder)
            self._run(folder, molecule_key(item, stereo=True))
            return self._number(folder / (self.output or "stdout"))

    def _run(self, folder: Path, smiles: str) -> None:
        names = {"{input}": f"molecule.{self.format}", "{smiles}": smiles}
        words = list(self.command)
        for mark, meant in names.items():
            words = [word.replace(mark, meant) for word in words]
        self.run(words, folder)

    def _number(self, path: Path) -> float:
        if not path.is_file():
            raise ValueError(f"{self.name} did not write {path.name}")
        matches = self._pattern.findall(tail(path))
        if not matches:
            raise ValueError(f"{self.name} gave no number that {self.pattern!r} finds")
        return to_finite_float(_float(matches[-1], self.name))


def _float(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} gave {text[:40]!r} where a number is expected") from None


def written(item: Any, format: str) -> str:
    """Return a molecule as the text of a file, with hydrogens added."""
    if format == "smi":
        return f"{molecule_key(item, stereo=True)}\n"
    with rdBase.BlockLogs():
        mol = Chem.AddHs(item, addCoords=True)
        if format == "sdf":
            return f"{Chem.MolToMolBlock(mol)}$$$$\n"
        return str((Chem.MolToXYZBlock if format == "xyz" else Chem.MolToPDBBlock)(mol))
