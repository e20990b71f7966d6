"""The command that starts, watches and stops the shards and the router."""
