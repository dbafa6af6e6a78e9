"""External programs as rewards: one that answers, and all kinds of failures."""

import os
import sys
import time

import pytest
from mols import BAD, GOOD, embedded

from domains.molecules.rewards import ExternalProgram
from graft.errors import GraftError
from graft.io.fingerprint import fingerprint_hash

ATOMS = """
import sys
from pathlib import Path
lines = Path(sys.argv[1]).read_text().splitlines()
Path("note.txt").write_text("seen")  # in its own folder
print("version 9.9\\n energy =", len([line for line in lines[2:] if line.strip()]))
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Writes a program and gives the reward that calls it."""
    monkeypatch.chdir(tmp_path)

    def made(code, *arguments, **settings):
        path = tmp_path / "program.py"
        path.write_text(code)
        return ExternalProgram([sys.executable, str(path), *(arguments or ["{input}"])], name="test", **settings)

    return made


@pytest.mark.parametrize("workers", [1, 2])
def test_a_program_that_answers(program, tmp_path, workers):
    reward = program(ATOMS, "{input}", pattern=r"energy = (\d+)", higher_is_better=False, unit="Eh", workers=workers)
    reward.setup()
    scores = reward([GOOD, BAD, embedded("CC")])
    assert (scores.values[0], scores.values[2]) == (9, 8)  # hydrogens included
    assert scores.failures == {1: "the molecule is not valid"}
    assert (reward.name, reward.unit, reward.higher_is_better) == ("test", "Eh", False)
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]


@pytest.mark.parametrize(
    ("code", "settings", "message"),
    [
        ("import time; time.sleep(60)", {"timeout": 0.3}, "test gave no answer within 0.3 s"),
        ("print('no idea')", {}, "gave no number"),
        ("print('energy = NaN')", {"pattern": r"energy = (\S+)"}, "the reward is nan"),
        ("print('energy = ****')", {"pattern": r"energy = (\S+)"}, "'****' where a number"),
        ("import sys; sys.exit('no licence')", {}, "status 1: no licence"),
        ("import os; os.kill(os.getpid(), 9)", {}, "status -9"),
        ("print(1)", {"output": "out.txt"}, "did not write out.txt"),
        ("import sys; sys.stdout.buffer.write(bytes(range(128, 256)) * 20000)", {}, "gave no number"),
    ],
    ids=["hangs", "no number", "NaN", "asterisks", "refuses", "crashes", "no file", "nonsense"],
)
def test_what_costs_the_molecule_alone(program, code, settings, message):
    scores = program(code, **settings)([GOOD])
    assert message in scores.failures[0]


def test_what_a_hanging_program_started_ends_with_it(program, tmp_path):
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', %r])"
    child = f"import time, os; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    assert program(code % child, timeout=2)([GOOD]).failures
    pid = int((tmp_path / "pid").read_text())
    for _ in range(50):  # a zombie until its new parent looks
        try:
            os.kill(pid, 0)
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().split()[2] == "Z":
                    break
        except (ProcessLookupError, FileNotFoundError):
            break
        time.sleep(0.05)
    else:
        pytest.fail("the child lives on")


def test_formats_files_and_variables(program, tmp_path):
    (tmp_path / "receptor.txt").write_text("2.5")
    show = "import sys, os; print(open('receptor.txt').read(), sys.argv[1], os.environ['GRAFT_X'])"
    reward = program(show, "{smiles}", files=["receptor.txt"], environment={"GRAFT_X": "7"}, pattern=r"^(\S+) CCO 7$")
    reward.setup()
    assert reward.score(GOOD) == 2.5
    for kind, expected in (("sdf", "V2000"), ("pdb", "HETATM"), ("smi", "CCO")):
        seen = program(f"import sys; print(int({expected!r} in open(sys.argv[1]).read()))", "{input}", format=kind)
        assert seen.score(GOOD) == 1, kind
    written = program("open('out', 'w').write('x 1e-3')", output="out")
    assert written.score(GOOD) == 1e-3


def test_what_it_is_tells_files_apart(program, tmp_path):
    (tmp_path / "receptor.txt").write_text("1")
    first = fingerprint_hash(program(ATOMS, "{input}", files=["receptor.txt"]))
    assert fingerprint_hash(program(ATOMS, "{input}", files=["receptor.txt"], timeout=9)) == first
    (tmp_path / "receptor.txt").write_text("2")
    assert fingerprint_hash(program(ATOMS, "{input}", files=["receptor.txt"])) != first


def test_a_program_that_cannot_work_is_refused_at_once(tmp_path):
    with pytest.raises(GraftError, match="no program 'xtb-that-is-missing'"):
        ExternalProgram(["xtb-that-is-missing", "{input}"]).setup()
    with pytest.raises(GraftError, match="receptor"):
        ExternalProgram([sys.executable, "{input}"], files=[str(tmp_path / "receptor.pdbqt")]).setup()
    for settings, words in (
        ({"command": []}, "empty"),
        ({"command": ["x", "mol.xyz"]}, r"x has neither \{input\} nor \{smiles\}"),
        ({"command": ["x", "{input}", "--charge={charge}"]}, r"x has \{charge\}: .*\{smiles\} for its SMILES"),
        ({"pattern": "("}, "not a regular expression"),
        ({"pattern": r"\d+"}, "0 groups"),
        ({"timeout": 0}, "timeout is 0"),
    ):
        with pytest.raises(GraftError, match=words):
            ExternalProgram(**{"command": ["x", "{input}"], **settings})
