"""ProteinGym (Notin et al. 2023): its reference file, its assays, mutants named `A24C:D3N`."""
