"""What was called, with which addresses: enough to do it again."""

import ctypes
import weakref
from collections import defaultdict
from collections.abc import Mapping, Sequence
from ctypes import Structure, addressof, c_void_p, cast
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tgi_shard.kernels.calls import RecordedCall, ReplayCall

_COMPUTES_NOTHING = frozenset(
    {
        torch.ops.aten.alias.default,
        torch.ops.aten.detach.default,
        torch.ops.aten.lift_fresh.default,
        torch.ops.aten.select.int,
        torch.ops.aten.slice.Tensor,
        torch.ops.aten.view.default,
        torch.ops.aten.view.dtype,
    }
)
"""Operations that only look at memory another way."""

Memory = npt.NDArray[np.int16]
Function = Any
"""A function of a library that ctypes has loaded: its class is private."""


class Recording(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not type it
    """Calls in the order they were made, and the memory of their results.

    Memory of a result that nobody holds any more goes to later results of the same size, as the allocator
    would have it: what is recorded is as small as what runs.

    Attributes:
        complete: kernels did everything. An operation of torch's among them is not recorded, and the calls
            without it would compute something else.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.complete = True
        self._calls: list[tuple[Function, Structure]] = []
        self._free: defaultdict[int, list[Memory]] = defaultdict(list)

    def add(self, function: Function, arguments: Structure) -> None:
        """Note a call."""
        self._calls.append((function, arguments))

    def empty(self, rows: int, columns: int) -> Tensor:
        """An uninitialized [rows, columns] bfloat16 tensor whose memory lives as long as the recording."""
        count = rows * columns
        memory = self._free[count].pop() if self._free[count] else _aligned(count)
        # Tensors hold the array they were made from; once all are gone, the array is, and its memory is free.
        own = memory[:]
        weakref.finalize(own, self._free[count].append, memory)
        return torch.from_numpy(own).view(torch.bfloat16).view(rows, columns)

    def finish(self) -> ReplayCall:
        """The calls as `Kernel.REPLAY` takes them; valid as long as the recording lives."""
        calls = (RecordedCall * len(self._calls))()
        for recorded, (function, arguments) in zip(calls, self._calls, strict=True):
            recorded.kernel = cast(function, c_void_p).value
            recorded.call = addressof(arguments)
        return ReplayCall(ctypes.cast(calls, ctypes.POINTER(RecordedCall)), len(calls))

    def __torch_dispatch__(
        self,
        function: Any,  # noqa: ANN401 - torch's own signature
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """See whether torch computes anything."""
        result = function(*args, **(kwargs or {}))
        # Whole numbers are the layout's: every step computes them anew, outside of what is recorded.
        is_layout = isinstance(result, Tensor) and not result.is_floating_point()
        if function not in _COMPUTES_NOTHING and not is_layout:
            self.complete = False
        return result


def _aligned(count: int) -> Memory:
    """Memory that begins with a line of the processor's caches."""
    line, size = 64, np.dtype(np.int16).itemsize
    memory = np.empty(count + line // size, dtype=np.int16)
    start = -memory.ctypes.data % line // size
    return memory[start : start + count]
