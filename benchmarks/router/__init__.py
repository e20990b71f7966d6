"""Measures what the router adds to a token's way: this server over a stub shard, which computes nothing."""
