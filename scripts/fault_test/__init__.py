"""The proof by fault: see scripts/fault-test."""
