"""How fast a store gives crops, beside a loader of whole PNG files and one of PNG patches; what crops take of a training step; and memory.

    python benchmarks/data.py [--low_size 48] [--rounds 5] [--batches 20] [--json FILE]

The pictures are the sample paintings, 600 and 2400 px. The two peers are plain PyTorch: a `Dataset` that opens files by
Pillow, cuts, turns and mirrors, behind a `DataLoader`. `pictures` opens both files of the picture that the store's
loader would cut from, `patches` opens two files of a crop's size, cut beforehand from a grid. All work on one thread,
take turns, and end with a batch of floats between 0 and 1; told is the median of the ratios of the rounds. Before
anything is measured, `pictures` must give the same crops as the store, bit for bit.

A training step is an L1 step of `compact` on 16 crops, in its fastest precision. Crops and steps are measured in
seconds of the processor, so that other work on the machine matters less; `waited` is the share of a training's time
that `MeterCallback` measures, by the clock: run it where nothing else runs. Memory is what the process has for itself,
maps of files not counted: the most that it grows by from the end of the first pass to the end of the sixth.
"""
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
import torch
from fastai.callback.core import Callback
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from paintsr_nb.commands import command
from paintsr_nb.core import random_at, write_json
from paintsr_nb.data.degrade import DEGRADATIONS
from paintsr_nb.data.patches import Crop, cut_crop, draw_crop, sr_dls
from paintsr_nb.data.store import prepare
from paintsr_nb.nets.generators import make_generator
from paintsr_nb.nets.modes import MODES, fastest_mode
from paintsr_nb.picture import write_picture
from paintsr_nb.resize import shrink
from paintsr_nb.samples import samples
from paintsr_nb.training.meter import MeterCallback
from paintsr_nb.training.recipes import make_recipe
from paintsr_nb.training.train import Setup, stage_learner

BS, SEED, PASSES = 16, 42, 6
TARGETS = dict(pictures=150, patches=2, store=0.05, scan=0.25, waited=0.05, memory=50)


def opened(path): return np.asarray(Image.open(path).convert("RGB"))


def as_tensor(pixels): return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


class Pictures(Dataset):
    "Opens both files of a picture for each crop; the crops are those of the store."
    def __init__(self, files, sizes, low_size, n): self.files, self.sizes, self.low_size, self.n = files, sizes, low_size, n

    def __len__(self): return self.n

    def __getitem__(self, index):
        crop = draw_crop(self.sizes, self.low_size, SEED, 0, index)
        low, high = map(opened, self.files[crop.picture])
        return tuple(map(as_tensor, cut_crop(low, high, crop, self.low_size)))


class Patches(Pictures):
    "Opens two files of a crop's size."
    def __getitem__(self, index):
        rng = random_at(SEED, 0, index)
        low, high = map(opened, self.files[int(rng.integers(len(self.files)))])
        crop = Crop(0, 0, 0, int(rng.integers(4)), bool(rng.integers(2)))
        return tuple(map(as_tensor, cut_crop(low, high, crop, self.low_size)))


def write_all(folder, low_size):
    "The samples as pairs of pictures, and as pairs of patches: folders by the size of what they hold."
    for sample in samples():
        high, size = sample.high, 4*low_size
        write_picture(folder/"high"/f"{sample.id}.png", high)
        write_picture(folder/"low"/f"{sample.id}.png", shrink(high))
        for row in range(0, high.shape[0] - size + 1, size):
            for column in range(0, high.shape[1] - size + 1, size):
                patch = np.ascontiguousarray(high[row:row + size, column:column + size])
                name = f"{sample.id}_{row}_{column}.png"
                write_picture(folder/"patches/high"/name, patch)
                write_picture(folder/"patches/low"/name, shrink(patch))


def pairs_of(folder): return [(folder/"low"/path.name, path) for path in sorted((folder/"high").iterdir())]


def peer(dataset):
    "Batches of a plain loader, as floats."
    for batch in DataLoader(dataset, batch_size=BS): yield [side.float().div_(255) for side in batch]


def crops_of(store, low_size, batches, **kwargs): return sr_dls(store, low_size, BS, batches, SEED, device="cpu", **kwargs).train


def seconds_per_batch(batches):
    "Processor seconds per batch, the first left out."
    batches = iter(batches)
    next(batches)
    begun = time.process_time()
    n = sum(1 for _ in batches)
    return (time.process_time() - begun)/n


def check_equal(ours, theirs):
    for one, two in zip(ours, theirs, strict=True):
        if all(torch.equal(a.as_subclass(torch.Tensor), b) for a, b in zip(one, two)): continue
        raise SystemExit("the peer gives other crops: nothing was measured")


