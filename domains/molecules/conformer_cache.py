"""Cache of conformers: one SQLite file for all molecules."""

import hashlib
import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import rdkit

from domains.molecules import etkdg
from graft.core.distributed import rank_zero_print

_VERSION = 1  # of the file's layout
_PENDING = 5.0  # seconds after which new answers are written
_WAIT = 60.0  # seconds to wait for another process that writes


class ConformerCache:
    """Answers of `etkdg.embed_smiles` by SMILES, kept over runs.

    The key is the SMILES, the method and the version of RDKit. A cache that cannot be read or written is not used, and
    a message says so.

    Args:
        folder: Folder of the file, created if missing.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"conformers-v{_VERSION}.sqlite"
        self._pending: list[tuple[bytes, bytes]] = []
        self._written = time.monotonic()
        self._connection: sqlite3.Connection | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=_WAIT)
            self._connection.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer BLOB)")
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def __enter__(self) -> "ConformerCache":
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        """Write pending answers, also after an error, and close the file."""
        self.flush()
        if self._connection is not None:
            self._connection.close()

    def find(self, smiles: Sequence[str], seconds: float) -> "Iterator[tuple[int, etkdg.Answer | str]]":
        """Yield (position, answer) of each SMILES with an answer.

        An embedding that was stopped after fewer than ``seconds`` is no answer.
        """
        keys = [_key(each) for each in smiles]
        for start in range(0, len(keys), 500):  # SQLite limits the number of parameters
            part = keys[start : start + 500]
            try:
                if self._connection is None:
                    return
                marks = ",".join("?" * len(part))
                rows = self._connection.execute(f"SELECT key, answer FROM answers WHERE key IN ({marks})", part)
                found = dict(rows.fetchall())
            except sqlite3.Error as error:
                self._give_up(error)
                return
            for i, key in enumerate(part, start):
                answer = _unpack(found[key], seconds) if key in found else None
                if answer is not None:
                    yield i, answer

    def add(self, smiles: str, answer: "etkdg.Answer | str", seconds: float) -> None:
        """Keep an answer; it is written within a few seconds."""
        self._pending.append((_key(smiles), _pack(answer, seconds)))
        if time.monotonic() - self._written > _PENDING:
            self.flush()

    def flush(self) -> None:
        """Write the pending answers."""
        if self._connection is not None and self._pending:
            try:
                with self._connection:
                    self._connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", self._pending)
            except sqlite3.Error as error:
                self._give_up(error)
        self._pending, self._written = [], time.monotonic()

    def _give_up(self, error: Exception) -> None:
        rank_zero_print(
            f"the cache of conformers {self.path} cannot be used ({error}): conformers are computed again. Delete the "
            "file, or set GRAFT_CACHE to another folder"
        )
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None


def _key(smiles: str) -> bytes:
    return hashlib.sha256(f"{etkdg.METHOD}\n{rdkit.__version__}\n{smiles}".encode()).digest()[:16]


def _pack(answer: "etkdg.Answer | str", seconds: float) -> bytes:
    """Return the checksum, the kind and the content of an answer."""
    if isinstance(answer, str):
        content = f"limit {seconds!r}".encode() if answer == etkdg.TOO_LONG else b"reason " + answer.encode()
    else:
        content = b"atoms  " + b"".join(answer)
    return zlib.crc32(content).to_bytes(4, "big") + content


def _unpack(data: bytes, seconds: float) -> "etkdg.Answer | str | None":
    """Return an answer; None if its checksum is wrong, or if it was stopped after fewer than ``seconds``."""
    content = data[4:]
    if zlib.crc32(content).to_bytes(4, "big") != data[:4]:
        return None
    if content.startswith(b"limit "):
        return etkdg.TOO_LONG if float(content[6:]) >= seconds else None
    if content.startswith(b"reason "):
        return content[7:].decode()
    count = (len(content) - 7) // 14  # bytes of an atom
    return content[7 : 7 + count], content[7 + count : 7 + 2 * count], content[7 + 2 * count :]
