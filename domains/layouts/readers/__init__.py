"""Layouts from files, with one reader for each format, and generated pages."""

from domains.layouts.readers.collection import Element, LayoutSet, describe_invalid, pack_records
from domains.layouts.readers.read import read

__all__ = ["Element", "LayoutSet", "describe_invalid", "pack_records", "read"]
