"""The Triton operator under DDP and FSDP: two processes take the step that one takes on both
packs."""

import socket

import pytest
import torch
from torch import distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from lcframework.models.lcplm import LCPLM

pytest.importorskip("triton", reason="triton has no wheels for this platform")
PACKS = ([0, 3, 8], [0, 5, 6, 7])
RATE = 0.1


def loss_of(network, rank):
    borders = torch.tensor(PACKS[rank], dtype=torch.int32)
    tokens = torch.arange(PACKS[rank][-1]) % 20 + 4
    return F.cross_entropy(network(tokens, borders), tokens)


def network():
    torch.manual_seed(0)
    return LCPLM(8, 2, d_state=4, scan_backend="triton")


def take_step(module, ranks):
    optimizer = torch.optim.SGD(module.parameters(), RATE)
    (sum(loss_of(module, rank) for rank in ranks) / len(ranks)).backward()
    optimizer.step()


def work(rank, port, path, kind):
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    module = network()
    if kind == "ddp":
        wrapped = DistributedDataParallel(module)
        take_step(wrapped, [rank])
        state = module.state_dict()
    else:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (2,))
        for block in module.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(module, mesh=mesh)
        take_step(module, [rank])
        state = {name: value.full_tensor() for name, value in module.state_dict().items()}
    if rank == 0:
        torch.save(state, path)
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="runs in Triton's interpreter, on the CPU")
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_step_as_one(kind, tmp_path):
    alone = network()
    take_step(alone, [0, 1])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = tmp_path / "state.pt"
    torch.multiprocessing.spawn(work, (port, path, kind), nprocs=2)
    found = torch.load(path, weights_only=True)
    assert set(found) == set(alone.state_dict())
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-4, msg=name)
    assert any(not torch.equal(found[n], v) for n, v in network().state_dict().items())
