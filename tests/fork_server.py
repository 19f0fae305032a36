"""`python -m snakemake` and `python -m cryoetgan` as forks of a process that has loaded the libraries.

A step of the tiny run takes a second, the imports before it take four. Each command is still a
process of its own, with its own folder, variables, output and exit code; of the package nothing is
loaded before. Not for tests that kill: a signal reaches the program `python`, not the fork.
"""

import functools
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

MODULES = ("cryoetgan", "snakemake")
"""What is run by the server; the real Python runs all else."""
LIBRARIES = (
    "jinja2", "matplotlib.backends.backend_agg", "matplotlib.figure", "mrcfile", "pandas",
    "PIL.Image", "pydantic", "rich.logging", "rich.progress", "scipy.fft", "scipy.ndimage",
    "scipy.optimize", "scipy.sparse.linalg", "scipy.spatial.transform", "scipy.stats",
    "smart_open", "snakemake.cli", "snakemake.report.html_reporter", "starfile", "torch._dynamo",
    "typer", "yaml",
)  # fmt: skip
FORK = multiprocessing.get_context("fork")
SERVERS: list[subprocess.Popen] = []
PYTHON = """#!{python} -IS
import json, os, socket, sys
words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
if words[:2] == ["python", "-m"] and words[2] in {modules}:
    words = words[2:]
elif words[0] == "python":
    os.execv({python!r}, [{python!r}, *words[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, [b"-"], [0, 1, 2])
server.sendall(json.dumps([words, os.getcwd(), dict(os.environ)]).encode())
server.shutdown(socket.SHUT_WR)
sys.exit(int(server.recv(16) or b"1"))
"""


@functools.cache
def forking_python() -> Path:
    """Return a program `python`, beside `cryoetgan` and `snakemake`, whose commands a server does.

    The server ends with this process.
    """
    folder = Path(tempfile.mkdtemp(prefix="forks-"))
    address, python = str(folder / "socket"), folder / "python"
    python.write_text(PYTHON.format(python=sys.executable, address=address, modules=MODULES))
    python.chmod(0o755)
    for name in MODULES:
        (folder / name).symlink_to(python)
    # commands that come before the libraries are loaded wait
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(16)
        file = listening.fileno()
        command = [sys.executable, "-I", __file__, str(file), str(folder)]
        SERVERS.append(subprocess.Popen(command, pass_fds=[file], stdin=subprocess.PIPE))
    return python


def serve(listening: socket.socket) -> None:
    """Answer each connection in a fork, until the process that started the server ends."""
    # that process holds the other end of the standard input
    while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
        connection, _ = listening.accept()
        FORK.Process(target=answer, args=(connection,)).start()
        connection.close()


def answer(connection: socket.socket) -> None:
    """Do the command of a connection in a fork, and answer with its exit code."""
    _, files, *_ = socket.recv_fds(connection, 1, 3)
    command = FORK.Process(target=become, args=(*json.loads(connection.makefile().read()), files))
    command.start()
    command.join()
    connection.sendall(str(command.exitcode).encode())


def become(words: list[str], folder: str, environment: dict[str, str], files: list[int]) -> None:
    """Do in this process what `python -m` does with `words`."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [folder, *filter(None, paths)]
    sys.argv = ["", *words[1:]]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    for name in LIBRARIES:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a fork would lack the other threads"
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
    shutil.rmtree(sys.argv[2])
