"""Paired timing. Results are written, never asserted."""
