"""The KV memory of a shard."""
