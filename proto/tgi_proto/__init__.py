"""The stubs of the contract between router and shards, written by `make proto`."""
