"""Keeps Python's garbage collector out of the way of tokens."""

import gc

YOUNG_OBJECTS = 10_000
"""Objects made and not freed that make the collector look.

At Python's 700 it looks in every large step, and finds nothing: tokens, streams and finished requests are in
no cycles, so their reference counts free them.
"""


def settle() -> None:
    """Never look again at what was made until now, and more seldom at what comes.

    To be called once all is there that lives as long as the process: modules, tokenizer, routes. A full
    collection walks through them for tens of milliseconds, and all streams wait.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
