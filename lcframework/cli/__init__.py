"""The `lcf` command line."""
