"""One decoder, and the model families that are served by it."""
