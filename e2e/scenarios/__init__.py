"""Scenarios: the demo's scenes under many conditions, run by tests. Files: nat_pairs."""
