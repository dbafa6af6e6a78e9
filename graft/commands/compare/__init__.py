"""``graft compare``: methods x levels x seeds at an equal budget, evaluated on the same fresh samples."""
