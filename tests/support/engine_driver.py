"""A driver that stands in for the router in front of a real engine."""

from dataclasses import dataclass, field

from tgi_shard.engine.engine import Engine
from tgi_shard.engine.request import EngineRequest
from tgi_shard.engine.results import Output, StepResult
from tgi_shard.engine.stopping import StoppingCriteria
from tgi_shard.sampling.parameters import SamplingParameters

BLOCK = 16


def make_request(
    request_id: int,
    prompt: str,
    *,
    new_tokens: int = 12,
    first_block: int | None = None,
    sampling: SamplingParameters | None = None,
    **fields: object,
) -> EngineRequest:
    """A request over the tiny tokenizer's bytes, in blocks of its own unless told otherwise."""
    prompt_ids = tuple(10 + ord(character) % 200 for character in prompt)
    blocks = -(-(len(prompt_ids) + new_tokens) // BLOCK)
    start = 1 + 8 * request_id if first_block is None else first_block
    stopping = StoppingCriteria(
        max_new_tokens=new_tokens, stop_sequences=(), ignore_eos=True, eos_ids=frozenset()
    )
    return EngineRequest(
        id=request_id,
        prompt_ids=prompt_ids,
        sampling=sampling or SamplingParameters(),
        blocks=tuple(range(start, start + blocks)),
        **{"stopping": stopping, **fields},  # type: ignore[arg-type]
    )


@dataclass
class Driver:
    """Steps one batch and keeps what each request was answered."""

    engine: Engine
    outputs: dict[int, list[Output]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    batch: int | None = None

    def prefill(self, *requests: EngineRequest, batch_id: int = 0) -> StepResult:
        return self._take(self.engine.prefill(batch_id, list(requests), self.batch))

    def decode(self) -> StepResult:
        assert self.batch is not None
        return self._take(self.engine.decode([self.batch]))

    def finish(self) -> "Driver":
        while self.batch is not None:
            self.decode()
        return self

    def tokens(self, request_id: int) -> list[int]:
        return [output.token_id for output in self.outputs[request_id]]

    def _take(self, result: StepResult) -> StepResult:
        for output in result.outputs:
            self.outputs.setdefault(output.request_id, []).append(output)
        self.failures |= {failure.request_id: failure.message for failure in result.failures}
        self.batch = result.batch.id if result.batch is not None else None
        return result


def alone(engine: Engine, request: EngineRequest) -> list[int]:
    """The tokens of a request that has the engine to itself."""
    own = Driver(engine)
    own.prefill(request, batch_id=999)
    return own.finish().tokens(request.id)
