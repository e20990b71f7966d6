"""Calls a shard as TGI's own router does: prompts as text, KV slots spelled out, no field that TGI lacks."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from support.waiting import eventually
from tgi_proto import generate_pb2 as pb
from tgi_proto import generate_pb2_grpc

PREFILL_BUDGET = 4096
DEADLINE_SECONDS = 60.0


@dataclass
class TgiCaller:
    """One shard and the KV blocks that this caller has given away."""

    stub: generate_pb2_grpc.TextGenerationServiceStub
    process: "subprocess.Popen[bytes]"
    log_path: Path
    block_size: int = 0
    next_block: int = 1
    texts: dict[int, str] = field(default_factory=dict)
    finished: dict[int, pb.GeneratedText] = field(default_factory=dict)

    def start(self) -> None:
        """The calls of a router's start, in its order."""
        self.stub.ServiceDiscovery(pb.ServiceDiscoveryRequest())
        self.stub.ClearCache(pb.ClearCacheRequest())
        self.block_size = self.stub.Info(pb.InfoRequest()).block_size
        self.stub.Warmup(warmup_request(), timeout=DEADLINE_SECONDS)

    def request(self, request_id: int, inputs: str, room: int = 200, **fields: object) -> pb.Request:
        """A greedy request with blocks for so many tokens of prompt and answer."""
        count = -(-room // self.block_size)
        blocks = range(self.next_block, self.next_block + count)
        self.next_block += count
        request = pb.Request(
            id=request_id,
            input_chunks=pb.Input(chunks=[pb.InputChunk(text=inputs)]),
            inputs=inputs,
            truncate=1024,
            add_special_tokens=True,
            parameters=neutral_parameters(),
            stopping_parameters=pb.StoppingCriteriaParameters(max_new_tokens=30),
            blocks=blocks,
            slots=[block * self.block_size + place for block in blocks for place in range(self.block_size)][
                :room
            ],
        )
        request.MergeFrom(pb.Request(**fields))
        return request

    def prefill(
        self, batch_id: int, requests: Sequence[pb.Request], cached: pb.CachedBatch | None = None
    ) -> pb.CachedBatch | None:
        """Send new requests, joined to a cached batch or alone."""
        batch = pb.Batch(id=batch_id, requests=requests, size=len(requests), max_tokens=PREFILL_BUDGET)
        return self._keep(self.stub.Prefill(pb.PrefillRequest(batch=batch, cached_batch=cached)))

    def decode(self, *batches: pb.CachedBatch) -> pb.CachedBatch | None:
        """Run one step."""
        return self._keep(self.stub.Decode(pb.DecodeRequest(batches=batches)))

    def run(self, batch: pb.CachedBatch | None) -> None:
        """Decode until every request has ended, telling the shard which ended, as TGI's router does."""
        while batch is not None:
            batch = self.decode(batch)
            if batch is not None and (left := [i for i in batch.request_ids if i not in self.finished]):
                if len(left) < len(batch.request_ids):
                    kept = pb.FilterBatchRequest(batch_id=batch.id, request_ids=left)
                    batch = self.stub.FilterBatch(kept).batch
            elif batch is not None:
                self.stub.ClearCache(pb.ClearCacheRequest(id=batch.id))
                batch = None

    def _keep(self, answer: pb.PrefillResponse | pb.DecodeResponse) -> pb.CachedBatch | None:
        for generation in answer.generations:
            assert generation.request_id not in self.finished, "a request that ended was stepped again"
            self.texts[generation.request_id] = self.texts.get(generation.request_id, "") + "".join(
                generation.tokens.texts
            )
            if generation.HasField("generated_text"):
                self.finished[generation.request_id] = generation.generated_text
        return answer.batch if answer.HasField("batch") else None


def neutral_parameters() -> pb.NextTokenChooserParameters:
    """Greedy."""
    return pb.NextTokenChooserParameters(temperature=1, top_p=1, typical_p=1, repetition_penalty=1)


def warmup_request() -> pb.WarmupRequest:
    """The batch that TGI's router builds (backends/v3/src/client/grpc_client.rs), image included."""
    chunks = [
        pb.InputChunk(text="_test " * PREFILL_BUDGET),
        pb.InputChunk(image=pb.Image(mimetype="image/jpeg;base64")),
    ]
    parameters = pb.NextTokenChooserParameters(
        temperature=0.9,
        top_k=10,
        top_p=0.9,
        typical_p=0.9,
        repetition_penalty=1.2,
        frequency_penalty=0.1,
        watermark=True,
    )
    request = pb.Request(
        input_chunks=pb.Input(chunks=chunks),
        inputs="_test " * PREFILL_BUDGET,
        truncate=PREFILL_BUDGET,
        add_special_tokens=True,
        prefill_logprobs=True,
        top_n_tokens=20,
        parameters=parameters,
        stopping_parameters=pb.StoppingCriteriaParameters(max_new_tokens=1, ignore_eos_token=True),
    )
    batch = pb.Batch(requests=[request], size=1)
    return pb.WarmupRequest(batch=batch, max_prefill_tokens=PREFILL_BUDGET)


@contextlib.contextmanager
def calling_a_shard(log_path: Path, *options: str) -> Iterator[TgiCaller]:
    """Start one shard of the demo model alone, and end it by SIGTERM, which must succeed."""
    folder = Path(tempfile.mkdtemp(prefix="tgi-"))
    command = [
        sys.executable,
        "-m",
        "tgi_shard.cli",
        "serve",
        "tgi-demo",
        "--uds-path",
        str(folder / "shard"),
    ]
    socket_path = folder / "shard-0"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*command, *options], stdout=log, stderr=subprocess.STDOUT, env=_environment()
        )
    try:
        eventually(
            lambda: socket_path.exists() or process.poll() is not None, "the shard listens", DEADLINE_SECONDS
        )
        assert process.poll() is None, log_path.read_text()
        with grpc.insecure_channel(f"unix://{socket_path}") as channel:
            grpc.channel_ready_future(channel).result(DEADLINE_SECONDS)
            yield TgiCaller(generate_pb2_grpc.TextGenerationServiceStub(channel), process, log_path)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log_path.read_text()
        eventually(lambda: not socket_path.exists(), "the socket is removed")
    finally:
        process.kill()
        process.wait()
        socket_path.unlink(missing_ok=True)
        folder.rmdir()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in {"RANK", "WORLD_SIZE", "DTYPE"}}
