"""How good is a model? PSNR and SSIM beside bicubic, on Set5, Set14 and real paintings.

    python benchmarks/quality.py [--model default] [--data ../shared/data] [--readme]

Set5 and Set14 by `paper_y`, from the LR files of the benchmark. Paintings by `wang_rgb`: centre crops of at most 1600x1200, LR by our bicubic.
With --readme the table is written to where index.ipynb has its mark.
"""
import argparse
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from paintsr_nb.core import list_pictures, progress
from paintsr_nb.metrics import psnr, ssim
from paintsr_nb.picture import read_rgb8
from paintsr_nb.resize import enlarge, shrink
from paintsr_nb.upscaling.engine import Upscaler

ROOT = Path(__file__).resolve().parents[1]


def bench_pairs(folder):
    "LR and HR of a benchmark folder."
    for path in list_pictures(folder/"HR"): yield read_rgb8(folder/"LR"/path.name), read_rgb8(path)


def painting_pairs(folder):
    "Centre crops of at most 1600x1200 (1200x1600 where upright), and their LR."
    for path in list_pictures(folder):
        high = read_rgb8(path)
        height, width = high.shape[:2]
        limits = (1200, 1600) if width >= height else (1600, 1200)
        rows, columns = (min(side, limit)//4*4 for side, limit in zip((height, width), limits))
        top, left = (height - rows)//2, (width - columns)//2
        high = np.ascontiguousarray(high[top:top + rows, left:left + columns])
        yield shrink(high), high


def measure(data, methods):
    "A row for each set and method: mean PSNR and SSIM."
    sets = [("Set5", "paper_y", bench_pairs(data/"bench"/"Set5")), ("Set14", "paper_y", bench_pairs(data/"bench"/"Set14")),
            ("paintings/test", "wang_rgb", painting_pairs(data/"paintings"/"test"))]
    for name, protocol, pairs in sets:
        numbers = {label: [] for label in methods}
        for low, high in progress(list(pairs), what=name):
            for label, method in methods.items():
                sr = method(low)
                numbers[label].append((psnr(sr, high, protocol), ssim(sr, high, protocol)))
        for label, values in numbers.items():
            yield dict(set=name, protocol=protocol, pictures=len(values), method=label,
                       psnr=float(np.mean([v[0] for v in values])), ssim=float(np.mean([v[1] for v in values])))


def as_markdown(table):
    lines = ["| set (protocol) | " + " | ".join(f"{method}: PSNR dB / SSIM" for method in table.method.unique()) + " |",
             "|---|" + "---|"*table.method.nunique()]
    for (name, protocol, count), rows in table.groupby(["set", "protocol", "pictures"], sort=False):
        lines.append(f"| {name}, {count} pictures (`{protocol}`) | " + " | ".join(f"{row.psnr:.2f} / {row.ssim:.4f}" for row in rows.itertuples()) + " |")
    return "\n".join(lines)


def write_readme(text):
    "Put the table behind its mark in index.ipynb."
    path = ROOT/"nbs"/"index.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if "<!-- quality -->" not in source: continue
        head, _, tail = source.partition("<!-- quality -->")
        tail = tail[tail.index("\n## "):]
        cell["source"] = f"{head}<!-- quality -->\n{text}\n{tail}".splitlines(keepends=True)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="packaged name, weight file or run folder")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("PAINTSR_DATA", ROOT.parent/"shared"/"data")))
    parser.add_argument("--json", type=Path, help="also write the numbers there")
    parser.add_argument("--readme", action="store_true", help="also write the table to index.ipynb")
    options = parser.parse_args()
    upscaler = Upscaler(options.model, precise=True)
    table = pd.DataFrame(measure(options.data, {"bicubic": enlarge, options.model: upscaler}))
    text = as_markdown(table)
    print(text)
    if options.json: options.json.write_text(json.dumps(table.to_dict("records"), indent=1) + "\n")
    if options.readme: write_readme(f"\n{text}\n\nPrinted by `python benchmarks/quality.py --readme`; SSIM and PSNR by the protocol named, mean of the pictures. How the network was trained: [benchmarks/default](benchmarks/default/README.md). What a critic adds and what it costs, measured on the same paintings: [benchmarks/gan](benchmarks/gan/README.md).")


if __name__ == "__main__": main()
