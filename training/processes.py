"""One or several processes that train together: they share work and gather results.

Under `torchrun`, a process joins the others. Otherwise it works alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed, nn

from sdk import UsageError
from sdk.arrays import Floats, Indices

__all__ = ["Processes", "joined_processes"]


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: 0 to count - 1. Rank 0 writes the files.
        count: number of processes.
        device: where this process computes.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and draws progress."""
        return self.rank == 0

    def share(self, rows: Indices) -> Indices:
        """This process's rows: every `count`-th one."""
        return rows[self.rank :: self.count]

    def gather(self, part: Floats, total: int) -> Floats:
        """Join what all processes computed for their `share`, in the original order of the rows.

        Args:
            part: float32 (n, D), this process's result.
            total: number of rows over all processes.
        """
        if self.count == 1:
            return part
        most = -(-total // self.count)
        padded = torch.zeros((most, part.shape[1]), device=self.device)
        padded[: len(part)] = torch.from_numpy(part).to(self.device)
        parts = [torch.zeros_like(padded) for _ in range(self.count)]
        distributed.all_gather(parts, padded)
        # (most, count, D): row i of process r is row i * count + r.
        rows: Floats = torch.stack(parts, dim=1).reshape(-1, part.shape[1])[:total].cpu().numpy()
        return rows

    def agree(self, net: nn.Module) -> None:
        """Copy rank 0's batch-norm statistics to all processes, because each sees other batches."""
        if self.count > 1:
            for buffer in net.buffers():
                distributed.broadcast(buffer, 0)

    def wait(self) -> None:
        """Wait until all processes have reached this call."""
        if self.count > 1:
            distributed.barrier()


@contextmanager
def joined_processes(device: str | None = None) -> Iterator[Processes]:
    """Join the processes that `torchrun` started, and leave them when the block ends.

    Args:
        device: "cpu" or "cuda". None for a GPU if there is one.

    Raises:
        UsageError: there is no such device.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
        raise UsageError(f"device {kind!r} is not available; use cpu, or cuda on a machine where torch sees a GPU")
    rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    here = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(here)
        torch.backends.cudnn.benchmark = False  # it picks kernels by timing, so runs would differ
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False  # true float32; `precision` selects less
    if count == 1:
        yield Processes(0, 1, here)
        return
    # The first process may prepare images for hours while the others wait.
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=timedelta(hours=24))
    yield Processes(rank, count, here)
    # Not after an error: the others may wait in a collective, and torchrun stops them.
    distributed.destroy_process_group()
