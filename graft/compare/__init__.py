"""``graft compare``: methods x levels x seeds at an equal budget, judged on the same fresh samples."""
