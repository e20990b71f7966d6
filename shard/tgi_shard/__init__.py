"""The model process: weights, KV memory, forward passes, sampling; one per device."""
