"""Fail where the modules are not what the notebooks export, a notebook is not clean, or README.md is not what index.ipynb says.

    python tools/check_sync.py          # writes the right files, and fails if that changed anything
"""
import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


def digests():
    "Path → digest of every notebook, exported module and the README."
    paths = [*ROOT.glob("nbs/**/*.ipynb"), *ROOT.glob("paintsr_nb/**/*.py"), ROOT/"README.md"]
    return {path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths
            if ".ipynb_checkpoints" not in path.parts}


def main():
    before = digests()
    subprocess.run([BIN/"nbdev-export"], cwd=ROOT, check=True)
    subprocess.run([BIN/"nbdev-clean"], cwd=ROOT, check=True)
    subprocess.run([sys.executable, ROOT/"tools"/"readme.py"], check=True)
    subprocess.run([sys.executable, ROOT/"tools"/"badges.py"], check=True)
    after = digests()
    changed = sorted(path for path in before | after if before.get(path) != after.get(path))
    if changed: sys.exit("out of step with the notebooks, and written anew (commit them): " + ", ".join(changed))
    print(f"{len(after)} notebooks and modules are in step")


if __name__ == "__main__": main()
