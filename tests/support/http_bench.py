"""The router's HTTP side with a batcher that does what a test says, behind a real socket."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from support.byte_tokenizer import BOS, BOS_ID, byte_tokenizer
from tgi_router.batching.entry import Entry
from tgi_router.generation import (
    EndEvent,
    FinishReason,
    GenerationEvent,
    InferenceError,
    Token,
    TokenEvent,
    ValidRequest,
)
from tgi_router.http.application import build_application
from tgi_router.http.services import HttpOptions, Services
from tgi_router.infer import Inference
from tgi_router.schema.info import Info
from tgi_router.telemetry.metrics import Metrics
from tgi_router.text.byte_vocabulary import byte_vocabulary
from tgi_router.text.dialect import Dialect
from tgi_router.text.grammar import GrammarChecker, GrammarLimits
from tgi_router.text.templates import ChatTemplate
from tgi_router.text.tokenizer import PromptTokenizer
from tgi_router.text.tools.formats import HERMES
from tgi_router.text.workers import TextWorkers
from tgi_router.validation.limits import RequestLimits
from tgi_router.validation.validator import Validator

LIMITS = RequestLimits(
    max_input_tokens=1000,
    max_total_tokens=1100,
    max_best_of=2,
    max_stop_sequences=4,
    max_top_n_tokens=5,
    max_choices=3,
    max_messages=8,
    max_tools=4,
    max_biased_tokens=6,
)
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'nobody' %}"
    "{{ raise_exception('unknown role') }}{% endif %}[{{ message.role }}]{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
PLAIN = Dialect(HERMES, None, {BOS: BOS_ID})
Script = Callable[[ValidRequest], Sequence[GenerationEvent | InferenceError]]


@dataclass
class ScriptedBatcher:
    """Answers each request at once as its script says; without one, a test pushes the events itself.

    Attributes:
        entries: everything submitted.
        cancelled: what was cancelled, in order.
        refusal: raised by `submit`.
    """

    script: Script | None = None
    refusal: InferenceError | None = None
    entries: list[Entry] = field(default_factory=list)
    cancelled: list[Entry] = field(default_factory=list)

    def submit(self, request: ValidRequest, *, arrived_at: float) -> Entry:
        if self.refusal is not None:
            raise self.refusal
        entry = Entry(len(self.entries), request, arrived_at=arrived_at, queued_at=time.monotonic())
        self.entries.append(entry)
        if self.script is not None:
            for event in self.script(request):
                if isinstance(event, InferenceError):
                    entry.stream.end(event)
                else:
                    entry.stream.push(event)
            entry.stream.end()
        return entry

    def cancel(self, entry: Entry) -> None:
        self.cancelled.append(entry)
        entry.stream.discard()

    @property
    def request(self) -> ValidRequest:
        """The last request submitted."""
        return self.entries[-1].request


@dataclass
class ScriptedHealth:
    """Says what a test wants."""

    fault: str | None = None

    async def check(self) -> str | None:
        return self.fault


@dataclass
class HttpBench:
    """A client and what stands behind the server it talks to."""

    client: TestClient[Any, Any]
    batcher: ScriptedBatcher
    inference: Inference
    metrics: Metrics
    health: ScriptedHealth

    async def post(self, path: str, body: Any, **options: Any) -> ClientResponse:
        """POST JSON."""
        return await self.client.post(path, json=body, **options)

    async def generate(self, **parameters: Any) -> Any:
        """POST /generate with these parameters; the answer's JSON."""
        reply = await self.post("/generate", {"inputs": "hello", "parameters": parameters})
        assert reply.status == 200, await reply.text()
        return await reply.json()

    def sample(self, line: str) -> float:
        """The value of one sample of /metrics."""
        for text in self.metrics.exposition().decode().splitlines():
            if text.startswith(line + " "):
                return float(text.rsplit(" ", 1)[1])
        raise KeyError(line)


