"""How often `auto` chooses which model, and what each quality of JPEG costs the two: from what the rules of `upscaling.choose` were taken.

    python benchmarks/choose.py [--data ../shared/data] [--number 20] [--gain] [--json FILE]

Pictures: paintings/train, paintings/test, photos, photos2, paintings2, up to so many of each; LR by our bicubic, its
middle of at most 400 px. With --gain also SSIM of `default`, and of `scan` where it is packaged, above bicubic by JPEG
quality, on paintings/test: where they cross, `_FINE` belongs.
"""
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent))
from quality import DATA, centre_crop
from paintsr_nb.commands import command
from paintsr_nb.core import list_pictures, progress, random_at, write_json
from paintsr_nb.data.degrade import DEGRADATIONS, Degradation, degrade
from paintsr_nb.data.technique import through_jpeg
from paintsr_nb.metrics import ssim
from paintsr_nb.nets.weights import packaged_models
from paintsr_nb.picture import read_rgb8, round_half_up
from paintsr_nb.resize import enlarge, shrink
from paintsr_nb.upscaling.choose import choose_model
from paintsr_nb.upscaling.engine import Upscaler

FOLDERS = ("paintings/test", "paintings/train", "paintings2", "photos", "photos2")
QUALITIES = (100, 98, 97, 96, 95, 93, 90, 85, 75, 60, 50)


def noisy(pixels, sigma, number): return round_half_up(pixels + random_at(1, number).normal(0, sigma, pixels.shape))


SCANNED = Degradation("scanned", ways=DEGRADATIONS["scan"].ways[:1])   # the others are JPEGs and clean ones
WAYS = {
    "clean PNG": lambda low, high, n: low,
    **{f"JPEG {quality}, then PNG": lambda low, high, n, quality=quality: through_jpeg(low, quality) for quality in (98, 95, 90, 75, 50)},
    **{f"JPEG {quality}, border cut off": lambda low, high, n, quality=quality: through_jpeg(low, quality)[3:, 5:]
       for quality in (90, 75, 50)},
    **{f"noise of {sigma} levels": lambda low, high, n, sigma=sigma: noisy(low, sigma, n) for sigma in (1, 2, 3, 5)},
    "a scan as `scan` has it": lambda low, high, n: degrade(high, SCANNED, random_at(0, n)),
}


def part(path):
    high = centre_crop(read_rgb8(path))
    top, left = (max(side - 1600, 0)//8*4 for side in high.shape[:2])
    return np.ascontiguousarray(high[top:top + 1600, left:left + 1600])


@command
def main(
    data:str=str(DATA), # Folder of real pictures
    number:int=20, # Pictures per folder, at most
    gain:bool=False, # Measure what JPEG costs `default` and `scan` too?
    json:str=None, # File for the numbers
):
    "Count what is chosen."
    files = [path for folder in FOLDERS for path in list_pictures(Path(data)/folder)[:number]]
    counts = {name: dict(default=0, scan=0) for name in WAYS}
    for n, path in enumerate(progress(files, what="choosing")):
        high = part(path)
        for name, way in WAYS.items():
            counts[name][choose_model(np.ascontiguousarray(way(shrink(high), high, n)), models=("default", "scan")).model] += 1
    print("| picture | default | scan |", "|---|---|---|", sep="\n")
    for name, row in counts.items(): print(f"| {name} | {row['default']} | {row['scan']} |")
    gains = gains_of(list_pictures(Path(data)/"paintings"/"test")[:number]) if gain else {}
    for name, values in gains.items():
        print(f"{name}: SSIM over bicubic: " + ", ".join(f"{way} {value:+.4f}" for way, value in values.items()))
    if json: write_json(json, dict(pictures=len(files), counts=counts, gains=gains))


def gains_of(files):
    "Model -> mean SSIM above bicubic, clean and by JPEG quality, on the middle 800 px."
    models = {name: Upscaler(name) for name in ("default", "scan") if name in packaged_models()}
    rows = {name: [] for name in models}
    for path in progress(files, what="gain"):
        high = part(path)
        top, left = (max(side - 800, 0)//8*4 for side in high.shape[:2])
        high = np.ascontiguousarray(high[top:top + 800, left:left + 800])
        lows = {"clean": shrink(high)} | {f"JPEG {quality}": through_jpeg(shrink(high), quality) for quality in QUALITIES}
        plain = {way: ssim(enlarge(low), high) for way, low in lows.items()}
        for name, run in models.items(): rows[name].append({way: ssim(run(low), high) - plain[way] for way, low in lows.items()})
    return {name: pd.DataFrame(found).mean().to_dict() for name, found in rows.items()}



if __name__ == "__main__": main()
