"""One process, or several that train one model together through Lightning Fabric."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor, distributed

from cryoetgan.errors import UserError

log = logging.getLogger("cryoetgan")
T = TypeVar("T")


@dataclass
class ProcessGroup:
    """The processes that train one model together; by default one process alone.

    Attributes
    ----------
    rank : int
        Number of this process; process 0 writes the files.
    count : int
        Number of processes.
    device : torch.device, optional
        Device of the tensors of this process; not used by one alone.
    """

    rank: int = 0
    count: int = 1
    device: torch.device | None = None

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their mean over all processes, in place; sent as one tensor."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        parts = (flat / self.count).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.count == 1:
            return flag
        flags = torch.tensor([float(flag)], device=self.device)
        distributed.all_reduce(flags)
        return bool(flags.item())

    def gather(self, item: Any) -> list[Any]:
        """Return the items of all processes, in order of rank."""
        items = [item] * self.count
        if self.count > 1:
            distributed.all_gather_object(items, item)
        return items

    def from_first(self, function: Callable[[], T]) -> T:
        """Return the result of process 0; if it raises a `UserError`, all processes end."""
        shared: list[Any] = [None]
        if self.rank == 0:
            try:
                shared = [function()]
            except UserError as error:
                shared = [error]
        if self.count > 1:
            distributed.broadcast_object_list(shared, src=0)
        result: T | UserError = shared[0]
        return self.abort(str(result)) if isinstance(result, UserError) else result

    def abort(self, message: str) -> NoReturn:
        """End a run for a reason that all processes share; process 0 raises a `UserError`."""
        if self.rank:
            raise SystemExit(0)
        raise UserError(message)

    def close(self) -> None:
        """Wait for the other processes and leave the group."""
        if self.count > 1:
            distributed.barrier()
            distributed.destroy_process_group()


def slurm_tasks() -> int:
    """Return the number of tasks that `srun` started of this command; 1 without srun.

    A batch script has the task count of its job in its environment although it is a single
    process. Only the variable of the job step is therefore read.
    """
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))


def launch(devices: int, device: torch.device) -> tuple[ProcessGroup, torch.device]:
    """Start or join the processes that train together; return the group and this device.

    Each of `devices` of this machine has one process; this process starts the others. Under `srun`
    each task is one of the processes already. Fabric must be installed, unless there is only one.
    """
    tasks = slurm_tasks()
    if devices < 2 and tasks < 2:
        return ProcessGroup(), device
    fabric, environments = import_fabric(devices, tasks)
    nodes, per_node, environment = 1, devices, environments.LightningEnvironment()
    if tasks > 1:
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        per_node, environment = tasks // nodes, environments.SLURMEnvironment(auto_requeue=False)
    check_devices(devices, per_node, tasks, device)
    try:
        process = fabric.Fabric(
            accelerator=device.type,
            devices=per_node,
            num_nodes=nodes,
            strategy="ddp",
            plugins=[environment],
        )
        process.launch()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"--devices: {error}") from error
    if process.global_rank:
        log.setLevel(logging.ERROR)  # process 0 logs for all
    return ProcessGroup(process.global_rank, process.world_size, process.device), process.device


def check_devices(devices: int, per_node: int, tasks: int, device: torch.device) -> None:
    """Raise a `UserError` if option `--devices` or the GPUs do not match the processes of a node.

    `tasks` is the number of tasks that srun started, 1 without srun.
    """
    if tasks > 1 and devices not in (1, per_node):
        raise UserError(
            f"--devices: got {devices}, but srun started {per_node} tasks a node. Start one task "
            "a device with --ntasks-per-node, or omit --devices"
        )
    available = torch.cuda.device_count()
    if device.type == "cuda" and per_node > available:
        if tasks > 1:
            raise UserError(
                f"srun started {per_node} tasks a node, and each sees {available} GPUs. Every "
                "task must see all GPUs of its node: --gpus-per-node, not --gpus-per-task"
            )
        raise UserError(f"--devices: got {per_node}, but PyTorch finds {available} GPUs")


def import_fabric(devices: int, tasks: int) -> tuple[Any, Any]:
    """Return Fabric and its environments, a package of its own or part of `lightning`."""
    for name in ("lightning_fabric", "lightning.fabric"):
        try:
            return import_module(name), import_module(f"{name}.plugins.environments")
        except ImportError:
            continue
    raise UserError(
        f"--devices: got {devices} (Slurm tasks: {tasks}). Several devices need Lightning Fabric: "
        "pip install 'cryoetgan[multi]', or train on one device"
    )
