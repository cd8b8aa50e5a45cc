"""Does GAN training work? Pixels first, then a critic, on real paintings; judged on paintings that neither has seen.

    python benchmarks/gan.py [--data ../shared/data] [--work runs/gan] [--device cpu] [--n_iters N] [--resume] [--judge]

Trains the packaged compact net further on L1, then against a U-Net critic, by `RECIPE` below (or `--arch rrdbnet
--low_size 32 --bs 16` where a GPU is at hand), and writes `benchmarks/gan/`: recipe, history, a table and a plot. With
--judge nothing is trained, a finished run is judged again.

Judged are centre crops of paintings/test, 384 px HR, LR by our bicubic: SSIM and PSNR (`wang_rgb`), the learned
distance ST-LPIPS, and how much of the original's energy between a quarter and a half of a cycle a pixel (the finest
octave) is there. Between the best nets of the two stages the weights are interpolated; the GAN stage's last average is
told beside them.
"""
import argparse
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from paintsr_nb.core import list_pictures, progress, write_json
from paintsr_nb.data.store import Store, prepare
from paintsr_nb.figures import Sheet
from paintsr_nb.metrics import psnr, ssim
from paintsr_nb.nets.foreign import load_model
from paintsr_nb.nets.weights import interpolated
from paintsr_nb.picture import read_rgb8, write_picture
from paintsr_nb.resize import enlarge, shrink
from paintsr_nb.training.run import load_checkpoint
from paintsr_nb.losses.perceptual import perceptual_distance
from paintsr_nb.training.recipes import Gan, Recipe, Schedule, Stage, Terms
from paintsr_nb.training.train import train
from paintsr_nb.upscaling.engine import Upscaler

ROOT = Path(__file__).resolve().parent/"gan"
RECIPE = Recipe("gan-proof", (
    Stage("l1", 600, lr=2e-4, score="psnr"),
    Stage("gan", 2400, lr=1e-4,
          schedule=Schedule("steps", milestones=(0.6, 0.85)),
          loss=Terms(pixel=0.4, perceptual=0.04, net="vgg16", layers=dict(conv2_2=0.1, conv3_3=0.5, conv4_3=1.0)),
          gan=Gan(weight=0.04, kind="vanilla", critic="unet", critic_filters=24, critic_lr=2e-4),
          score="distance")),
    start="default", low_size=24, bs=4, epoch_iters=200, valid_size=64)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def crops(folder, side=384):
    "Centre crops of the pictures of a folder, and their LR."
    for path in list_pictures(folder):
        high = read_rgb8(path)
        rows, columns = (min(length, side)//4*4 for length in high.shape[:2])
        top, left = (high.shape[0] - rows)//2, (high.shape[1] - columns)//2
        high = np.ascontiguousarray(high[top:top + rows, left:left + columns])
        yield shrink(high), high


def finest_octave(pixels):
    "Energy from a quarter to half a cycle a pixel, Hann-windowed, of the grey picture."
    grey = pixels.astype(np.float64).mean(2)
    window = np.outer(*(np.hanning(side) for side in grey.shape))
    power = np.abs(np.fft.fft2((grey - grey.mean())*window))**2
    radius = np.hypot(*np.meshgrid(*(np.fft.fftfreq(side) for side in grey.shape), indexing="ij"))
    return power[(radius >= 0.25) & (radius < 0.5)].sum()


def judge(methods, pairs):
    "A row for each method: means over the pictures."
    for name, method in methods.items():
        rows = []
        for low, high in progress(pairs, what=name):
            sr = method(low)
            rows.append((psnr(sr, high), ssim(sr, high), perceptual_distance(sr, high), finest_octave(sr)/finest_octave(high)))
        yield dict(zip(("method", "psnr", "ssim", "distance", "finest_octave"), (name, *np.mean(rows, 0).tolist())))


def stages(run):
    "The best nets of the two stages, each by its own score, and the last average of the GAN stage."
    pixels, last = load_model(run), load_model(run)
    pixels.load_state_dict(load_checkpoint(run/"checkpoints"/"0_l1.pt")["callbacks"]["best"]["weights"])
    last.load_state_dict(load_checkpoint(run/"checkpoints"/"1_gan.pt")["callbacks"]["ema"]["average"])
    return pixels, load_model(run), last


def monotone(values): return all(a > b for a, b in zip(values, values[1:]))


def draw(table, path):
    "SSIM against distance, from the pixel stage to the GAN stage."
    figure = Sheet(figsize=(5.2, 3.6), dpi=100, layout="constrained", facecolor="white")
    axes = figure.subplots()
    way = table[table.share.notna()]
    axes.plot(way.distance, way.ssim, marker="o")
    for row in way.itertuples():
        axes.annotate(f"{row.share:.2f}", (row.distance, row.ssim), textcoords="offset points", xytext=(5, 5), fontsize=8)
    for row in table[table.share.isna()].itertuples():
        axes.plot(row.distance, row.ssim, "k^")
        axes.annotate(row.method, (row.distance, row.ssim), textcoords="offset points", xytext=(6, -3), fontsize=8)
    axes.set(xlabel="learned distance to HR (less is better)", ylabel="SSIM (more is better)")
    axes.grid(alpha=0.25)
    figure.savefig(path)


def asked():
    "What the command line says."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("runs/gan"), help="folder for store and run")
    parser.add_argument("--device", default=None)
    for name, kind in (("arch", str), ("low_size", int), ("bs", int), ("precision", str)): parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--n_iters", type=int, help="steps of the GAN stage")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--judge", action="store_true", help="train nothing")
    return parser.parse_args()


