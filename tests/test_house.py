"The plan of the house, proved from the code: which room may import what, and what the notebooks must look like."
import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/"tools"))
import house

FASTAI_ROOMS = {"data.patches",
                *(f"training.{name}" for name in ("callback", "average", "precision", "learner", "gan", "checkpoint", "guard", "live", "meter", "parallel", "train"))}
NO_TORCH = {"core", "targets", "upscaling.claims", "upscaling.report", "profiles", "notes", "picture", "strips", "resize",
            "metrics", "intervals", "figures", "samples", "painter", "data.technique", "data.hashes", "data.sources",
            "data.manifest", "data.pairs", "data.audit", "data.degrade", "data.augment", "data.store", "data.fitted",
            "challenge.score", "challenge.rivals", "challenge.submission", "viewing.sending", "viewing.view", "viewing.parts",
            "viewing.compare", "viewing.explore", "nets.zoo"}

NOTEBOOKS = house.notebooks()
PAGES = house.measure_all()
ROOMS = {page.room: page.path for page in PAGES}
NUMBERS = {room: int(path.name.split("_")[0]) for room, path in ROOMS.items()}


def tree_of(room): return ast.parse((ROOT/"paintsr_nb"/Path(*room.split("."))).with_suffix(".py").read_text(encoding="utf-8"))


def exported(room):
    "The public names of a room's module, by its `__all__`."
    return next((ast.literal_eval(node.value) for node in tree_of(room).body
                 if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"), [])


def imports(room):
    "Every module that a room's code imports, anywhere in it, absolute."
    package = ["paintsr_nb", *room.split(".")]
    for node in ast.walk(tree_of(room)):
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


@pytest.mark.parametrize("room", ["upscaling.folder", "challenge.score", "challenge.submission", "viewing.compare", "viewing.explore", "viewing.live"])
def test_using_needs_neither_fastai_nor_torchvision(room):
    loaded = loaded_by(f"import paintsr_nb.{room}")
    assert not loaded & {"fastai", "torchvision"}
    if room in NO_TORCH: assert "torch" not in loaded


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_pages_are_pages(path):
    page = house.cells(path)
    first = house.source(page[0])
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
        for name in exported(room): owners.setdefault(name, []).append(room)
    assert not {name: rooms for name, rooms in owners.items() if len(rooms) > 1}


# What a reader can take in: few names per page, short lines, and every name shown at work.
MOST_NAMES, LONGEST_LINE, LEAST_FOLLOWED = 12, 140, 0.8

MORE_NAMES = {  # room → (how many public names it may have, why they stay together)
    "core": (13, "what every room shares is in one place, each idea in a few lines"),
    "commands": (13, "a command per name, and what makes a function one"),
    "losses.adversarial": (15, "every loss is two formulas, what the critic minimises and what the generator does, and they are read as one table"),
}

NOT_SHOWN = {  # room → {public name: why no cell of its page uses it}
}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.stem)


@each_page
def test_a_dozen_names_per_page(page):
    most, _ = MORE_NAMES.get(page.room, (MOST_NAMES, ""))
    assert len(page.names) <= most, f"{len(page.names)} public names: cut the page along its ideas, or begin the helpers' names with _"


@each_page
def test_no_line_is_too_long(page):
    assert not page.longer_than(LONGEST_LINE), f"lines over {LONGEST_LINE} characters: one thing per line"


@each_page
def test_every_name_is_shown(page):
    left = [name for name in page.unshown if name not in NOT_SHOWN.get(page.room, {})]
    assert not left, f"no cell of the page uses {', '.join(left)}: show it, begin its name with _, or delete it"


def test_definitions_are_shown_soon(pages=PAGES):
    "Over the whole house: an ordinary cell among the three cells after a definition."
    followed = [soon for page in pages for soon in page.followed]
    assert sum(followed) >= LEAST_FOLLOWED*len(followed), f"{sum(followed)} of {len(followed)}; `python tools/house.py` says on which pages"


def test_exceptions_are_needed():
    "An exception that nobody needs any more is taken off its list."
    pages = {page.room: page for page in PAGES}
    assert set(MORE_NAMES) | set(NOT_SHOWN) <= set(pages)
    assert all(len(pages[room].names) > MOST_NAMES for room in MORE_NAMES)
    for room, names in NOT_SHOWN.items(): assert set(names) <= set(pages[room].unshown), room


def test_names_are_those_of_the_modules():
    "What `tools/house.py` takes for public is what nbdev exports as such."
    for page in PAGES: assert set(page.names) == set(exported(page.room)), page.room


def page_of(folder, *sources):
    "The measured page of code cells; one that begins with `>` is text."
    cells = [dict(cell_type="markdown" if text.startswith(">") else "code", source=text) for text in ("#| default_exp broken", *sources)]
    path = folder/"99_broken.ipynb"
    path.write_text(json.dumps(dict(cells=cells)))
    return house.measure(path)


def breaks(rule, page):
    try: rule(page)
    except AssertionError: return True
    return False


def test_rules_can_fail(tmp_path):
    names = [f"name{number} = {number}" for number in range(13)]
    shown = "print(" + ", ".join(f"name{number}" for number in range(13)) + ")"
    crowded = page_of(tmp_path, "#| export\n" + "\n".join(names), shown)
    assert breaks(test_a_dozen_names_per_page, crowded) and not breaks(test_every_name_is_shown, crowded)
    assert not breaks(test_a_dozen_names_per_page, page_of(tmp_path, "#| export\n" + "\n".join(names[1:])))
    long = "text = " + "'" + "x"*132 + "'"
    assert len(long) == 141 and breaks(test_no_line_is_too_long, page_of(tmp_path, f"#| export\n{long}"))
    assert not breaks(test_no_line_is_too_long, page_of(tmp_path, "#| export\n" + long.replace("xx", "x", 1), long))   # a cell of the page may be long
    hidden = page_of(tmp_path, "#| export\ndef f(): return 1", "#| hide\nf()", "from broken import f", "g.f()", "> `f()`", "#| export\n_a = f()")
    assert hidden.unshown == ["f"] and breaks(test_every_name_is_shown, hidden)


@pytest.mark.parametrize("use", ["f()", "print(f'{f()}')", "def g(): return f()", "with f() as x: pass", "!f --help"])
def test_what_shows_a_name(tmp_path, use): assert page_of(tmp_path, "#| export\ndef f(): return 1", use).shown == {"f"}


def test_what_counts_as_a_name(tmp_path):
    page = page_of(tmp_path, "#| export\nA, _b = 1, 2\nc:int = 3\nclass D:\n    e = 1\ndef _f(): pass\n@patch(as_prop=True)\ndef g(self:D): pass", "h = 1")
    assert page.names == ["A", "c", "D"] and len(page.followed) == 3 and len(page.lines) == 7


def test_a_result_shows_its_class(tmp_path):
    cells = "#| export\nclass Table: pass", "#| export\ndef f()->list[Table]: return []"
    assert page_of(tmp_path, *cells, "f()").shown == {"f", "Table"} and not page_of(tmp_path, *cells).shown


def test_what_follows_soon(tmp_path):
    late = page_of(tmp_path, "#| export\ndef f(): pass", "> text", "#| export\ndef g(): pass", "#| hide\nf()", "> text", "f()")
    assert late.followed == [False, True] and breaks(test_definitions_are_shown_soon, [late])
    assert not breaks(test_definitions_are_shown_soon, [page_of(tmp_path, "#| export\ndef f(): pass", "> text", "> text", "f()")])
