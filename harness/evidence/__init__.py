"""What a run leaves behind: captures, the keys that open them, and the report."""
