"""The emulated air and what is on it: nodes and the NCP; knows frames, not members."""
