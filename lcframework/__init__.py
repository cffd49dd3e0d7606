"""lcframework: train and evaluate long-context models.

Importing this package is free: torch, lightning and hydra load only with the modules that need
them.
"""

__version__ = "0.1.0"
