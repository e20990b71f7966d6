"""What follows a draw: append the token, make its text, see whether the request has ended."""

import math

from tgi_shard.engine.results import FinalText, Output, RequestFailure, TokenList
from tgi_shard.engine.runner import Drawn
from tgi_shard.engine.sequence import Sequence
from tgi_shard.text.tokenizer import ShardTokenizer


class OutputWriter:
    """Turns drawn tokens into outputs.

    Every rank does so for every request, so that what ends or fails does on all of them alike and they stay
    in step; only the owner of a request, `id mod world size`, answers its output, as TGI's shards do.
    """

    def __init__(self, tokenizer: ShardTokenizer, rank: int, world_size: int) -> None:
        self._tokenizer = tokenizer
        self._rank = rank
        self._world_size = world_size

    def write(self, drawn: Drawn) -> tuple[list[Output], list[RequestFailure], set[int]]:
        """Advance each sequence by its token.

        Returns:
            The outputs of requests owned here, the requests that failed, and the ids of all that ended.
        """
        outputs: list[Output] = []
        failures: list[RequestFailure] = []
        ended: set[int] = set()
        for row, sequence in enumerate(drawn.sequences):
            try:
                output = self._advance(sequence, drawn, row)
            except Exception as error:
                failures.append(RequestFailure.of(sequence.id, error))
                ended.add(sequence.id)
                continue
            if output.final is not None:
                ended.add(sequence.id)
            if sequence.id % self._world_size == self._rank:
                outputs.append(output)
        return outputs, failures, ended

    def _advance(self, sequence: Sequence, drawn: Drawn, row: int) -> Output:
        token_id, logprob = drawn.token_ids[row], drawn.logprobs[row]
        if math.isnan(logprob):
            raise ArithmeticError("the model computed NaN for this request")
        if sequence.matcher is not None:
            sequence.matcher.advance(token_id)
        tells_prompt = sequence.generated == 0 and sequence.request.prompt_logprobs
        sequence.token_ids.append(token_id)
        text = sequence.detokenizer.push(token_id)
        reason = sequence.stop.push(token_id, text)
        final = None
        if reason is not None:
            text += sequence.detokenizer.flush()
            sampling = sequence.request.sampling
            final = FinalText(
                text=sequence.detokenizer.final_text(),
                generated_tokens=sequence.generated,
                finish_reason=reason,
                seed=sampling.seed if sampling.samples else None,
            )
        return Output(
            request_id=sequence.id,
            token_id=token_id,
            logprob=logprob,
            text=text,
            is_special=token_id in self._tokenizer.special_ids,
            top_tokens=self._tokens(*drawn.top_tokens[sequence]) if sequence.request.top_n_tokens else None,
            prompt_tokens=self._prompt_tokens(sequence) if tells_prompt else None,
            prompt_top_tokens=self._prompt_top_tokens(sequence) if tells_prompt else (),
            final=final,
        )

    def _tokens(self, ids: list[int], logprobs: list[float]) -> TokenList:
        return TokenList(
            ids=ids,
            logprobs=logprobs,
            texts=[self._tokenizer.token_text(token_id) for token_id in ids],
            is_special=[token_id in self._tokenizer.special_ids for token_id in ids],
        )

    def _prompt_tokens(self, sequence: Sequence) -> TokenList:
        """The prompt's tokens; NaN for the first, and for those that were taken from the cache."""
        ids = list(sequence.request.prompt_ids)
        known = sequence.prompt_logprobs
        return self._tokens(ids, [math.nan] * (len(ids) - len(known)) + known)

    def _prompt_top_tokens(self, sequence: Sequence) -> list[TokenList]:
        """The likeliest tokens in the place of each prompt token; none for the first, and for cached ones."""
        known = sequence.prompt_top_tokens
        if not known:
            return []
        unknown: list[tuple[list[int], list[float]]] = [([], [])] * (sequence.prompt_length - len(known))
        return [self._tokens(*top) for top in (*unknown, *known)]
