"""TAPE's metrics (Rao et al. 2019), computed once over all proteins, and simple feature probes."""
