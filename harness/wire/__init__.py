"""Protocol cores: frames and state machines. No I/O, no waiting, no members."""
