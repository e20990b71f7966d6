"""Steps that only decode, recorded once and replayed: what CUDA graphs are to a GPU.

A layer is nine calls, and Python between them costs more than the smaller ones take. With as many rows as
before a step makes the very same calls: only token ids, angles and the layout have changed, and these are
copied to where the recorded calls look for them.
"""

from dataclasses import dataclass

from torch import Tensor

from tgi_shard.attention.cpu_backend import CpuAttentionPlan
from tgi_shard.attention.interface import AttentionPlan
from tgi_shard.cache.paged import KVCache
from tgi_shard.kernels.calls import ReplayCall
from tgi_shard.kernels.library import CpuKernels, Kernel
from tgi_shard.kernels.recording import Recording
from tgi_shard.layers.rope import Rotation
from tgi_shard.ops.steps import Body

MAX_ROWS = 64
"""With more rows the time between calls no longer shows."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A recorded step and where it reads and writes."""

    ids: Tensor
    rotation: Rotation
    plan: CpuAttentionPlan
    recording: Recording
    replay: ReplayCall
    hidden: Tensor


class CpuGraphs:
    """The graphs of one model, by number of rows; all for one KV cache."""

    def __init__(self, kernels: CpuKernels) -> None:
        self._kernels = kernels
        self._graphs: dict[int, Graph] = {}
        self._cache: KVCache | None = None
        self._recordable = True

    def run(self, body: Body, ids: Tensor, rotation: Rotation, plan: AttentionPlan) -> Tensor:
        """As `StepRunner.run`."""
        rows = len(ids)
        assert isinstance(plan, CpuAttentionPlan), "the graphs belong to CpuAttention"
        if rows > MAX_ROWS or not plan.decodes_only or not self._recordable:
            return body(ids, rotation, plan)
        if plan.cache is not self._cache:
            self._graphs.clear()
            self._cache = plan.cache
        graph = self._graphs.get(rows)
        if graph is None:
            return self._record(body, ids, rotation, plan)
        graph.ids.copy_(ids)
        graph.rotation.cos.copy_(rotation.cos)
        graph.rotation.sin.copy_(rotation.sin)
        graph.plan.become(plan)
        self._kernels.call(Kernel.REPLAY, graph.replay)
        return graph.hidden

    def _record(self, body: Body, ids: Tensor, rotation: Rotation, plan: CpuAttentionPlan) -> Tensor:
        """Compute, and keep the calls if they were all there was to it."""
        ids, rotation = ids.clone(), Rotation(rotation.cos.clone(), rotation.sin.clone())
        with self._kernels.record() as recording:
            hidden = body(ids, rotation, plan)
        self._recordable = recording.complete
        if recording.complete:
            graph = Graph(ids, rotation, plan, recording, recording.finish(), hidden)
            self._graphs[len(ids)] = graph
        return hidden
