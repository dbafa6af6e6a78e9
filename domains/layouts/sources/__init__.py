"""Layouts from files, one reader for each format, and pages that are made here."""

from domains.layouts.sources.collection import Collection, Element, collect, told
from domains.layouts.sources.read import read

__all__ = ["Collection", "Element", "collect", "read", "told"]
