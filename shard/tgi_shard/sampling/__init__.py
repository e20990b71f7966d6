"""Choosing the next token of every row of a batch."""
