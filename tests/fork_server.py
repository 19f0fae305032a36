"""`python -m snakemake`, `-m cryoetgan` and `-c` as forks of a process that has loaded the libraries.

A step of the tiny run takes a second, the imports before it take four. Each command is still a
process of its own, with its own folder, variables, output and exit code; of the package nothing is
loaded before. Not for tests that kill: a signal reaches the program `python`, not the fork.
"""

import functools
import gc
import hashlib
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

PROGRAMS = ("cryoetgan", "snakemake")
MODULES = (*PROGRAMS, "tests.workflow.replan")
"""What is run by the server; the real Python runs all else."""
VARIABLE = "CRYOETGAN_TEST_FORKS"
"""Environment variable with the folder of the server."""
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
elif words[:2] == ["python", "-c"]:
    words = words[1:]
elif words[0] == "python":
    os.execv({python!r}, [{python!r}, *words[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, [b"-"], [0, 1, 2])
server.sendall(json.dumps([words, os.getcwd(), dict(os.environ)]).encode())
server.shutdown(socket.SHUT_WR)
code = int(server.recv(16) or b"1")
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


def prepare() -> None:
    """Write a program `python`, beside `cryoetgan` and `snakemake`, whose commands a server does.

    All test processes share the server, which their parent starts with the first command.
    """
    folder = Path(tempfile.mkdtemp(prefix="forks-"))
    address, python = str(folder / "socket"), folder / "python"
    python.write_text(PYTHON.format(python=sys.executable, address=address, modules=MODULES))
    python.chmod(0o755)
    for name in PROGRAMS:
        (folder / name).symlink_to(python)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(64)
    os.environ[VARIABLE] = str(folder)
    threading.Thread(target=start, args=(listening, folder), daemon=True).start()


def start(listening: socket.socket, folder: Path) -> None:
    """Start the server if a command waits. It ends with this process."""
    with listening:
        select.select([listening], [], [])
        file = listening.fileno()
        command = [sys.executable, "-I", __file__, str(file), str(folder)]
        SERVERS.append(subprocess.Popen(command, pass_fds=[file], stdin=subprocess.PIPE))


def close() -> None:
    """End the server, which removes its folder; remove that of a server that was not started."""
    for server in SERVERS:
        server.communicate()
    if not SERVERS:
        shutil.rmtree(os.environ[VARIABLE])


def forking_python() -> Path:
    """Return the program `python` whose commands the server does."""
    return Path(os.environ[VARIABLE]) / "python"


def serve(listening: socket.socket, parsed: Path) -> None:
    """Answer each connection in a fork, until the process that started the server ends."""
    # that process holds the other end of the standard input
    while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
        connection, _ = listening.accept()
        FORK.Process(target=answer, args=(connection, parsed)).start()
        connection.close()


def answer(connection: socket.socket, parsed: Path) -> None:
    """Do the command of a connection in a fork, and answer with its exit code."""
    _, files, *_ = socket.recv_fds(connection, 1, 3)
    asked = json.loads(connection.makefile().read())
    command = FORK.Process(target=become, args=(*asked, files, parsed))
    command.start()
    command.join()
    connection.sendall(str(command.exitcode).encode())


def become(
    words: list[str], folder: str, environment: dict[str, str], files: list[int], parsed: Path
) -> None:
    """Do in this process what `python -m`, or `python` if they start with -c, does with `words`."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # a new process reads it; more threads add in another order
    if "torch" in sys.modules and environment.get("OMP_NUM_THREADS"):
        sys.modules["torch"].set_num_threads(int(environment["OMP_NUM_THREADS"]))
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [folder, *filter(None, paths)]
    sys.executable = str(parsed / "python")  # Snakemake starts its jobs with it
    sys.argv = ["", *words[1:]] if words[0] != "-c" else ["-c", *words[2:]]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    if words[0] == "-c":
        exec(words[1], {"__name__": "__main__"})
        return
    if words[0] != "cryoetgan":
        parse_once(parsed)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def parse_once(folder: Path) -> None:
    """Keep parsed rule files in a folder: Snakemake parses them again in each run."""
    from snakemake import workflow

    parse = workflow.parse

    def remember(path, *rest, linemap, rulecount=0, **options):
        name = path.get_path_or_uri(secret_free=True)
        content = Path(name).read_bytes()
        file = folder / f"{hashlib.sha256(content).hexdigest()}-{rulecount}"
        if not file.exists():
            code, count = parse(path, *rest, linemap=linemap, rulecount=rulecount, **options)
            # complete or absent: several commands parse at a time
            written = file.with_suffix(f".{os.getpid()}")
            written.write_text(json.dumps((repr(name), code, count, list(linemap.items()))))
            written.rename(file)
        known, code, count, lines = read_parsed(file)
        linemap |= lines
        return code.replace(known, repr(name)), count

    workflow.parse = remember


@functools.cache
def read_parsed(file: Path) -> tuple[str, str, int, dict[int, int]]:
    """Return the name and the code of a rule file, the number of rules and its lines."""
    name, code, count, lines = json.loads(file.read_text())
    return name, code, count, dict(lines)


def warm() -> None:
    """Load the libraries, the plugins of Snakemake, and fonts."""
    for name in LIBRARIES:
        importlib.import_module(name)
    importlib.import_module("snakemake.cli").get_argument_parser()
    warm_figures()
    assert threading.active_count() == 1, "a fork would lack the other threads"
    gc.freeze()


def warm_figures() -> None:
    """Draw a figure: the first one finds fonts, and loads the parser of the labels of log axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().semilogy([1, 10])
    FigureCanvasAgg(figure).draw()


if __name__ == "__main__":
    warm()
    serve(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]))
    shutil.rmtree(sys.argv[2])
