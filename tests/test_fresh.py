"Each tutorial in an environment of its own install cell, as Colab would make it: what a page needs, its cell must ask for."
import json, os, re, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = sorted((ROOT/"nbs"/"tutorials").glob("*.ipynb"))
OF_COLAB = "torch", "torchvision", "numpy", "ipykernel", "nbclient", "nbformat" # What is there before the cell runs

INSTALL = """
import sys, types
sys.modules["google.colab"] = types.ModuleType("google.colab")
exec(open(sys.argv[1]).read())
"""
RUN = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
"""


def install_cell(tutorial):
    cells = json.loads(tutorial.read_text(encoding="utf-8"))["cells"]
    return next("".join(cell["source"]) for cell in cells if cell["id"] == "colab-install")


def alone(source=""):
    "Variables of an environment that knows nothing of this one; git takes this checkout for the project's home."
    known = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "JUPYTER_PATH")}
    home = re.search(r"git\+(https://[^@\"]+)@", source)
    if home: known |= dict(GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0=f"url.{ROOT.as_uri()}.insteadOf", GIT_CONFIG_VALUE_0=home[1])
    return known


@pytest.fixture(scope="module")
def environments(tmp_path_factory):
    "Python of an environment in which this install cell, and no other, has run."
    made = {}
    def of(source):
        if source in made: return made[source]
        folder = tmp_path_factory.mktemp("fresh")
        subprocess.run([sys.executable, "-m", "venv", folder/"venv"], check=True)
        python = folder/"venv"/"bin"/"python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", *OF_COLAB], check=True, env=alone())
        (folder/"cell.py").write_text(source, encoding="utf-8")
        subprocess.run([python, "-c", INSTALL, "cell.py"], check=True, cwd=folder, env=alone(source))
        made[source] = python
        return python
    return of


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32" or not (ROOT/".git").exists(), reason="pip takes the project from its git folder")
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_after_its_own_install_cell(tutorial, environments, tmp_path):
    python = environments(install_cell(tutorial))
    done = subprocess.run([python, "-c", RUN, tutorial], cwd=tmp_path, env=alone(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