def learner(store, low_size, mode, n_iters=3, num_workers=0, cbs=(), degradation="stored"):
    recipe = make_recipe("l1", bs=BS, low_size=low_size, epoch_iters=n_iters, valid_size=low_size, degradation=degradation)
    return stage_learner(recipe, recipe.stages[0], make_generator("compact"), Setup(store, num_workers, "cpu", mode), cbs=cbs)


class StepWatch(Callback):
    "Processor seconds of each step, without its crops."
    order, run_valid = 1000, False
    def before_fit(self): self.seconds = []
    def before_batch(self): self.begun = time.process_time()
    def after_batch(self): self.seconds.append(time.process_time() - self.begun)


def fit(learn):
    with learn.no_bar(), learn.no_logging(): learn.fit(1)


def seconds_per_step(store, low_size, mode):
    fit(learner(store, low_size, mode, cbs=[watch := StepWatch()]))
    return min(watch.seconds[1:])


def waited(store, low_size, mode, num_workers):
    "Share of a short training that is waited for crops of the degradation `scan`."
    fit(learner(store, low_size, mode, 1 + 10, num_workers, [meter := MeterCallback(say=lambda line: None)], "scan"))
    return meter.share


def own_megabytes():
    memory = psutil.Process().memory_info()
    return (memory.rss - getattr(memory, "shared", 0))/1e6


def growth(store, low_size, batches):
    "Megabytes that the process grows by at most after the first pass."
    loader, seen = crops_of(store, low_size, batches), []
    for _ in range(PASSES):
        for _ in loader: pass
        seen.append(own_megabytes())
    return max(seen) - seen[0]


def told(what, value, shown, target, kept):
    print(f"{what:45} {shown.format(value):>8}   target {shown.format(target)}: {'met' if kept else 'MISSED'}")


@command
def main(
    low_size:int=48, # Side of a crop in LR pixels
    rounds:int=5, # Turns of each loader
    batches:int=20, # Batches per turn; of the loader of whole pictures, a tenth of them
    json:str=None, # File for the numbers
):
    "Crops per second, beside two peers; their share of a step; memory."
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_all(folder, low_size)
        store = prepare(folder/"store", low=folder/"low", high=folder/"high", valid=0.2, num_workers=1).store
        train = store.ids("train")
        files = [(folder/"low"/f"{name}.png", folder/"high"/f"{name}.png") for name in train]
        sizes = np.array([store.shape(name)[:2] for name in train])
        few, many = (BS*(1 + count) for count in (max(1, batches//10), batches))
        loaders = dict(
            store=lambda: crops_of(store, low_size, 1 + batches),
            scan=lambda: crops_of(store, low_size, 1 + batches, degradation=DEGRADATIONS["scan"]),
            pictures=lambda: peer(Pictures(files, sizes, low_size, few)),
            patches=lambda: peer(Patches(pairs_of(folder/"patches"), None, low_size, many)))
        check_equal(crops_of(store, low_size, few//BS), loaders["pictures"]())
        taken = [{name: seconds_per_batch(make()) for name, make in loaders.items()} for _ in range(rounds)]
        mode, steps = fastest_mode(lambda mode: seconds_per_step(store, low_size, mode), MODES)
        waits = {n: waited(store, low_size, mode, n) for n in (0, 1, 2)}
        grown = growth(store, low_size, batches)
    median = lambda values: statistics.median(list(values))
    speeds = {name: BS/median(row[name] for row in taken) for name in loaders}
    ratios = {name: median(row[name]/row["store"] for row in taken) for name in ("pictures", "patches")}
    shares = {name: median(row[name] for row in taken)/steps[mode] for name in ("store", "scan")}
    for name, speed in speeds.items(): print(f"{name:10} {speed:7.1f} crops of {low_size}/{4*low_size} px per second of one thread")
    print(f"an L1 step of compact, {BS} crops, {mode}: {steps[mode]*1000:.0f} ms")
    for name, ratio in ratios.items(): told(f"the store against {name}", ratio, "{:.2f}x", TARGETS[name], ratio >= TARGETS[name])
    for name, share in shares.items(): told(f"a batch against a step: {name}", share, "{:.1%}", TARGETS[name], share <= TARGETS[name])
    for n, share in waits.items(): print(f"{f'training waited for scan, num_workers={n}':45} {share:8.1%}")
    told("the same, hidden by two workers", waits[2], "{:.1%}", TARGETS["waited"], waits[2] <= TARGETS["waited"])
    told(f"memory grew in {PASSES - 1} passes by MB", grown, "{:.1f}", TARGETS["memory"], grown <= TARGETS["memory"])
    found = dict(mode=str(mode), step=steps[mode], crops_per_second=speeds, ratios=ratios, of_a_step=shares, waited=waits, grown_mb=grown)
    if json: write_json(json, found)


if __name__ == "__main__": main()
