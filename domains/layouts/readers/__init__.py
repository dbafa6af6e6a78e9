"""Layouts from files, one reader for each format, and pages that are made here."""

from domains.layouts.readers.collection import Element, LayoutSet, describe_invalid, pack_records
from domains.layouts.readers.read import read

__all__ = ["Element", "LayoutSet", "describe_invalid", "pack_records", "read"]
