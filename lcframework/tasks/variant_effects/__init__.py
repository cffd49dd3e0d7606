"""What a masked protein language model says of variants, without training (zero-shot)."""
