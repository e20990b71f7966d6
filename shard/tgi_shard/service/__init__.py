"""The gRPC face of the shard. It only translates: everything that decides lies in the engine."""
