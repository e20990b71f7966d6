"""What a single request may ask for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What a single request may ask for.

    Attributes:
        max_choices: answers to one prompt (`n` of OpenAI's routes).
        max_messages: turns of a conversation.
        max_tools: functions that a model may be offered.
        max_biased_tokens: entries of `logit_bias`, of `stop_token_ids` and of `guided_choice`.
    """

    max_input_tokens: int
    max_total_tokens: int
    max_best_of: int
    max_stop_sequences: int
    max_top_n_tokens: int
    max_choices: int
    max_messages: int
    max_tools: int
    max_biased_tokens: int
