"""One or several processes that train together: they share work and gather results.

Started by `torchrun`, a process finds the others; started alone, it is the only one.
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
        rank: of this one, 0 to count - 1. Rank 0 writes files.
        count: of all.
        device: of this one.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and draws progress."""
        return self.rank == 0

    def share(self, rows: Indices) -> Indices:
        """This process's part of the rows: each `count`-th."""
        return rows[self.rank :: self.count]

    def gather(self, part: Floats, total: int) -> Floats:
        """All rows, in their order, from what each process made of its `share`.

        Args:
            part: float32 (n, D).
            total: rows of all.
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
        """Give every process the first one's batch-norm statistics: each follows its own part of the batches."""
        if self.count > 1:
            for buffer in net.buffers():
                distributed.broadcast(buffer, 0)

    def wait(self) -> None:
        """Until all have come here."""
        if self.count > 1:
            distributed.barrier()


@contextmanager
def joined_processes(device: str | None = None) -> Iterator[Processes]:
    """This process, joined with the others that `torchrun` started; left again at the end.

    Args:
        device: "cpu" or "cuda"; a GPU unless given, if there is one.

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
        torch.backends.cudnn.benchmark = False  # it picks by timing, and so differently each time
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32; `precision` is how to have less
    if count == 1:
        yield Processes(0, 1, here)
        return
    # The first process may prepare images for hours while the others wait.
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=timedelta(hours=24))
    yield Processes(rank, count, here)
    # Not after an error: the others may be inside of a collective, and torchrun ends them.
    distributed.destroy_process_group()
