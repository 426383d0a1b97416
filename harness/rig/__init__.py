"""The bench: rig file and device profiles, checked and opened."""