async def start_bench(
    script: Script | None = None,
    *,
    max_concurrent_requests: int = 8,
    template: str = TEMPLATE,
    dialect: Dialect = PLAIN,
    **options: Any,
) -> HttpBench:
    """A running server; `options` are those of `make_services`. Close `client` at the end."""
    batcher, health = ScriptedBatcher(script), ScriptedHealth()
    services = make_services(
        batcher, health, max_concurrent_requests, template=template, dialect=dialect, **options
    )
    # It cancels the handlers of clients that go away, as the router's own start does.
    client = TestClient(TestServer(build_application(services)))
    await client.start_server()
    return HttpBench(client, batcher, services.inference, services.metrics, health)


def make_services(
    batcher: ScriptedBatcher,
    health: ScriptedHealth | None = None,
    max_concurrent_requests: int = 8,
    *,
    template: str = TEMPLATE,
    dialect: Dialect = PLAIN,
    **options: Any,
) -> Services:
    """What the routes need, on a scripted batcher; `options` are of HttpOptions."""
    metrics = Metrics(max_input_tokens=LIMITS.max_input_tokens, max_total_tokens=LIMITS.max_total_tokens)
    workers = TextWorkers(1, 16)
    tokenizer = PromptTokenizer(byte_tokenizer())
    vocabulary = byte_vocabulary(tokenizer.special_tokens(), tokenizer.size)
    grammars = GrammarChecker(vocabulary, GrammarLimits(max_source_bytes=4000))
    plain: dict[str, Any] = {
        "payload_limit": 2_000_000,
        "max_client_batch_size": 2,
        "cors_allow_origin": (),
        "compute_type": "cpu+optimized",
        "api_keys": (),
        "protect_metrics": False,
        "kserve": False,
        "aip_health_route": None,
        "aip_predict_route": None,
        "body_timeout": 60.0,
    }
    return Services(
        inference=Inference(batcher, metrics, max_concurrent_requests=max_concurrent_requests),
        validator=Validator(LIMITS, tokenizer, workers, grammars),
        template=ChatTemplate(template, {"bos_token": BOS}),
        dialect=dialect,
        workers=workers,
        health=health or ScriptedHealth(),
        metrics=metrics,
        info=make_info(max_concurrent_requests),
        options=HttpOptions(**plain | options),
        started_at=1_700_000_001,
    )


def make_info(max_concurrent_requests: int = 8) -> Info:
    """What /info says."""
    return Info(
        model_id="org/model",
        max_concurrent_requests=max_concurrent_requests,
        max_best_of=LIMITS.max_best_of,
        max_stop_sequences=LIMITS.max_stop_sequences,
        max_input_tokens=LIMITS.max_input_tokens,
        max_total_tokens=LIMITS.max_total_tokens,
        validation_workers=1,
        max_client_batch_size=2,
        version="1.2.3",
        max_top_n_tokens=LIMITS.max_top_n_tokens,
        model_dtype="float32",
        model_device_type="cpu",
        max_batch_total_tokens=1000,
        max_batch_prefill_tokens=500,
    )


def token(number: int, text: str, *, special: bool = False, logprob: float = -0.5) -> Token:
    """A token."""
    return Token(number, text, logprob, special)


def events(
    *texts: str,
    reason: FinishReason = FinishReason.EOS_TOKEN,
    seed: int | None = None,
    top: int = 0,
    logprob: float = -0.5,
) -> list[GenerationEvent]:
    """A generation of these texts; one that ends with the end-of-sequence token gets that token too."""
    tokens = [token(number, text, logprob=logprob) for number, text in enumerate(texts, 10)]
    if reason is FinishReason.EOS_TOKEN:
        tokens.append(token(2, "</s>", special=True, logprob=logprob))
    tops = [token(100 + place, f"t{place}", logprob=-1.0 - place) for place in range(top)]
    now = time.monotonic()
    end = EndEvent(tokens[-1], tops, "".join(texts), reason, len(tokens), seed, now, now)
    return [*(TokenEvent(one, tops) for one in tokens[:-1]), end]


def says(*texts: str, **options: Any) -> Script:
    """A script that answers every request with these texts."""
    return lambda _: events(*texts, **options)
