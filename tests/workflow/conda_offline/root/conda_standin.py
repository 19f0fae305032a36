"""The part of conda's command line that `snakemake --use-conda` calls, over py-rattler (solver, installer, package cache).

Channels: `name` -> $CONDA_CHANNEL_ALIAS/name (a file:// or http:// address), `nodefaults` ignored.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from rattler import (
    Channel,
    ChannelConfig,
    Gateway,
    MatchSpec,
    PrefixRecord,
    VirtualPackage,
    install,
    solve,
)

VERSION, ROOT = "24.7.1", Path(__file__).resolve().parent
CACHE = Path(os.environ.get("CONDA_PKGS_DIRS") or Path.home() / ".cache" / "conda-standin" / "pkgs")


def read_env(path):
    import yaml

    d = yaml.safe_load(Path(path).read_text())
    pip, specs = [], []
    for x in d.get("dependencies", []):
        pip.extend(x["pip"]) if isinstance(x, dict) else specs.append(x)
    return [c for c in d.get("channels", []) if c != "nodefaults"], specs, pip


async def make(prefix, channels, specs, pip):
    cfg = ChannelConfig(channel_alias=os.environ["CONDA_CHANNEL_ALIAS"].rstrip("/") + "/")
    recs = await solve(
        [Channel(c, cfg) for c in channels],
        [MatchSpec(legacy(s)) for s in specs],
        gateway=Gateway(cache_dir=CACHE / "repodata"),
        platforms=["linux-64", "noarch"],
        virtual_packages=VirtualPackage.detect(),
    )
    await install(recs, prefix, cache_dir=CACHE, show_progress=False)
    if pip:
        subprocess.run(
            [
                prefix / "bin/python",
                "-m",
                "pip",
                "install",
                "-q",
                "--disable-pip-version-check",
                *pip,
            ],
            check=True,
        )


def legacy(s):  # `numpy=1.26` is `numpy 1.26.*` in an environment file
    import re

    m = re.fullmatch(r"\s*([\w.-]+)\s*=\s*([\w.*+!-]+)(?:\s*=\s*(\S+))?\s*", s)
    return (
        s
        if not m
        else f"{m[1]} {m[2] if m[2].endswith('*') else m[2] + '.*'}" + (f" {m[3]}" if m[3] else "")
    )


def main(argv):
    if argv == ["--version"]:
        return print("conda", VERSION)
    if argv[:2] == ["info", "--json"]:
        return print(
            json.dumps(
                {
                    "conda_version": VERSION,
                    "conda_prefix": str(ROOT),
                    "root_prefix": str(ROOT),
                    "platform": "linux-64",
                    "envs_dirs": [],
                    "channels": [],
                }
            )
        )
    if argv[:1] == ["config"]:
        return print(json.dumps({"get": {"channel_priority": "strict"}}))
    if argv[:1] == ["clean"]:
        return
    p = argparse.ArgumentParser("conda")
    p.add_argument("--file")
    p.add_argument("--prefix", "-p", type=Path)
    p.add_argument("--explicit", action="store_true")
    for f in ("--quiet", "--no-default-packages", "--yes", "--json"):
        p.add_argument(f, action="store_true")
    p.add_argument("packages", nargs="*")
    if argv[:2] == ["env", "create"]:
        a = p.parse_args(argv[2:])
        return asyncio.run(make(a.prefix, *read_env(a.file)))
    if argv[:2] == ["env", "export"]:
        a = p.parse_args(argv[2:])
        recs = [PrefixRecord.from_path(f) for f in sorted((a.prefix / "conda-meta").glob("*.json"))]
        return print(
            "dependencies:\n"
            + "".join(f"  - {r.name.normalized}={r.version}={r.build}\n" for r in recs)
        )
    if argv[:1] == ["list"]:
        a = p.parse_args(argv[1:])
        recs = [PrefixRecord.from_path(f) for f in sorted((a.prefix / "conda-meta").glob("*.json"))]
        return print("@EXPLICIT\n" + "\n".join(r.url for r in recs))
    sys.exit(f"conda stand-in: not implemented: {' '.join(argv)}")


def leave(code, message=""):
    """End here and now: the solver's threads crash an interpreter that shuts down under them."""
    if message:
        print(message, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


try:
    main(sys.argv[1:])
except subprocess.CalledProcessError as e:
    leave(e.returncode)
except SystemExit as e:
    leave(
        e.code if isinstance(e.code, int) else bool(e.code),
        e.code if isinstance(e.code, str) else "",
    )
except Exception as e:
    leave(1, f"{type(e).__name__}: {e}")
leave(0)
