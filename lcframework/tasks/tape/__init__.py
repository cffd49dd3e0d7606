"""TAPE's downstream tasks: fine-tuning with the official heads, and linear probes."""
