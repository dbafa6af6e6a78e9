"""The model that a weights file describes: read from the header, checked, and built."""
