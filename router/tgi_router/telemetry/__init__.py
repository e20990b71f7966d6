"""Metrics: the instruments, the list of them, and the text a scraper reads."""
