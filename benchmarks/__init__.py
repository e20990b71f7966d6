"""Measures this server, and chosen peers beside it, with the same work on the same checkpoint."""
