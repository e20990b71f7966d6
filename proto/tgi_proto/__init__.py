"""The stubs of the router–shard contract, written by `make proto` from proto/generate/v3/generate.proto."""
