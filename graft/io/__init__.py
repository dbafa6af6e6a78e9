"""Files: found by name, written atomically, checked by a checksum, and never unpickled."""
