"""Threshold circuits: what bounds a model's computation, for any configuration; needs no torch."""
