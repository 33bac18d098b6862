"""Prefect flows: a table of contents each. No arithmetic, no tensors."""
