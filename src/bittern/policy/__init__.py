"""Decisions, without I/O: what to do next."""
