"""What the CPU kernels share: compilation, threads, and functions that the compiler vectorises."""
