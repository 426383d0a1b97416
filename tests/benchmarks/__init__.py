"""Figures of speed and size, each a ratio measured side by side in one run; `python -m tests.benchmarks` shows them."""
