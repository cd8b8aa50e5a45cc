"""How far each page keeps the manner of the house: a sentence why, a definition, a cell that shows it.

    python tools/house.py               a row per page, then the sums
    python tools/house.py 34_gan 41     the rows of these pages, with what they leave unshown and their longest lines

What is counted, from the notebooks alone:
- public names: what the exported cells define at their top level without a leading underscore; `@patch` methods do not count;
- shown: the name is used in an ordinary code cell of its own page, in Python or in a `!` line. Cells under `#| hide` and
  import lines do not count, because nobody reads how to use a name there. A class is also shown where a function that is
  shown says that it returns it (`->Scores`): a reader meets it as the result;
- definitions: every exported function, class and `@patch` method, helpers too;
- followed: there is an ordinary code cell among the three cells after the definition's own;
- lines: exported lines that are not blank, without the directives.
"""
import ast
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXPORTS = {"export", "exporti", "exports"}
NOT_SEEN = EXPORTS | {"hide", "default_exp"}
DEFINES = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef


@dataclass
class Page:
    "What a notebook exports, and what it shows of that."
    path:Path
    room:str # Module that it exports
    names:list = field(default_factory=list) # Public names, in the order of the page
    shown:set = field(default_factory=set) # Those that are demonstrated
    lines:list = field(default_factory=list) # Exported lines
    followed:list = field(default_factory=list) # A Boolean per definition: does an ordinary cell come soon after it?

    @property
    def unshown(self): return [name for name in self.names if name not in self.shown]

    def longer_than(self, limit): return [line for line in self.lines if len(line) > limit]


def notebooks(root=ROOT): return sorted(path for path in root.glob("nbs/**/*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def cells(path): return json.loads(path.read_text(encoding="utf-8"))["cells"]


def source(cell): return "".join(cell["source"])


def directives(cell): return set(re.findall(r"^#\| *(\w+)", source(cell), re.M)) if cell["cell_type"] == "code" else set()


def is_export(cell): return bool(directives(cell) & EXPORTS)


def is_ordinary(cell):
    "Is it code that a reader sees run?"
    return cell["cell_type"] == "code" and bool(source(cell).strip()) and not directives(cell) & NOT_SEEN


def room_of(page):
    "The module that the cells export, or None."
    for cell in page:
        if found := re.search(r"^#\| *default_exp +(\S+)", source(cell), re.M): return found[1]


def tree_of(cell):
    "The cell's Python; lines for the shell and for magics are blank in it."
    return ast.parse(re.sub(r"^\s*[!%].*$", "", source(cell), flags=re.M))


def is_patch(node):
    return any(getattr(part, "id", "") == "patch" for decorator in getattr(node, "decorator_list", []) for part in ast.walk(decorator))


def defined_names(tree):
    "What the top level of `tree` makes public."
    for node in tree.body:
        if isinstance(node, DEFINES) and not is_patch(node): found = [node.name]
        elif isinstance(node, ast.Assign): found = [part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name): found = [node.target.id]
        else: found = []
        yield from (name for name in found if not name.startswith("_"))


def used_names(cell):
    "Every name that the cell's code reads, and every word of its shell lines."
    yield from (node.id for node in ast.walk(tree_of(cell)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
    for line in re.findall(r"^\s*!(.*)$", source(cell), re.M): yield from re.findall(r"\w+", line)


def returned_names(tree):
    "Function → the words of its return annotation."
    for node in tree.body:
        if isinstance(node, DEFINES[:2]) and node.returns is not None:
            yield node.name, set(re.findall(r"\w+", ast.unparse(node.returns)))


def measure(path):
    "The `Page` of a notebook, or None where it exports nothing."
    all_cells = cells(path)
    if (room := room_of(all_cells)) is None: return None
    page, used, returns = Page(path, room), set(), []
    for place, cell in enumerate(all_cells):
        if is_ordinary(cell): used |= set(used_names(cell))
        if not is_export(cell): continue
        tree = tree_of(cell)
        page.names += defined_names(tree)
        returns += returned_names(tree)
        page.lines += [line for line in source(cell).splitlines() if line.strip() and not line.startswith("#|")]
        soon = any(map(is_ordinary, all_cells[place + 1:place + 4]))
        page.followed += [soon for node in tree.body if isinstance(node, DEFINES)]
    met = set().union(*(words for name, words in returns if name in used))
    page.names = list(dict.fromkeys(page.names))
    page.shown = {name for name in page.names if name in used | met}
    return page


def measure_all(root=ROOT): return [page for path in notebooks(root) if (page := measure(path))]


ROW = "{:30} {:>6} {:>6} {:>6} {:>12} {:>9} {:>5} {:>5}"


def row(name, pages):
    "A line of the table: the sums over `pages`."
    followed = [soon for page in pages for soon in page.followed]
    def over(limit): return sum(len(page.longer_than(limit)) for page in pages)
    return ROW.format(name, sum(len(page.names) for page in pages), sum(len(page.shown) for page in pages),
                      sum(len(page.lines) for page in pages), len(followed), sum(followed), over(110), over(140))


def main(wanted):
    pages = [page for page in measure_all() if not wanted or any(page.path.stem.startswith(start) for start in wanted)]
    print(ROW.format("page", "names", "shown", "lines", "definitions", "followed", ">110", ">140"))
    for page in pages:
        print(row(page.path.relative_to(ROOT/"nbs").with_suffix("").as_posix(), [page]))
        if not wanted: continue
        if page.unshown: print("    not shown:", ", ".join(page.unshown))
        for line in page.longer_than(140): print(f"    {len(line)}: {line.strip()}")
    print(row("all pages", pages))


if __name__ == "__main__": main(sys.argv[1:])
