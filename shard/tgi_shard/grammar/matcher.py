"""A grammar for one model's vocabulary, and the place of one request in it."""

from collections.abc import Iterable

from llguidance import LLMatcher, LLTokenizer

from tgi_common.grammar import Grammar, GrammarError, describe_error, parser_limits, to_llguidance


class CompiledGrammar:
    """A grammar for one vocabulary. What its matchers find out about it, they share; safe in any thread.

    Attributes:
        vocab_size: number of tokens that a mask tells of.

    Raises:
        GrammarError: it does not compile, or would cost more than a grammar may.
    """

    def __init__(self, vocabulary: LLTokenizer, grammar: Grammar) -> None:
        self.vocab_size = vocabulary.vocab_size
        self._vocabulary = vocabulary
        self._text = to_llguidance(grammar)
        self._beginning = self._compile()
        if self._beginning.is_error():
            raise GrammarError(f"the grammar cannot be used: {describe_error(self._beginning.get_error())}")

    def start(self, token_ids: Iterable[int] = ()) -> "GrammarMatcher":
        """What watches a text that begins with these tokens.

        Raises:
            GrammarError: they do not match the grammar.
        """
        matcher = GrammarMatcher(self)
        for token_id in token_ids:
            matcher.advance(token_id)
        return matcher

    def copy_beginning(self) -> LLMatcher:
        """The state before the first token."""
        return self._beginning.deep_copy()

    def forget(self) -> None:
        """Let later copies find out everything anew: llguidance bounds what the earlier ones share."""
        self._beginning = self._compile()

    def _compile(self) -> LLMatcher:
        return LLMatcher(self._vocabulary, self._text, log_level=0, limits=parser_limits())


class GrammarMatcher:
    """What one request's text may go on with.

    Attributes:
        grammar: what it follows.
        state: llguidance's. It never raises, but stays in an error once there is one.
    """

    __slots__ = ("_token_ids", "grammar", "state")

    def __init__(self, grammar: CompiledGrammar) -> None:
        self.grammar = grammar
        self.state = grammar.copy_beginning()
        self._token_ids: list[int] = []

    def advance(self, token_id: int) -> None:
        """Take the token that the text has gone on with.

        Raises:
            GrammarError: it does not match, or to say what may come next cost more than it may.
        """
        self._token_ids.append(token_id)
        if not self.state.is_error() and not self.state.consume_token(token_id):
            self.renew()
        if self.state.is_error():
            raise GrammarError(f"the grammar cannot be followed: {describe_error(self.state.get_error())}")

    def renew(self) -> None:
        """Come to this place again from the beginning, after an error that may be others' doing.

        A limit of llguidance is on what all matchers of a grammar have found out together.
        """
        self.grammar.forget()
        self.state = self.grammar.copy_beginning()
        self.state.consume_tokens(self._token_ids)
