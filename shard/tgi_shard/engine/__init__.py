"""The engine: batches, sequences and the step that advances them."""
