"""The async front process: HTTP, tokenizing, validation, queueing and batching."""
