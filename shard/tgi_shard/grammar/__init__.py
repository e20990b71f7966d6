"""Grammars: which tokens may come next, so that a text matches what its request asks for."""
