"""How good are models? PSNR, SSIM and learned distances of any models on any folders, with clean and with degraded LR pictures.

    python benchmarks/quality.py --models bicubic,default,other.pth --jpeg 90,75,50 --degraded bilinear,scan --out report
    python benchmarks/quality.py --readme                 the table of the README, clean and JPEG
    python benchmarks/quality.py --sheet sheets           contact sheets of real 600 px pictures, to be looked at
    python benchmarks/quality.py --directions             do fine details point where HR's do? A stripe is a peak
    python benchmarks/quality.py --card mine.safetensors  measures a model of ours, and writes its numbers into the file's card

A model is a packaged or public name, a run, a weight file, `auto`, or one of bicubic, lanczos, back_projected;
`NAME+x8` is the mean of eight views. A set is a folder: with LR and HR in it as it is; otherwise pictures, as centre
crops of at most 1600x1200, LR by our bicubic. `--jpeg` saves that LR as JPEG 4:2:0; `--degraded` makes another LR from
HR by a resampler, or by a degradation such as `scan`, drawn per picture. All results are 8 bit; with --work they are
PNG files there, read back. Intervals are of the bootstrap over pictures; a gain is over the first model, in pairs.
"""
import io
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from paintsr_nb.challenge.score import BASELINES
from paintsr_nb.commands import command
from paintsr_nb.core import atomic_path, list_pictures, progress, random_at, write_json
from paintsr_nb.data.degrade import DEGRADATIONS, Degradation, Round, Way, degrade
from paintsr_nb.data.technique import RESAMPLERS, through_jpeg
from paintsr_nb.intervals import bootstrap_interval, paired_bootstrap
from paintsr_nb.metrics import psnr, ssim
from paintsr_nb.picture import read_rgb8, write_picture
from paintsr_nb.resize import enlarge, shrink

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("PAINTSR_DATA", ROOT.parent/"shared"/"data"))
SETS = ("bench/Set5", "bench/Set14", "paintings/test")
METRICS = dict( # Column -> its name and its digits in the tables
    paper_y_psnr=("PSNR dB (`paper_y`)", 2),
    wang_rgb_psnr=("PSNR dB (`wang_rgb`)", 2),
    paper_y_ssim=("SSIM (`paper_y`)", 4),
    wang_rgb_ssim=("SSIM (`wang_rgb`)", 4),
    st_lpips=("ST-LPIPS", 4),
    ssimulacra2=("SSIMULACRA2", 1),
)


# The pictures

@dataclass(frozen=True)
class Pair:
    "A picture of a set."
    id:str
    low:np.ndarray # As the set has it
    high:np.ndarray


def pairs_of(folder, limit=None):
    "The pictures of a set, one after the other; `limit` takes the first few."
    bench = (folder/"HR").is_dir() and (folder/"LR").is_dir()
    for path in list_pictures(folder/"HR" if bench else folder)[:limit]:
        if bench: yield Pair(path.stem, read_rgb8(folder/"LR"/path.name), read_rgb8(path))
        else:
            high = centre_crop(read_rgb8(path))
            yield Pair(path.stem, shrink(high), high)


