"""Rows of the joint batch of all processes, put together so that each process's gradients are its part of the whole."""

import torch
import torch.distributed
from torch import Tensor


def gathered(rows: Tensor, total: int | None) -> Tensor:
    """Returns the rows of all processes in the order of the joint batch, in float32 at least.

    Every process computes the whole loss of all rows, of which only its own carry gradient here: what it sends back
    through them is the exact derivative of the joint loss by its own models, and the sum over processes is the gradient
    of the joint batch. It is scaled by the number of processes because `DistributedDataParallel` takes the mean. So
    nothing is sent in the backward pass but the gradients of the parameters.

    Args:
        rows: This process's rows: those of places r, r + W, r + 2W, ... of the joint batch, r of W processes.
        total: N, None where the batch is not shared.

    Shape:
        [n, ...] -> [N, ...].
    """
    if total is None:
        return rows
    world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    own = rows.to(torch.promote_types(rows.dtype, torch.float32))
    if own.requires_grad:
        own.register_hook(lambda gradient: gradient * world)
    most = -(-total // world)
    padded = torch.cat([own, own.new_zeros(most - len(own), *own.shape[1:])])
    parts = [torch.empty_like(padded) for _ in range(world)]
    torch.distributed.all_gather(parts, padded.detach().contiguous())
    parts[rank] = padded
    # Row m of process r stands at place m W + r, so that all padding comes last.
    return torch.stack(parts, dim=1).flatten(0, 1)[:total]
