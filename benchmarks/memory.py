"""How much memory a function holds."""

import os
import time
import tracemalloc


def peak(function):
    """Largest sum of numpy arrays alive, MB; inputs and memory maps of files do not count."""
    tracemalloc.start()
    function()
    size = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return size


def resident(function):
    """Return (MB by which a process of its own grows, its CPU seconds) while it calls `function`.

    All that is held counts: mapped pages of files, torch's tensors, shared memory. Linux only.
    """
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # forget the largest size so far
        before = _kilobytes("VmRSS")
        start = time.process_time()
        function()
        spent = time.process_time() - start
        os.write(theirs, f"{_kilobytes('VmHWM') - before} {spent}".encode())
        os._exit(0)
    os.close(theirs)
    with open(ours) as file:
        told = file.read()
    os.waitpid(child, 0)
    if not told:
        raise RuntimeError("the process that was measured died")
    grown, spent = told.split()
    return int(grown) / 1e3, float(spent)


def _kilobytes(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))
