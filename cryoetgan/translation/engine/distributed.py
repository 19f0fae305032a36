"""Several devices, by Lightning Fabric: it starts the processes and connects them.

Loaded only where more than one device is asked for, or where Slurm has started several tasks.
"""

import logging
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor, distributed

from cryoetgan.errors import UserError
from cryoetgan.translation.engine.process_group import Team

log = logging.getLogger("cryoetgan")
T = TypeVar("T")


def slurm_tasks() -> int:
    """Return how many tasks `srun` has started of this command; 1 without it.

    A batch script has the job's task count in its environment but is a single process: only
    the step's own variable tells.
    """
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))


def join_team(devices: int, device: torch.device) -> tuple[Team, torch.device]:
    """Return the team of processes that train together, and this one's device.

    Parameters
    ----------
    devices : int
        Devices of this machine to train on: as many processes, of which this one starts the
        others. Under `srun` each task is one already.
    device : torch.device
        cpu or cuda.

    Raises
    ------
    UserError
        Where Fabric is not installed, or there are not as many devices.
    """
    tasks = slurm_tasks()
    if devices < 2 and tasks < 2:
        return Team(), device
    fabric_of, environments = _fabric(devices, tasks)
    nodes = int(os.environ.get("SLURM_NNODES", "1")) if tasks > 1 else 1
    each = tasks // nodes if tasks > 1 else devices
    if tasks > 1 and devices not in (1, each):
        raise UserError(
            f"--devices: got {devices}, but srun has started {each} tasks a node; one task a "
            "device: srun --ntasks-per-node with the same number, or leave the option out"
        )
    there = torch.cuda.device_count()
    if device.type == "cuda" and each > there:
        if tasks > 1:
            raise UserError(
                f"srun has started {each} tasks a node, and each sees {there} GPUs; every task "
                "must see all of the node's: --gpus-per-node, not --gpus-per-task"
            )
        raise UserError(f"--devices: got {each}, but PyTorch finds {there} GPUs; ask for fewer")
    try:
        around = (
            environments.SLURMEnvironment(auto_requeue=False)
            if tasks > 1
            else environments.LightningEnvironment()
        )
        fabric = fabric_of.Fabric(
            accelerator=device.type, devices=each, num_nodes=nodes, strategy="ddp", plugins=[around]
        )
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"--devices: {error}") from error
    if fabric.global_rank:
        log.setLevel(logging.ERROR)  # the first process says what there is to say
    return Several(fabric.global_rank, fabric.world_size, fabric.device), fabric.device


def _fabric(devices: int, tasks: int) -> tuple[Any, Any]:
    """Return Fabric and its environments: a package of its own, or part of `lightning`."""
    for name in ("lightning_fabric", "lightning.fabric"):
        try:
            return import_module(name), import_module(f"{name}.plugins.environments")
        except ImportError:
            continue
    raise UserError(
        f"--devices: got {devices} (Slurm tasks: {tasks}); more than one wants Lightning Fabric: "
        "pip install 'cryoetgan[multi]', or train on one"
    )


class Several(Team):
    """One of several connected processes.

    Parameters
    ----------
    rank, count : int
        Which of how many.
    device : torch.device
        Where its tensors are.
    """

    def __init__(self, rank: int, count: int, device: torch.device) -> None:
        self.rank, self.count, self.device = rank, count, device

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their mean over all processes, in place; sent as one."""
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        parts = (flat / self.count).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def anyone(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        flags = torch.tensor([float(flag)], device=self.device)
        distributed.all_reduce(flags)
        return bool(flags.item())

    def gather(self, item: Any) -> list[Any]:
        """Return every process's item, in order of rank."""
        items: list[Any] = [None] * self.count
        distributed.all_gather_object(items, item)
        return items

    def first(self, make: Callable[[], T]) -> T:
        """Return what process 0 makes; its `UserError` ends all."""
        said: list[Any] = [None, None]
        if self.rank == 0:
            try:
                said[0] = make()
            except UserError as error:
                said[1] = str(error)
        distributed.broadcast_object_list(said, src=0)
        if said[1] is not None:
            self.fail(UserError(said[1]))
        made: T = said[0]
        return made

    def fail(self, error: Exception) -> NoReturn:
        """End a run for a reason that every process has: the first says it."""
        if self.rank:
            raise SystemExit(0)
        raise error

    def leave(self) -> None:
        """Wait for the others and part."""
        distributed.barrier()
        distributed.destroy_process_group()
