"""TAPE's downstream tasks (Rao et al. 2019): readers of its LMDB and JSON files, packed batches."""
