"""python -m graft."""

from graft.cli import console

console()