def centre_crop(high, longest=1600):
    "At most 1600x1200 from the middle, 1200x1600 where upright; sides are multiples of 4."
    height, width = high.shape[:2]
    limits = (longest*3//4, longest) if width >= height else (longest, longest*3//4)
    rows, columns = (min(side, limit)//4*4 for side, limit in zip((height, width), limits))
    top, left = (height - rows)//2, (width - columns)//2
    return np.ascontiguousarray(high[top:top + rows, left:left + columns])


def conditions_of(jpeg=(), degraded=()):
    "Name of a condition -> function from a pair and its number to the LR picture."
    conditions = {"clean": lambda pair, number: pair.low}
    for quality in jpeg: conditions[f"JPEG {quality}"] = lambda pair, number, quality=quality: through_jpeg(pair.low, quality)
    for name in degraded:
        made = degradation_of(name)
        conditions[name] = lambda pair, number, made=made: degrade(pair.high, made, random_at(0, number))
    return conditions


def degradation_of(name):
    if name in RESAMPLERS: return Degradation(name, (Way((Round(resamplers=(name,)),)),))
    if name in DEGRADATIONS: return DEGRADATIONS[name]
    raise ValueError(f"no degradation {name!r}: choose among {', '.join([*RESAMPLERS, *DEGRADATIONS])}")


# The models

@dataclass
class Method:
    "A way to enlarge, and what it costs."
    name:str
    run:object # From LR pixels to SR pixels
    MB:float=0.0 # Size of the weight file
    seconds:float=0.0 # Spent so far
    megapixels:float=0.0 # Made so far

    def __call__(self, low):
        "The result, and note the time."
        start = time.perf_counter()
        sr = self.run(low)
        self.seconds += time.perf_counter() - start
        self.megapixels += sr.shape[0]*sr.shape[1]/1e6
        return sr


def method_of(name, fast=False, device=None):
    if name in BASELINES: return Method(name, BASELINES[name])
    from paintsr_nb.nets.weights import find_model, packaged_models
    from paintsr_nb.upscaling.auto import make_upscaler
    from paintsr_nb.upscaling.refine import refined
    model, views, _ = name.partition("+x8")
    packaged = packaged_models()
    files = [packaged[part] for part in ("default", "scan") if part in packaged] if model == "auto" else [find_model(model)]
    upscaler = make_upscaler(refined(model, tta=bool(views)), device=device, precise=not fast)
    return Method(Path(name).name, upscaler, sum(file.stat().st_size for file in files)/1e6)


# The numbers

def as_png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    file.seek(0)
    return file


def judged(sr, high, perceptual=False):
    "All numbers of one result."
    numbers = {f"{protocol}_{metric.__name__}": metric(sr, high, protocol)
               for protocol in ("paper_y", "wang_rgb") for metric in (psnr, ssim)}
    if not perceptual: return numbers
    from paintsr_nb.losses.perceptual import perceptual_distance
    try: from ssimulacra2 import compute_ssimulacra2
    except ModuleNotFoundError: raise ModuleNotFoundError("SSIMULACRA2 needs a package: pip install paintsr_nb[bench]") from None
    return numbers | dict(st_lpips=perceptual_distance(sr, high), ssimulacra2=float(compute_ssimulacra2(as_png(high), as_png(sr))))


def measure(sets, methods, conditions, perceptual=False, work=None, limit=None):
    "A row per set, condition, picture and method."
    for folder in sets:
        name = "/".join(folder.parts[-2:]).removeprefix("bench/")
        for number, pair in enumerate(progress(list(pairs_of(folder, limit)), what=name)):
            for condition, make_low in conditions.items():
                low = make_low(pair, number)
                for method in methods:
                    sr = method(low)
                    if work:
                        path = Path(work)/name/condition.replace(" ", "")/method.name/f"{pair.id}.png"
                        write_picture(path, sr)
                        sr = read_rgb8(path)
                    yield dict(set=name, condition=condition, method=method.name, id=pair.id) | judged(sr, pair.high, perceptual)


def gain(values, reference):
    "Mean difference to the reference, and the ends of its interval."
    verdict = paired_bootstrap(values, reference)
    return verdict.difference, verdict.least, verdict.most


def summed_up(table, methods):
    "A row per set, condition and method: means, the interval of SSIM, and the gain in SSIM and PSNR over the first method."
    costs, rows = {method.name: method for method in methods}, []
    for (name, condition), group in table.groupby(["set", "condition"], sort=False):
        first = group[group.method == methods[0].name]
        for method, own in group.groupby("method", sort=False):
            cost = costs[method]
            row = dict(set=name, condition=condition, method=method, pictures=len(own))
            row |= {metric: float(own[metric].mean()) for metric in METRICS if metric in own}
            if len(own) > 1: row["ssim_interval"] = bootstrap_interval(own.wang_rgb_ssim)
            for short, metric in dict(ssim="wang_rgb_ssim", psnr="paper_y_psnr").items():
                if len(own) > 1 and method != methods[0].name: row[f"{short}_gain"] = gain(own[metric], first[metric])
            rows.append(row | dict(seconds_per_megapixel=cost.seconds/cost.megapixels, MB=cost.MB))
    return rows


# What is written

def as_markdown(rows):
    "A table per set."
    blocks = []
    for name in dict.fromkeys(row["set"] for row in rows):
        own = [row for row in rows if row["set"] == name]
        metrics = [metric for metric in METRICS if metric in own[0]]
        names = ["LR", "model", *(METRICS[metric][0] for metric in metrics)]
        names += ["gain in SSIM (`wang_rgb`)", "gain in PSNR (`paper_y`)", "s/MP", "MB"]
        lines = [f"### {name}, {own[0]['pictures']} pictures", "", "| " + " | ".join(names) + " |", "|" + "---|"*len(names)]
        for row in own:
            cells = [row["condition"], row["method"], *(f"{row[metric]:.{METRICS[metric][1]}f}" for metric in metrics)]
            cells += [_gain(row.get("ssim_gain"), 4), _gain(row.get("psnr_gain"), 2)]
            lines.append("| " + " | ".join([*cells, f"{row['seconds_per_megapixel']:.2f}", f"{row['MB']:.1f}"]) + " |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _gain(gain, digits):
    if gain is None: return ""
    return f"{gain[0]:+.{digits}f} ({gain[1]:+.{digits}f} to {gain[2]:+.{digits}f})"


def readme_table(rows):
    "Per set a row per method, per condition a column: PSNR by `paper_y`, and SSIM by the protocol that the set is known by."
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    lines = ["| set | model | " + " | ".join(conditions) + " |", "|---|---|" + "---|"*len(conditions)]
    for name, method in dict.fromkeys((row["set"], row["method"]) for row in rows):
        own = {row["condition"]: row for row in rows if (row["set"], row["method"]) == (name, method)}
        protocol = protocol_of(name)
        cells = [f"{row['paper_y_psnr']:.2f} / {row[f'{protocol}_ssim']:.4f}" for row in own.values()]
        lines.append(f"| {name}, {own[conditions[0]]['pictures']} pictures (`{protocol}`) | {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def protocol_of(name): return "paper_y" if name.startswith("Set") else "wang_rgb"


def write_readme(text):
    "Put the table behind its mark in index.ipynb."
    import json
    path = ROOT/"nbs"/"index.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if "<!-- quality -->" not in source: continue
        head, _, tail = source.partition("<!-- quality -->")
        tail = tail[tail.index("\n## "):]
        cell["source"] = f"{head}<!-- quality -->\n{text}\n{tail}".splitlines(keepends=True)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


README_NOTE = """Each cell: PSNR in dB (brightness, `paper_y`) / SSIM by the protocol named, mean of the pictures; \
JPEG is LR saved as JPEG 4:2:0 of that quality. \
Printed by `python benchmarks/quality.py --models bicubic,default,scan,score --fast --readme`. \
How they were trained: [benchmarks/default](benchmarks/default/README.md), \
[benchmarks/scan](benchmarks/scan/README.md), [benchmarks/score](benchmarks/score/README.md). \
What a critic adds and what it costs, measured on the same paintings: [benchmarks/gan](benchmarks/gan/README.md)."""


def plot(rows, path):
    "SSIM against time, and against each learned distance, of the last set; a colour per method, a marker per condition."
    from matplotlib.figure import Figure
    rows = [row for row in rows if row["set"] == rows[-1]["set"]]
    axes_of = dict(seconds_per_megapixel="seconds per megapixel",
                   st_lpips="ST-LPIPS (less is nearer)", ssimulacra2="SSIMULACRA2 (more is nearer)")
    axes_of = {column: label for column, label in axes_of.items() if column in rows[0]}
    methods, conditions = (list(dict.fromkeys(row[key] for row in rows)) for key in ("method", "condition"))
    figure = Figure(figsize=(5*len(axes_of), 4.4), layout="constrained")
    for axes, (column, label) in zip(np.ravel(figure.subplots(1, len(axes_of), sharey=True)), axes_of.items()):
        for row in rows:
            number = conditions.index(row["condition"])
            colour = f"C{methods.index(row['method']) % 10}"
            axes.plot(row[column], row["wang_rgb_ssim"], "osD^vPX*<>"[number % 10], color=colour, alpha=0.8,
                      label=f"{row['method']}, {row['condition']}")
        axes.set(xlabel=label, ylabel="SSIM (wang_rgb)", title=rows[0]["set"])
        if column == "seconds_per_megapixel": axes.set_xscale("log")
        axes.grid(alpha=0.3)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=7)
    with atomic_path(path) as temporary: figure.savefig(temporary, format="png", dpi=110)


# Directions of details

def direction_ratios(folder, methods, limit=None):
    "Method -> (2,12): the shares of energy per octave and direction, means of the pictures of a set, over those of HR."
    from paintsr_nb.losses.fidelity import directions
    from paintsr_nb.nets.tensors import to_tensor
    totals = dict.fromkeys(["HR", *(method.name for method in methods)], 0)
    for pair in progress(list(pairs_of(folder, limit)), what="directions"):
        totals["HR"] += directions(to_tensor(pair.high))[0]
        for method in methods: totals[method.name] += directions(to_tensor(method(pair.low)))[0]
    return {name: (total/totals["HR"]).numpy() for name, total in totals.items() if name != "HR"}


def print_directions(folder, methods, limit=None):
    print(f"{folder.name}\n\n{directions_table(direction_ratios(folder, methods, limit))}\n")


def directions_table(ratios):
    "Markdown: the lowest and the highest ratio of each octave, and where the highest is."
    lines = ["| method | octave, cycles per px | lowest | highest | at |", "|---|---|---|---|---|"]
    for name, octaves in ratios.items():
        for octave, of_angles in zip(("1/8-1/4", "1/4-1/2"), octaves):
            lines.append(f"| {name} | {octave} | {of_angles.min():.2f} | {of_angles.max():.2f} | {15*of_angles.argmax()}° |")
    return "\n".join(lines)


# Contact sheets

def liveliest(low, side):
    "Top and left of the square that has most detail."
    change = np.abs(np.diff(low.astype(np.float32).mean(-1), axis=0, append=0))
    steps = [range(0, max(extent - side, 0) + 1, 20) for extent in low.shape[:2]]
    return max(((top, left) for top in steps[0] for left in steps[1]), key=lambda at: change[at[0]:at[0]+side, at[1]:at[1]+side].sum())


def contact_sheet(low, methods, side=160):
    "Two parts of a picture, the liveliest and the middle, by each method: a labelled picture."
    side = min(side, *low.shape[:2])
    places = [liveliest(low, side), tuple((extent - side)//2 for extent in low.shape[:2])]
    panels = {"LR": enlarge(low, kernel="nearest")} | {method.name: method(low) for method in methods}
    sheet = Image.new("RGB", ((side*4 + 8)*len(panels), (side*4 + 8)*len(places) + 20), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (name, pixels) in enumerate(panels.items()):
        draw.text((column*(side*4 + 8) + 4, 4), name, fill="black")
        for row, (top, left) in enumerate(places):
            part = pixels[4*top:4*(top + side), 4*left:4*(left + side)]
            sheet.paste(Image.fromarray(np.ascontiguousarray(part)), (column*(side*4 + 8), 20 + row*(side*4 + 8)))
    return sheet


def write_sheets(folder, out, methods, limit=None):
    for path in progress(list_pictures(folder)[:limit], what="contact sheets"):
        with atomic_path(Path(out)/f"{path.stem}.jpg") as temporary:
            contact_sheet(read_rgb8(path), methods).save(temporary, "JPEG", quality=92)
    print(f"{out}: a sheet per picture of {folder}")


@command
def main(
    models:str="bicubic,default", # Models, the first of which the others are compared with
    sets:str=None, # Folders; Set5, Set14 and paintings/test of DATA where it is not given
    jpeg:str="", # Qualities, for instance 90,75,50
    degraded:str="", # Resamplers (bicubic, bilinear, lanczos, box, nearest) and degradations (scan)
    perceptual:bool=False, # ST-LPIPS and SSIMULACRA2 too? They take several times as long
    fast:bool=False, # The number format that is fastest here, as users have it, instead of float32?
    device:str=None, # cpu or cuda
    data:str=str(DATA), # Folder with bench, paintings and lr600
    out:str=None, # Folder for quality.md, quality.json and quality.png
    work:str=None, # Folder that keeps each result as PNG
    limit:int=None, # Only the first few pictures of each set
    readme:bool=False, # Write the table with clean and JPEG columns to index.ipynb?
    directions:bool=False, # Only how the directions of fine details compare with HR's?
    sheet:str=None, # Folder for contact sheets of lr600 (or of the folders in --sets); nothing is scored then
    card:str=None, # A weight file of ours: measure it, and write the numbers into its card
    about:str=None, # JSON file with more of that card: use, data, training, limits, licence, provenance
):
    "Score models."
    data, listed = Path(data), lambda text: [part.strip() for part in (text or "").split(",") if part.strip()]
    names = listed(models)
    if card and card not in names: names.append(card)
    methods = [method_of(name, fast, device) for name in names]
    if len({method.name for method in methods}) < len(methods):
        raise ValueError(f"--models {models}: two have the same name, rename one file")
    folders = [Path(name) if Path(name).is_dir() else data/name for name in listed(sets) or (["lr600"] if sheet else SETS)]
    for folder in folders:
        if sheet: write_sheets(folder, sheet, methods, limit)
        elif directions: print_directions(folder, methods, limit)
    if sheet or directions: return
    conditions = conditions_of([int(quality) for quality in listed(jpeg) or (["90", "75"] if readme else [])], listed(degraded))
    table = pd.DataFrame(measure(folders, methods, conditions, perceptual, work, limit))
    rows = summed_up(table, methods)
    text = as_markdown(rows)
    print(text)
    if out:
        write_json(Path(out)/"quality.json", dict(rows=rows, pictures=table.to_dict("records")))
        with atomic_path(Path(out)/"quality.md") as temporary: temporary.write_text(text + "\n", encoding="utf-8")
        plot(rows, Path(out)/"quality.png")
    if readme: write_readme(f"\n{readme_table(rows)}\n\n{README_NOTE}")
    if card: write_numbers(card, [row for row in rows if row["method"] == Path(card).name], about)


def write_numbers(card, rows, about=None):
    "Put what was measured, and what is told in a JSON file, into the card of a weight file."
    import json
    from paintsr_nb.nets.card import update_card
    told = json.loads(Path(about).read_text(encoding="utf-8")) if about else {}
    update_card(card, told | dict(numbers=rows))
    print(f"{card}: its card has {len(rows)} rows of numbers now")


if __name__ == "__main__": main()
