"""Bytes <-> values, without I/O: what the specifications say."""
