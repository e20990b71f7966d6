"""Between the contract's messages and the engine's own types."""

from tgi_common.grammar import Grammar, GrammarKind
from tgi_proto import generate_pb2 as pb
from tgi_shard.engine.request import EngineRequest, RequestRefusedError
from tgi_shard.engine.results import BatchState, Output, RequestFailure, StepResult, TokenList
from tgi_shard.engine.stopping import FinishReason, StoppingCriteria
from tgi_shard.grammar.compile import GrammarCompiler
from tgi_shard.grammar.matcher import CompiledGrammar
from tgi_shard.sampling.parameters import SamplingParameters
from tgi_shard.text.tokenizer import ShardTokenizer

FINISH_REASONS = {
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.EOS_TOKEN: pb.FINISH_REASON_EOS_TOKEN,
    FinishReason.STOP_SEQUENCE: pb.FINISH_REASON_STOP_SEQUENCE,
}
GRAMMAR_KINDS: dict[int, GrammarKind] = {
    pb.GRAMMAR_TYPE_JSON: GrammarKind.JSON,
    pb.GRAMMAR_TYPE_REGEX: GrammarKind.REGEX,
    pb.GRAMMAR_TYPE_LARK: GrammarKind.LARK,
}


class RequestReader:
    """Reads requests of a batch, tokenizing those that come as text and compiling their grammars.

    `grammars` is None where the model's tokenizer allows for none.
    """

    def __init__(
        self, tokenizer: ShardTokenizer, eos_ids: frozenset[int], grammars: GrammarCompiler | None
    ) -> None:
        self._tokenizer = tokenizer
        self._eos_ids = eos_ids
        self._grammars = grammars

    def read_batch(self, batch: pb.Batch) -> tuple[list[EngineRequest], list[RequestFailure]]:
        """Read every request; one that makes no sense becomes a failure of its own."""
        requests: list[EngineRequest] = []
        failures: list[RequestFailure] = []
        for message in batch.requests:
            try:
                requests.append(self.read(message))
            except ValueError as error:
                failures.append(RequestFailure(message.id, str(error)))
        return requests, failures

    def read(self, message: pb.Request) -> EngineRequest:
        """Read one request.

        Raises:
            ValueError: a parameter that cannot be computed, or an input this shard cannot take.
        """
        parameters, stopping = message.parameters, message.stopping_parameters
        if parameters.logit_bias:
            raise RequestRefusedError("logit_bias by text is not supported by this shard; send token_bias")
        if message.adapter_id:
            raise RequestRefusedError("adapters are not supported by this shard; leave adapter_id out")
        if stopping.max_new_tokens == 0:
            raise RequestRefusedError("max_new_tokens is 0; it must be at least 1")
        grammar = self._compile_grammar(parameters) if parameters.grammar else None
        criteria = StoppingCriteria(
            max_new_tokens=stopping.max_new_tokens,
            stop_sequences=tuple(stopping.stop_sequences),
            # At the end of a grammar there is nothing to go on with.
            ignore_eos=stopping.ignore_eos_token and grammar is None,
            eos_ids=self._eos_ids,
            stop_ids=frozenset(stopping.stop_token_ids),
            min_new_tokens=stopping.min_new_tokens if grammar is None else 0,
        )
        return EngineRequest(
            id=message.id,
            prompt_ids=self.prompt_ids(message),
            sampling=SamplingParameters(
                temperature=parameters.temperature,
                top_k=parameters.top_k,
                top_p=parameters.top_p,
                typical_p=parameters.typical_p,
                do_sample=parameters.do_sample,
                seed=parameters.seed,
                repetition_penalty=parameters.repetition_penalty,
                frequency_penalty=parameters.frequency_penalty,
                min_p=parameters.min_p,
                presence_penalty=parameters.presence_penalty,
                token_bias=dict(parameters.token_bias),
                watermark=parameters.watermark,
                min_new_tokens=criteria.min_new_tokens,
                end_ids=criteria.end_ids,
            ),
            stopping=criteria,
            blocks=tuple(message.blocks),
            cached_length=message.cache_len,
            chunk_length=message.chunk_len if message.HasField("chunk_len") else None,
            top_n_tokens=message.top_n_tokens,
            prompt_logprobs=message.prefill_logprobs,
            prompt_top_n_tokens=message.prefill_top_n_tokens,
            grammar=grammar,
        )

    def prompt_ids(self, message: pb.Request) -> tuple[int, ...]:
        """The prompt's tokens: those that were sent, else its text tokenized, the last `truncate` of it.

        Raises:
            RequestRefusedError: a chunk is not text.
        """
        if message.input_ids:
            return tuple(message.input_ids)
        for chunk in message.input_chunks.chunks:
            if chunk.WhichOneof("chunk") != "text":
                raise RequestRefusedError("this model reads text only; send no image chunks")
        text = "".join(chunk.text for chunk in message.input_chunks.chunks) or message.inputs
        ids = self._tokenizer.encode(text, message.add_special_tokens)
        return tuple(ids[-message.truncate :] if message.truncate else ids)

    def _compile_grammar(self, parameters: pb.NextTokenChooserParameters) -> CompiledGrammar:
        kind = GRAMMAR_KINDS.get(parameters.grammar_type)
        if kind is None:
            raise RequestRefusedError(
                f"grammar_type is {parameters.grammar_type}; it must be JSON, REGEX or LARK"
            )
        if self._grammars is None:
            raise RequestRefusedError("this model's tokenizer allows for no grammar; leave it out")
        return self._grammars.compile(Grammar(kind, parameters.grammar))


