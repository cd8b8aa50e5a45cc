"""Time of the engine against the plain way: the same net, eager, float32, the whole picture at once.

    python benchmarks/upscale.py [--model default] [--side 600] [--rounds 5] [--tile 128] [--device cpu]

Both are run in turn, so that whatever else the machine does hits both alike; medians are compared. The last lines tell what the chosen mode
costs in exactness: levels of 255 between the engine's picture and the plain one.
"""
import statistics
import time

import numpy as np
import torch
from fastcore.script import call_parse

from paintsr_nb.nets.foreign import load_model
from paintsr_nb.picture import read_rgb8
from paintsr_nb.samples import samples
from paintsr_nb.upscaling.engine import Upscaler, measure_modes


def plainly(net, pixels, device):
    "What a few lines of PyTorch do."
    with torch.no_grad():
        low = torch.from_numpy(pixels.copy()).to(device).permute(2, 0, 1)[None].float()/255
        return (net(low).clamp(0, 1)*255 + 0.5).to(torch.uint8)[0].permute(1, 2, 0).cpu().numpy()


def seconds(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


@call_parse
def main(
    model:str="default", # Name of a packaged model, weight file or run folder
    picture:str=None, # LR picture; the first sample painting if left out
    side:int=600, # Largest side of the part of it that is upscaled, in LR pixels
    rounds:int=5, # How often each way is timed
    tile:int=None, # Largest side of a tile; by memory and cache if left out
    device:str="cpu", # Where both run
):
    "Ratio of the engine's time to plain PyTorch's."
    pixels = (read_rgb8(picture) if picture else samples()[0].low)[:side, :side]
    net, engine = load_model(model).to(device), Upscaler(model, device, tile)
    print(f"{model} on {pixels.shape[1]}x{pixels.shape[0]} px, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")
    for mode, (once, off) in measure_modes(net, device).items():
        print(f"  {str(mode):26} {once*1000:8.1f} ms on the picture that modes are tried on, {off:.2f} levels off")
    ways = {"plain": lambda: plainly(net, pixels, device), "engine": lambda: engine(pixels)}
    results = {way: work() for way, work in ways.items()}   # warm-up, and the measurement of modes
    times = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items(): times[way].append(seconds(work)[0])
    plain, ours = (statistics.median(times[way]) for way in ways)
    print(engine)
    for way in ways: print(f"  {way:7} {statistics.median(times[way]):7.2f} s   (from {min(times[way]):.2f} to {max(times[way]):.2f})")
    off = np.abs(results["engine"].astype(int) - results["plain"])
    print(f"  the engine needs {ours/plain:.2f} of the plain time")
    print(f"  levels off: {off.max()} at most, {off.mean():.4f} on average, more than one in {(off > 1).mean():.1e} of the samples")
