"""Build the site: every notebook as a page, its outputs as they were kept, tables of arguments, a gallery, search.

    python tools/docs.py [--out site] [--pages nbs/02_resize.ipynb ...] [--no_gallery]

nbdev writes the tables from docments, MkDocs with its Material theme the pages: search without a server's help, phones and dark mode come with it,
it is two wheels, and nothing is fetched when a page is read. Formulas become MathML, which browsers draw themselves.
"""
import argparse
import ast
import base64
import html
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import latex2mathml.converter
from nbdev.showdoc import DocmentTbl

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT/"nbs"
ROOMS = dict(   # Folder of notebooks -> what the site calls it, in the order of its menu
    tutorials="Tutorials", viewing="Looking", upscaling="Upscaling", challenge="Scoring and submission", data="Data",
    nets="Networks", losses="Losses", training="Training")
TEXTS = dict(CHANGELOG="Changes", CONTRIBUTING="Contributing")
IMAGES = {"image/png": "png", "image/jpeg": "jpg", "image/svg+xml": "svg"}


def settings():
    "Name, description and home of the project."
    parser = ConfigParser(delimiters=["="])
    parser.read(ROOT/"settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


def pages():
    "All notebooks, in the order in which they build on each other."
    return sorted((path for path in NOTEBOOKS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts), key=lambda path: path.name)


# A notebook as Markdown

def with_formulas(text):
    "Markdown whose formulas are MathML; code is left alone."
    def formula(match):
        display = "block" if match[1] is not None else "inline"
        return latex2mathml.converter.convert(match[1] or match[2], display=display)
    pieces = re.split(r"(```.*?```|`[^`\n]*`)", text, flags=re.S)
    return "".join(piece if place % 2 else re.sub(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", formula, piece, flags=re.S)
                   for place, piece in enumerate(pieces))


def with_links(text):
    "Markdown whose links to notebooks lead to their pages, and whose badges are words: a badge is fetched from elsewhere."
    text = re.sub(r"!\[([^\]]*)\]\(https?://[^)]*\)", r"\1", text)
    text = re.sub(r"\]\(([\w./-]+)\.ipynb(#[\w-]+)?\)", r"](\1.md\2)", text)
    return re.sub(r"\]\((benchmarks/[\w./-]+\.md)\)", rf"]({settings()['git_url']}/blob/{settings()['branch']}/\1)", text)


def fenced(text, language=""):
    "A block of code, fenced by more backticks than it holds."
    fence = "`"*max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def defined(source):
    "Public functions and classes of a cell; methods that were patched in stand in their own cell and are named with their class."
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"): yield node


def tables(source, module):
    "A table of arguments per public definition of an exported cell."
    for node in defined(source):
        found = getattr(module, node.name, None)
        if found is None and node.decorator_list and node.args.args and (owner := node.args.args[0].annotation):
            found = getattr(getattr(module, getattr(owner, "id", ""), None), node.name, None)
        table = found and DocmentTbl(found)._repr_markdown_()
        if table: yield f"*Arguments of* `{node.name}`\n{{ .arguments }}\n\n{html_safe(table)}"


def html_safe(table):
    "A Markdown table whose cells hold no tags."
    return table.replace("<", "&lt;").replace(">", "&gt;")


def output(one, folder, name):
    "An output as Markdown; pictures become files."
    if one["output_type"] == "stream": return fenced("".join(one["text"]), "{ .text .output }") if one["name"] == "stdout" else ""
    data = one.get("data", {})
    for kind, ending in IMAGES.items():
        if kind not in data: continue
        text = "".join(data[kind])
        (folder/f"{name}.{ending}").write_bytes(text.encode() if ending == "svg" else base64.b64decode(text))
        return f"![]({name}.{ending})"
    if "text/html" in data:
        return '<div class="output" markdown="0">\n' + re.sub(r"\n\s*\n", "\n", "".join(data["text/html"]).strip()) + "\n</div>"
    return fenced("".join(data.get("text/plain", "")), "{ .text .output }") if data.get("text/plain") else ""


def as_markdown(path, folder):
    "The page of a notebook; pictures of its outputs go into a folder."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(one["source"]) for one in cells if one["cell_type"] == "code"]
    name = next((match[1] for source in code if (match := re.match(r"#\| ?default_exp ([\w.]+)", source))), None)
    module = name and importlib.import_module(f"{settings()['lib_name']}.{name}")
    if name: yield f'`from {settings()["lib_name"]}.{name} import …`{{ .module }}'
    for number, one in enumerate(cells):
        source = "".join(one["source"])
        if one["cell_type"] == "markdown":
            yield with_links(with_formulas(source))
            continue
        marks, body = re.findall(r"^#\|.*", source, re.M), re.sub(r"^#\|.*\n?", "", source, flags=re.M).strip()
        if not body or any(re.match(r"#\| ?(hide|default_exp)", mark) for mark in marks): continue
        yield fenced(body, "{ .python .exported }" if "#| export" in marks else "python")
        if module and "#| export" in marks: yield from tables(body, module)
        yield from filter(None, (output(made, folder, f"{path.stem}_{number}_{place}") for place, made in enumerate(one["outputs"])))


def write_page(path, source):
    "Write the page of a notebook, its title first; gives its address within the site."
    address = path.relative_to(NOTEBOOKS).with_suffix(".md")
    target = source/address
    target.parent.mkdir(parents=True, exist_ok=True)
    parts = list(as_markdown(path, target.parent))
    if parts[0].startswith("`from"): parts[:2] = [parts[1], parts[0]]   # the title stands above the import
    target.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return address


# The gallery

def write_gallery(source, names):
    "Sample paintings before and after, each with the viewer; gives the page's address."
    from paintsr_nb.figures import strip
    from paintsr_nb.samples import samples
    from paintsr_nb.upscaling.engine import Upscaler
    from paintsr_nb.viewing.compare import compare
    folder, parts = source/"gallery", ["# Gallery", INTRODUCTION]
    folder.mkdir(parents=True, exist_ok=True)
    upscaler = Upscaler()
    for one in samples(names):
        height, width = one.low.shape[:2]
        side = min(height, width, 150)
        top, left = (height - side)//2, (width - side)//2
        cut = lambda pixels, ratio: pixels[top*ratio:(top + side)*ratio, left*ratio:(left + side)*ratio]
        low, high = cut(one.low, 1), cut(one.high, 4)
        sr = upscaler(low)
        strip({"LR": low, "SR": sr, "HR": high}, size=3.2).savefig(folder/f"{one.id}.jpg", dpi=80, pil_kwargs=dict(quality=85))
        compare(low, sr, high).save_html(folder/f"{one.id}.html")
        parts += [f"## {one.id.replace('_', ' ').capitalize()}", f"![LR, SR and HR of {one.id}]({one.id}.jpg)",
                  f'<details markdown="0"><summary>Compare them yourself</summary>'
                  f'<iframe loading="lazy" title="Viewer of {html.escape(one.id)}" src="{one.id}.html"></iframe></details>']
    (folder/"index.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return Path("gallery/index.md")

INTRODUCTION = """Sample paintings at 600 px, upscaled by the packaged network, and as they truly are. Open a viewer: drag the slider, zoom by wheel or two fingers,
press `g` for all three side by side, `?` for every key."""


# The site

STYLE = """.md-grid{max-width:76rem}
.md-typeset .module{opacity:.7}.md-typeset img{max-width:100%;height:auto}
.md-typeset iframe{width:100%;height:min(90vh,760px);border:1px solid #8886;border-radius:4px}
.md-typeset .exported{border-left:3px solid var(--md-accent-fg-color)}
.md-typeset div.output{overflow-x:auto}.md-typeset div.output table{font-size:.64rem}.md-typeset div.output :is(td,th){padding:.2em .6em}
.md-typeset .arguments{margin-bottom:-.8em;opacity:.8}.md-typeset summary{cursor:pointer}
.md-typeset math[display=block]{overflow-x:auto;overflow-y:hidden;max-width:100%}"""


def title(path):
    "What the menu calls a notebook: its number and its heading."
    first = next("".join(one["source"]) for one in json.loads(path.read_text(encoding="utf-8"))["cells"] if one["cell_type"] == "markdown")
    return f"{path.stem[:2]} {first.splitlines()[0].lstrip('# ')}"


def menu(made, gallery):
    "The menu of the site from notebook -> address."
    index = [{"Home": "index.md"}] if any(path.stem == "index" for path in made) else []
    def entries(folder): return [{title(path): str(address)} for path, address in made.items() if path.parent == folder and path.stem != "index"]
    rooms = [{label: entries(NOTEBOOKS/room)} for room, label in ROOMS.items() if entries(NOTEBOOKS/room)]
    ground = [{"Ground floor": entries(NOTEBOOKS)}] if entries(NOTEBOOKS) else []
    return [*index, *([{"Gallery": str(gallery)}] if gallery else []), *rooms, *ground, *({label: f"{name}.md"} for name, label in TEXTS.items())]


def configuration(source, out, made, gallery):
    "MkDocs' settings; JSON is YAML too."
    about = settings()
    dark, light = (dict(scheme=scheme, primary="blue grey", accent="deep orange", media=f"(prefers-color-scheme: {word})",
                        toggle=dict(icon=icon, name=f"To {other} colours"))
                   for scheme, word, other, icon in (("slate", "dark", "light", "material/weather-night"), ("default", "light", "dark", "material/weather-sunny")))
    return dict(
        site_name=about["lib_name"], site_description=about["description"], extra=dict(social=[dict(icon="fontawesome/brands/github", link=about["git_url"])]),   # with `repo_url` the theme asks GitHub for stars
        docs_dir=str(source), site_dir=str(out), use_directory_urls=False,
        theme=dict(name="material", font=False, palette=[light, dark],
                   features=["navigation.indexes", "navigation.footer", "navigation.top", "search.suggest", "search.highlight", "content.code.copy", "toc.follow"]),
        plugins=["search"], extra_css=["style.css"], nav=menu(made, gallery),
        markdown_extensions=["tables", "attr_list", "md_in_html", "pymdownx.highlight", "pymdownx.superfences", dict(toc=dict(permalink=True))],
        validation=dict(links=dict(not_found="warn", anchors="warn", absolute_links="warn", unrecognized_links="warn"), nav=dict(omitted_files="warn", not_found="warn")))


def build(
    out, # Folder of the site; one that is there is replaced
    notebooks=None, # Notebooks to build; `None`: all
    gallery=None, # Names of its sample paintings; `None`: all, empty: no gallery
):
    "Build the site; a broken link is an error."
    out = Path(out).resolve()
    source = out.with_name(out.name + ".source")
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    made = {path: write_page(path, source) for path in notebooks or pages()}
    for folder in NOTEBOOKS.rglob("images"): shutil.copytree(folder, source/folder.relative_to(NOTEBOOKS))
    for name in TEXTS: (source/f"{name}.md").write_text(with_links((ROOT/f"{name}.md").read_text(encoding="utf-8")), encoding="utf-8")
    (source/"style.css").write_text(STYLE)
    shown = write_gallery(source, gallery) if gallery is None or gallery else None
    file = source.with_name(out.name + ".yml")
    file.write_text(json.dumps(configuration(source, out, made, shown)))
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--clean", "--config-file", str(file)],   # --quiet would hide warnings from --strict
                          capture_output=True, text=True, env=os.environ | dict(DISABLE_MKDOCS_2_WARNING="true"))
    if done.returncode: raise SystemExit(f"the site was not built: {done.stdout}{done.stderr}")
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="build/site")
    parser.add_argument("--pages", nargs="*", type=lambda text: Path(text).resolve(), help="only these notebooks")
    parser.add_argument("--no_gallery", action="store_true")
    options = parser.parse_args()
    out = build(options.out, options.pages, [] if options.no_gallery else None)
    print(f"{out} holds the site; to see it with its search: python -m http.server -d {out}")
