"The plan of the house, proved from the code: which room may import what, and what the notebooks must look like."
import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(path for path in ROOT.glob("nbs/**/*.ipynb") if ".ipynb_checkpoints" not in path.parts)
FASTAI_ROOMS = {"data.patches", "training.learner", "training.gan", "training.checkpoint", "training.guard", "training.parallel", "training.recipes"}
NO_TORCH = {"core", "profiles", "notes", "picture", "resize", "metrics", "figures", "samples", "data.pairs", "data.audit", "data.degrade", "data.store",
            "challenge.score", "challenge.submission", "viewing.compare", "viewing.explore"}


def cells(path): return json.loads(path.read_text(encoding="utf-8"))["cells"]


def room_of(path):
    "The module that a notebook exports, or None."
    for cell in cells(path):
        if (found := re.search(r"^#\| *default_exp +(\S+)", "".join(cell["source"]), re.M)): return found[1]


ROOMS = {room: path for path in NOTEBOOKS if (room := room_of(path))}
NUMBERS = {room: int(path.name.split("_")[0]) for room, path in ROOMS.items()}


def imports(room):
    "Every module that a room's code imports, anywhere in it, absolute."
    package = ["paintsr_nb", *room.split(".")]
    tree = ast.parse((ROOT/Path(*package)).with_suffix(".py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import): yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[:-node.level]) if node.level else ""
            yield ".".join(part for part in (base, node.module) if part)


def own_imports(room):
    for name in imports(room):
        if name.startswith("paintsr_nb."): yield name.removeprefix("paintsr_nb.")


def test_every_module_has_its_page():
    modules = {path.relative_to(ROOT/"paintsr_nb").with_suffix("").as_posix().replace("/", ".") for path in (ROOT/"paintsr_nb").rglob("*.py")}
    modules = {name for name in modules if not name.split(".")[-1].startswith("_")}
    assert modules == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_down(room):
    for other in own_imports(room):
        assert NUMBERS[other] < NUMBERS[room], f"{room} ({NUMBERS[room]}) imports {other} ({NUMBERS[other]})"


@pytest.mark.parametrize("room", ROOMS)
def test_fastai_only_where_it_is_needed(room):
    if room in FASTAI_ROOMS or room == "all": return
    assert not [name for name in imports(room) if name.split(".")[0] in ("fastai", "fasttransform")]


@pytest.mark.parametrize("room", sorted(NO_TORCH & set(ROOMS)))
def test_no_torch_in_light_rooms(room):
    assert not [name for name in imports(room) if name.split(".")[0] in ("torch", "torchvision", "spandrel", "safetensors")]


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_imports_commands(room): assert "commands" not in own_imports(room)


def loaded_by(code):
    "Top-level modules in memory after some code."
    script = f"{code}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    return set(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()[-1].split())


def test_the_package_itself_costs_nothing():
    assert not loaded_by("import paintsr_nb") & {"numpy", "torch", "pandas", "PIL", "matplotlib", "fastai"}


def test_commands_import_lazily():
    assert not loaded_by("import paintsr_nb.commands") & {"numpy", "torch", "pandas", "PIL", "matplotlib", "fastai"}


@pytest.mark.parametrize("room", ["upscaling.folder", "challenge.score", "challenge.submission", "viewing.compare"])
def test_using_needs_neither_fastai_nor_torchvision(room):
    loaded = loaded_by(f"import paintsr_nb.{room}")
    assert not loaded & {"fastai", "torchvision"}
    if room in NO_TORCH: assert "torch" not in loaded


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_pages_are_pages(path):
    page = cells(path)
    first = "".join(page[0]["source"])
    assert page[0]["cell_type"] == "markdown" and first.startswith("# ") and "\n> " in first, "begin with a title and a line of what it is for"
    assert all(cell.get("id") for cell in page), "every cell has an id"
    assert len({cell["id"] for cell in page}) == len(page)
    assert path.stat().st_size < 300_000, "keep outputs few and small"
    for cell in page:
        assert not any(output["output_type"] == "error" for output in cell.get("outputs", [])), "a saved output is a traceback"


def test_no_path_of_a_machine():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    leak = re.compile(r"(?<![\w.:/])/(?:work|root|home|tmp)/\w")
    for name in filter(None, tracked):
        path = ROOT/name
        if path.suffix in (".py", ".md", ".ini", ".toml", ".js", ".ipynb", ".sh", ".txt", "") and path.is_file():
            found = leak.search(path.read_text(encoding="utf-8", errors="replace"))
            assert not found or name == "tests/test_house.py", f"{name} names {found[0]}"


def test_version_is_the_same_everywhere():
    from configparser import ConfigParser
    import paintsr_nb
    parser = ConfigParser(delimiters=["="])
    parser.read(ROOT/"settings.ini")
    assert parser["DEFAULT"]["version"] == paintsr_nb.__version__
    assert f"## {paintsr_nb.__version__}" in (ROOT/"CHANGELOG.md").read_text()


def test_public_names_do_not_collide():
    "`from paintsr_nb.all import *` must not hide one room's function behind another's."
    owners = {}
    for room in set(ROOMS) - {"all", "commands"}:
        tree = ast.parse((ROOT/"paintsr_nb"/Path(*room.split("."))).with_suffix(".py").read_text(encoding="utf-8"))
        listed = next((ast.literal_eval(node.value) for node in tree.body
                       if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"), [])
        for name in listed: owners.setdefault(name, []).append(room)
    assert not {name: rooms for name, rooms in owners.items() if len(rooms) > 1}
