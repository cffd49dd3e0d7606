"""Networks, each with the same packed calling convention."""