def recipe_of(options):
    changes = {name: value for name in ("arch", "low_size", "bs", "precision") if (value := getattr(options, name)) is not None}
    if "arch" in changes: changes["start"] = ""
    recipe = replace(RECIPE, **changes)
    if not options.n_iters: return recipe
    return replace(recipe, stages=(recipe.stages[0], replace(recipe.stages[1], n_iters=options.n_iters)))


def summary_of(table, pairs, history):
    "The numbers of result.json."
    accuracy = history[(history.stage == "gan") & (history.step > 0)].critic_accuracy
    way = table[table.share.notna()]
    return dict(
        pictures=len(pairs),
        critic_accuracy=[float(accuracy.min()), float(accuracy.median()), float(accuracy.max())],
        ssim_falls_by=float(way.ssim.iloc[0] - way.ssim.iloc[-1]),
        distance_falls_by=float(way.distance.iloc[0] - way.distance.iloc[-1]),
        falls_all_the_way={name: monotone(list(way[name])) for name in ("psnr", "ssim", "distance")},
        rows=table.astype(object).where(table.notna(), None).to_dict("records"),
    )


def show_crops(methods, low, high):
    "Bicubic, pixel stage, GAN stage and HR side by side."
    top = (high.shape[0] - 240)//2
    window = (slice(top, top + 240), slice(72, 312))
    pictures = enlarge(low), methods["share 0.0"](low), methods["share 1.0"](low), high
    write_picture(ROOT/"crops.jpg", np.concatenate([picture[window] for picture in pictures], 1))


def main():
    options = asked()
    recipe, run, paintings = recipe_of(options), options.work/"run", options.data/"paintings"
    if not options.judge:
        store = options.work/"store"
        if not (store/"manifest.json").exists():
            prepare(store, high=[paintings/"train", options.data/"photos"], halve=paintings/"index.csv")
        train(recipe, Store(store), run, resume=options.resume, device=options.device)
    pairs = list(crops(paintings/"test"))
    pixels, gan, last = stages(run)
    start = Upscaler(recipe.start or "default", options.device)
    methods = {"bicubic": enlarge, "start": start, "last epoch": Upscaler(last, options.device)}
    methods |= {f"share {share}": Upscaler(interpolated(pixels, gan, share), options.device) for share in SHARES}
    table = pd.DataFrame(judge(methods, pairs))
    table["share"] = [None, None, None, *SHARES]
    history = pd.read_csv(run/"history.csv")
    result = summary_of(table, pairs, history)
    ROOT.mkdir(exist_ok=True)
    write_json(ROOT/"result.json", result)
    shutil.copy(run/"recipe.json", ROOT/"recipe.json")
    history.round(6).to_csv(ROOT/"history.csv", index=False)
    draw(table, ROOT/"tradeoff.png")
    show_crops(methods, *pairs[0])
    told = {name: value for name, value in result.items() if name != "rows"}
    print(table.round(4).to_string(index=False), json.dumps(told, indent=1), sep="\n")


if __name__ == "__main__": main()
