"""Layouts from files, with one reader for each format, and generated pages."""

from domains.layouts.readers.collection import Element, LayoutSet, pack_records
from domains.layouts.readers.read import read_layouts

__all__ = ["Element", "LayoutSet", "pack_records", "read_layouts"]