def write_step(result: StepResult, answer: pb.PrefillResponse | pb.DecodeResponse, total_ns: int) -> None:
    """Fill the answer of Prefill or Decode."""
    answer.generations.extend(write_generation(output) for output in result.outputs)
    answer.errors.extend(
        pb.RequestError(request_id=failure.request_id, message=failure.message) for failure in result.failures
    )
    if result.batch is not None:
        answer.batch.CopyFrom(write_batch(result.batch))
    answer.forward_ns = result.forward_ns
    answer.decode_ns = result.decode_ns
    answer.total_ns = total_ns
    if result.concat_ns is not None:
        answer.concat_ns = result.concat_ns


def write_batch(batch: BatchState) -> pb.CachedBatch:
    """A batch as the router keeps it."""
    return pb.CachedBatch(
        id=batch.id,
        request_ids=batch.request_ids,
        size=len(batch.request_ids),
        max_tokens=batch.max_tokens,
        current_tokens=batch.next_tokens,
    )


def write_generation(output: Output) -> pb.Generation:
    """One request's share of a step."""
    generation = pb.Generation(
        request_id=output.request_id,
        tokens=pb.Tokens(
            ids=(output.token_id,),
            logprobs=(output.logprob,),
            texts=(output.text,),
            is_special=(output.is_special,),
        ),
    )
    if output.prompt_tokens is not None:
        generation.prefill_tokens.CopyFrom(write_tokens(output.prompt_tokens))
    generation.prefill_top_tokens.extend(map(write_tokens, output.prompt_top_tokens))
    if output.top_tokens is not None:
        generation.top_tokens.append(write_tokens(output.top_tokens))
    if output.final is not None:
        generation.generated_text.CopyFrom(
            pb.GeneratedText(
                text=output.final.text,
                generated_tokens=output.final.generated_tokens,
                finish_reason=FINISH_REASONS[output.final.finish_reason],
                seed=output.final.seed,
            )
        )
    return generation


def write_tokens(tokens: TokenList) -> pb.Tokens:
    """A list of tokens; lists of equal length."""
    return pb.Tokens(
        ids=tokens.ids, logprobs=tokens.logprobs, texts=tokens.texts, is_special=tokens.is_special
    )
