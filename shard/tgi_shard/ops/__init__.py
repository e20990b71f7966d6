"""What layers compute with: torch's operations as the reference, kernels where they are faster."""
