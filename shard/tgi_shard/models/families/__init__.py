"""One file per model family: how its config.json sets the decoder's switches, and its tensors' names."""
