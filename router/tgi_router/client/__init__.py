"""The shards as the router sees them: connections, calls to all of them at once, start-up limits."""
