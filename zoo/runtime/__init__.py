"""Compiles, feeds and times programs."""
