"""LightningModules, one training or evaluation objective each."""
