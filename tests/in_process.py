"""The command line in this process: the same `main`, without the imports of each call."""

import functools
import logging
import sys
from types import SimpleNamespace

import pytest

from cryoetgan import cli

tree = functools.cache(cli.build)


@pytest.fixture
def cryoetgan(tmp_path, monkeypatch, capsys):
    """Return a function: `cryoetgan("tomograms", "import", ...)` runs the command in `tmp_path`."""

    def run(*words, code=0, cwd=tmp_path, **environment):
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(cli, "build", tree)
        monkeypatch.setattr(sys, "argv", ["cryoetgan", *map(str, words)])
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        logger = logging.getLogger("cryoetgan")
        propagates = logger.propagate
        try:
            cli.main()
        except SystemExit as end:
            status = end.code
        finally:
            logging.captureWarnings(False)
            logger.propagate = propagates
        said = capsys.readouterr()
        assert status == code, f"exit {status}\n{said.out}\n{said.err}"
        return SimpleNamespace(returncode=status, stdout=said.out, stderr=said.err)

    return run
