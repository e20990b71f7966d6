"""One rank needs nobody; several find each other, or say why not."""

import socket
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from tgi_shard.distributed import Collective, DistributedError, World, connect
from tgi_shard.platform import CpuPlatform


def test_a_world_of_one_exchanges_nothing() -> None:
    collective = connect(CpuPlatform(), World(), "nowhere.invalid", 1)
    numbers = torch.arange(6.0).view(2, 3)
    assert collective.all_reduce(numbers) is numbers
    assert collective.all_gather_last_dim(numbers) is numbers
    assert not dist.is_initialized()
    collective.close()


def test_a_rank_that_waits_alone_gives_up_and_says_where_it_waited(free_port: int) -> None:
    with pytest.raises(DistributedError, match=rf"rank 0 of 2 .* localhost:{free_port} within 1 s"):
        connect(CpuPlatform(), World(0, 2), "localhost", free_port, timedelta(seconds=1))


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DistributedError, match=rf"could not join the others at localhost:{port}"):
            connect(CpuPlatform(), World(0, 2), "localhost", port, timedelta(seconds=1))


def exchange(rank: int, port: int) -> None:
    collective = connect(CpuPlatform(), World(rank, 2), "localhost", port, timedelta(seconds=30))
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        own = torch.full((2, 3), 1.0 + rank, dtype=dtype)
        joined = collective.all_gather_last_dim(own[:, 1:])
        assert joined.tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]
        assert collective.all_reduce(own) is own
        assert own.tolist() == [[3, 3, 3], [3, 3, 3]]
    assert collective.all_same(-(2**63), torch.device("cpu"))
    assert not collective.all_same(rank, torch.device("cpu"))
    if rank == 1:
        collective.close()
        return
    with pytest.raises(DistributedError, match="rank 0 of 2 lost touch with the others"):
        collective.all_reduce(torch.ones(4))
    dist.destroy_process_group()
    assert Collective(World(0, 2)).close() is None  # closing twice is fine


def test_ranks_sum_and_join_in_every_dtype_and_notice_when_one_leaves(free_port: int) -> None:
    multiprocessing.spawn(exchange, (free_port,), nprocs=2)
