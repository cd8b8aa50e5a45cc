"""Write README.md from nbs/index.ipynb: text as it is, code in fences, printed results below it.

    python tools/readme.py
"""
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def from_root(text):
    "Links beside the notebook as seen from the repository's root."
    return re.sub(r"(\]\(|src=\")(?!https?:|#|/)(images/|tutorials/)", r"\1nbs/\2", text)


def cell_text(cell):
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown": return from_root(source)
    if source.startswith("#| hide"): return ""
    lines = [line for line in source.splitlines() if not line.startswith("#|")]
    kind = "sh" if lines and lines[0].startswith("!") else "python"
    if kind == "sh": lines = [line.removeprefix("!") for line in lines]
    text = f"```{kind}\n" + "\n".join(lines) + "\n```"
    for output in cell.get("outputs", []):
        result = output.get("text") or output.get("data", {}).get("text/plain")
        if result: text += "\n\n" + "\n".join("    " + line for line in "".join(result).rstrip().splitlines())
    return text


def main():
    cells = json.loads((ROOT/"nbs"/"index.ipynb").read_text(encoding="utf-8"))["cells"]
    parts = [part for part in map(cell_text, cells) if part.strip()]
    note = "<!-- Written from nbs/index.ipynb by tools/readme.py: change it there. -->"
    (ROOT/"README.md").write_text("\n\n".join([note, *parts]) + "\n", encoding="utf-8")


if __name__ == "__main__": main()
