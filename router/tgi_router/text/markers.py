"""Markers in streamed text: a piece may end in the middle of one."""


def overlap(text: str, marker: str) -> int:
    """Length of the longest end of `text` that begins `marker`, the whole of it included."""
    for length in range(min(len(text), len(marker)), 0, -1):
        if text.endswith(marker[:length]):
            return length
    return 0
