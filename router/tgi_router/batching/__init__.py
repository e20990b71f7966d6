"""Which request runs when: the queue, the KV blocks, the budgets, and the task that drives the shards."""
