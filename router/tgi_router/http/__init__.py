"""The HTTP routes, one module per API family, and what they share: bodies, errors, headers, event streams."""
