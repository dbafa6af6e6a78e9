"""Every writer forces files onto the disk before they get their names."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import graft
from graft.errors import GraftError
from graft.io.atomic import replace_folder, write_text, write_with


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, bool]]]:
    """(name, whether all its content was on the disk) of everything that is moved to its final name."""
    found: list[tuple[str, bool]] = []
    safe: set[tuple[int, int]] = set()
    fsync, replace, rename = os.fsync, os.replace, os.rename

    def synced(file: int) -> None:
        fsync(file)
        safe.add((os.fstat(file).st_ino, os.fstat(file).st_size))

    def noted(source: str, target: str) -> None:
        path = Path(source)
        parts = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
        found.append((Path(target).name, all((p.stat().st_ino, p.stat().st_size) in safe for p in parts)))

    def replaced(source: str, target: str) -> None:
        noted(source, target)
        replace(source, target)

    def renamed(source: str, target: str) -> None:
        noted(source, target)
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(os, "rename", renamed)  # of which Path.rename makes use, too
    yield found


def test_one_file(moved: list[tuple[str, bool]], tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "a")
    write_with(tmp_path / "b.txt", lambda path: path.write_text("b"))
    assert moved == [("a.txt", True), ("b.txt", True)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]


def test_a_domain_that_writes_several(moved: list[tuple[str, bool]], tmp_path: Path) -> None:
    def write(path: Path) -> None:
        path.mkdir()
        (path / "one.png").write_text("1")
        path.with_name("pages.json").write_text("{}")

    write_with(tmp_path / "pages", write)
    assert moved == [("pages", True), ("pages.json", True)]
    assert (tmp_path / "pages/one.png").read_text() == "1"


@pytest.mark.parametrize("name", ["a.sdf", "a.xyz", "a.smi", "a.csv"])
def test_molecules(name: str, moved: list[tuple[str, bool]], tmp_path: Path) -> None:
    """Called directly, as from a notebook."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    from domains.molecules import files as molecules

    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    molecules.write_molecules([mol], tmp_path / name)
    molecules.render_grid([mol], tmp_path / "a.png")
    assert moved == [(name, True), ("a.png", True)] and len(list(tmp_path.iterdir())) == 2


def test_enumerated_molecules(moved: list[tuple[str, bool]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from domains.molecules import sources

    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path))
    arrays, *_ = sources.read_source("enumerated", 2)
    assert len(arrays["num_atoms"]) > 3 and [done for _, done in moved] == [True]
    (path,) = tmp_path.iterdir()
    monkeypatch.setattr(sources, "embed_enumerated", None)  # from the file, not made again
    assert (sources.read_source("enumerated", 2)[0]["charges"] == arrays["charges"]).all() and path.suffix == ".npz"


def test_a_folder_takes_the_place_of_another(moved: list[tuple[str, bool]], tmp_path: Path) -> None:
    def filled(text: str) -> None:
        replace_folder(tmp_path / "run/out", lambda new: (new / text).write_text(text))

    filled("a")
    filled("b")
    assert all(done for _, done in moved if not _.endswith(".old"))
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["run", "run/out", "run/out/b"]


def test_a_folder_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_folder(tmp_path / "out", lambda new: (new / "a").write_text("a"))

    def full(new: Path) -> None:
        (new / "b").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(GraftError, match=r"No space left.*free the disk"):
        replace_folder(tmp_path / "out", full)
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(GraftError, match="Input/output error"):
        replace_folder(tmp_path / "out", lambda new: (new / "c").write_text("c"))
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["out", "out/a"]


PLAIN = {
    "graft/io/atomic.py": "the writers themselves",
    "graft/io/mapped.py": "into the temporary file of atomic_write",
    "graft/io/tensors.py": "into the temporary file of atomic_write",
    "graft/cli/streams.py": "the null device",
    "graft/runs/lock.py": "opens a folder, and writes nothing",
    "graft/runs/checkpoint.py": "into the temporary file of atomic_write",
    "graft/runs/logger.py": "appends rows; a last row that is cut off is skipped when the file is read",
    "graft/runs/stopwatch.py": "a count that is overwritten in place by a single write",
    "graft/rounds/round_store.py": "into the temporary file of atomic_write",
    "graft/rating/ratings_file.py": "appends ratings; a last line that is cut off is skipped when the file is read",
    "graft/reward/program.py": "the temporary folder that a program reads",
    "domains/images/captioned/shipped.py": "into the temporary file of atomic_write",
    "domains/images/captioned/train_pipeline.py": "a folder of diffusers, written again if the training resumes",
    "domains/images/files.py": "into the temporary file of atomic_write",
    "domains/images/text/module.py": "into the temporary file of atomic_write",
    "domains/images/text/export.py": "into the temporary folder of replace_folder",
    "domains/molecules/files.py": "into the temporary file of write_with",
    "domains/molecules/sources.py": "into the temporary file of write_with",
    "domains/molecules/rewards/calls.py": "the temporary folder that a program runs in",
    "domains/molecules/rewards/program.py": "the temporary folder that a program runs in",
    "domains/molecules/rewards/vina.py": "the temporary folder that Vina runs in",
    "domains/molecules/rewards/docked_poses.py": "SDF in memory, which write_text of graft.io writes",
}
"""Files that write without `graft.io`, and why that is right."""

WRITERS = {
    "write_text",
    "write_bytes",
    "savez",
    "savez_compressed",
    "save_file",
    "save_pretrained",
    "save_lora_weights",
}
WRITERS |= {"SDWriter", "MolToMolFile", "to_csv", "copyfile", "copytree", "imsave", "mkstemp", "pwrite"}
OWNED = {("np", "save"), ("torch", "save"), ("os", "open"), ("os", "replace"), ("shutil", "copy"), ("shutil", "move")}


def writes(call: ast.Call) -> bool:
    function = call.func
    name = (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )
    inner = function.value if isinstance(function, ast.Attribute) else None
    owner = inner.id if isinstance(inner, ast.Name) else ""
    if name == "open":
        modes = [*call.args, *(each.value for each in call.keywords if each.arg == "mode")]
        texts = [each.value for each in modes if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        return (owner, name) in OWNED or any(len(text) < 4 and {*text} & {*"wax+"} for text in texts)
    atomic = isinstance(function, ast.Name) and name in (
        "write_text",
        "write_bytes",
    )  # of `graft.io.atomic`
    return (owner, name) in OWNED or (name in WRITERS and not atomic)


def test_nothing_else_writes_plainly() -> None:
    """A new place that writes must use `graft.io`, or be added above with its reason."""
    root = Path(graft.__file__).parents[1]
    found = {
        path.relative_to(root).as_posix()
        for folder in ("graft", "domains")
        for path in (root / folder).rglob("*.py")
        if any(isinstance(node, ast.Call) and writes(node) for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    }
    assert found == PLAIN.keys()
