"""ProteinGym's metrics, aggregation and simple baselines (Notin et al. 2023), as pure functions."""
