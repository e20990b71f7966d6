"""Text to tokens and messages to text: the tokenizer, chat templates, and stop strings."""
