"""The ranks of a group, and what they send each other: sums, and slices of logits."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from tgi_shard.platform import Platform

DEFAULT_TIMEOUT = timedelta(seconds=120)
"""How long a rank waits for the others, at start and in every exchange (as TGI)."""


class DistributedError(Exception):
    """The ranks could not find each other, or one was lost. The message says where and what to look at."""


@dataclass(frozen=True, slots=True)
class World:
    """This rank's place among all: ranks count from 0."""

    rank: int = 0
    size: int = 1


class Collective:
    """Exchanges between the ranks. In a world of one they cost nothing and need no torch.distributed."""

    def __init__(self, world: World | None = None) -> None:
        self.world = world or World()

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all ranks, in place.

        Raises:
            DistributedError: a rank was lost.
        """
        if self.world.size > 1:
            with _explained(self.world):
                dist.all_reduce(tensor)
        return tensor

    def all_gather_last_dim(self, tensor: Tensor) -> Tensor:
        """Join every rank's [..., n] to [..., ranks * n], in the order of ranks.

        Raises:
            DistributedError: a rank was lost.
        """
        if self.world.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.world.size)]
        with _explained(self.world):
            dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts, dim=-1)

    def all_same(self, number: int, device: torch.device) -> bool:
        """Whether every rank has come here with the same number (int64).

        Raises:
            DistributedError: a rank was lost.
        """
        numbers = self.all_gather_last_dim(torch.tensor([number], device=device))
        return bool((numbers == number).all())

    def close(self) -> None:
        """Leave the group."""
        if self.world.size > 1 and dist.is_initialized():
            dist.destroy_process_group()


def connect(
    platform: Platform,
    world: World,
    master_addr: str,
    master_port: int,
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> Collective:
    """Join the group whose rank 0 listens on `master_addr:master_port`; returns when all ranks are there.

    Raises:
        DistributedError: the port is taken, an address is wrong, or a rank did not come in time.
    """
    if world.size == 1:
        return Collective(world)
    host = f"[{master_addr}]" if ":" in master_addr else master_addr
    try:
        dist.init_process_group(
            platform.distributed_backend,
            init_method=f"tcp://{host}:{master_port}",
            rank=world.rank,
            world_size=world.size,
            timeout=timeout,
        )
    except (RuntimeError, ValueError) as error:
        raise DistributedError(
            f"rank {world.rank} of {world.size} could not join the others at {host}:{master_port}"
            f" within {timeout.total_seconds():.0f} s: {_first_line(error)}"
        ) from error
    return Collective(world)


@contextmanager
def _explained(world: World) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise DistributedError(
            f"rank {world.rank} of {world.size} lost touch with the others: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
