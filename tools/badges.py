"""Write the Colab badge and the install cell of every tutorial from `git_url` and `branch` of settings.ini.

    python tools/badges.py            rewrite the tutorials that are out of step
    python tools/badges.py --check    change nothing; exit 1 and name the tutorials that are out of step
"""
import argparse, json, re, sys
from configparser import ConfigParser
from pathlib import Path

NEEDS = dict(perceptual="perceptual", parallel="accelerate", onnx="onnx", heic=".heic")   # Extra -> the word in a page's code that asks for it

BADGE = ("[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
         "(https://colab.research.google.com/github/{home}/blob/{branch}/{path})")

# Colab's form view shows the first line alone.
INSTALL = """#@title Install {name} (in Colab only; torch stays as it is) {{ display-mode: "form" }}
import sys
if "google.colab" in sys.modules:
    import subprocess
    from importlib.metadata import version
    from pathlib import Path
    Path("keep.txt").write_text("".join(f"{{name}}=={{version(name)}}\\n" for name in ("torch", "torchvision", "numpy")))
    for mode in ("--dry-run", "--quiet"):   # first it prints what it would add
        done = subprocess.run([sys.executable, "-m", "pip", "install", mode, "-c", "keep.txt",
                               "{name}{extras} @ git+{git_url}@{branch}"], capture_output=True, text=True)
        if done.returncode: raise RuntimeError(done.stderr)
        print(*(line for line in done.stdout.splitlines() if line.startswith("Would install")))"""


def read_settings(root):
    "The settings that the cells need; `home` is owner/name on GitHub, the only host that Colab opens."
    parser = ConfigParser(delimiters=["="])
    parser.read(root/"settings.ini", encoding="utf-8")
    settings = parser["DEFAULT"]
    git_url = settings["git_url"].removesuffix("/").removesuffix(".git")
    match = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+)", git_url)
    if not match:
        raise SystemExit(f"git_url = {settings['git_url']} in settings.ini is no GitHub address, and Colab opens no other: "
                         "write https://github.com/OWNER/NAME")
    return dict(name=settings["lib_name"], git_url=git_url, home=match[1], branch=settings["branch"])


def cell(kind, name, text):
    made = dict(cell_type=kind, id=name, metadata={}, source=text.splitlines(keepends=True))
    return made if kind == "markdown" else made | dict(execution_count=None, outputs=[])


def is_ours(one):
    return one["id"] in ("colab-badge", "colab-install")


def extras(cells):
    "The extras that the code of a page needs, as pip takes them: `[parallel,perceptual]`, or nothing."
    code = "".join(line for one in cells if one["cell_type"] == "code" for line in one["source"]).lower()
    needed = sorted(extra for extra, word in NEEDS.items() if word in code)
    return f"[{','.join(needed)}]" if needed else ""


def with_cells(text, path, settings):
    "The notebook `text` with its badge and install cell behind the title, whether or not it had them before."
    notebook = json.loads(text)
    cells = [one for one in notebook["cells"] if not is_ours(one)]
    cells[1:1] = [cell("markdown", "colab-badge", BADGE.format(path=path, **settings)),
                  cell("code", "colab-install", INSTALL.format(extras=extras(cells), **settings))]
    notebook["cells"] = cells
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a tutorial is out of step")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the repository's root")
    options = parser.parse_args()
    settings = read_settings(options.root)
    stale = []
    for notebook in sorted((options.root/"nbs"/"tutorials").glob("*.ipynb")):
        path, old = notebook.relative_to(options.root).as_posix(), notebook.read_text(encoding="utf-8")
        new = with_cells(old, path, settings)
        if new == old: continue
        stale.append(path)
        if not options.check: notebook.write_text(new, encoding="utf-8")
    for path in stale: print(f"{path}: badge or install cell " + ("is out of step" if options.check else "written"))
    if stale and options.check: sys.exit("Run `python tools/badges.py`, which writes them from settings.ini.")


if __name__ == "__main__":
    main()
