"""Crops per second by degradation on one thread, and what 16 of them take of an L1 step of `compact`, in its fastest precision.

    python benchmarks/degrade.py [--low_size 48] [--rounds 3] [--json FILE]

All loaders give the same crops of the sample paintings and take turns; told is the median of the rounds. `stored` reads
LR from the store, the others make it from HR.
"""
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import torch

from paintsr_nb.commands import command
from paintsr_nb.core import write_json
from paintsr_nb.data.degrade import DEGRADATIONS
from paintsr_nb.data.patches import sr_dls
from paintsr_nb.data.store import prepare
from paintsr_nb.nets.generators import make_generator
from paintsr_nb.nets.modes import MODES, fastest_mode
from paintsr_nb.picture import write_picture
from paintsr_nb.samples import samples
from paintsr_nb.training.learner import time_steps
from paintsr_nb.training.recipes import make_recipe
from paintsr_nb.training.train import Setup, stage_learner

BS, BATCHES = 16, 10


def seconds_per_batch(store, low_size, degradation):
    loader = sr_dls(store, low_size, BS, BATCHES + 1, device="cpu", degradation=degradation).train
    batches = iter(loader)
    next(batches)
    begun = time.perf_counter()
    for _ in batches: pass
    return (time.perf_counter() - begun)/BATCHES


def seconds_per_step(store, low_size):
    recipe = make_recipe("l1", bs=BS, low_size=low_size, epoch_iters=3, valid_size=low_size)
    def seconds(mode):
        setup = Setup(store, device="cpu", mode=mode)
        return time_steps(stage_learner(recipe, recipe.stages[0], make_generator("compact"), setup), 3)
    mode, measured = fastest_mode(seconds, MODES)
    return str(mode), measured[mode]


@command
def main(
    low_size:int=48, # Side of a crop in LR pixels
    rounds:int=3, # Turns of each degradation
    json:str=None, # File for the numbers
):
    "Crops per second by degradation."
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for sample in samples(): write_picture(Path(folder)/"high"/f"{sample.id}.png", sample.high)
        store = prepare(Path(folder)/"store", high=Path(folder)/"high", num_workers=1).store
        loaders = {"stored": None, **DEGRADATIONS}
        taken = {name: [] for name in loaders}
        for _ in range(rounds):
            for name, degradation in loaders.items(): taken[name].append(seconds_per_batch(store, low_size, degradation))
        mode, step = seconds_per_step(store, low_size)
    print(f"an L1 step of compact, {BS} crops of {low_size}, {mode}: {step*1000:.0f} ms")
    medians = {name: statistics.median(values) for name, values in taken.items()}
    for name, value in medians.items():
        print(f"{name:13} {BS/value:6.0f} crops per second, {value*1000:6.1f} ms per batch, {value/step:6.1%} of a step")
    if json: write_json(json, dict(mode=mode, step=step, batch=medians))


if __name__ == "__main__": main()
