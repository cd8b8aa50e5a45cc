"""Time and memory of the engine beside its peers, with the same weights and the same picture, in turn and in one call.

    python benchmarks/upscale.py [--model rrdbnet] [--side 600] [--rounds 3] [--device cpu] [--no-memory]

- **ours**: `Upscaler`, as it comes.
- **spandrel**: its model as it loads the file, float32, the whole picture at once.
- **tiled**: the same model over tiles of 192 px with 10 px around them, as the best-known tool is told to save memory.

`rrdbnet` is the net of 23 blocks with random weights, which take the time of trained ones; any checkpoint that spandrel
knows may stand in its place. Rounds go through all ways, so that whatever else the machine does hits them alike; the
smaller time of a way counts, as wall and as CPU seconds. What a processor can do is measured too: one convolution of
256 channels in bfloat16 (on a GPU a product of matrices). Memory is that of a process that runs one way once, without
what it holds after its imports. All that is read in a quiet hour, on a machine where nothing else runs.
"""
import gc
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from fastcore.script import call_parse
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from paintsr_nb.nets.generators import make_generator
from paintsr_nb.picture import read_rgb8
from paintsr_nb.samples import samples
from paintsr_nb.upscaling.engine import Upscaler

WAYS = "ours", "spandrel", "tiled"


def as_tensor(pixels, device): return torch.from_numpy(pixels.copy()).to(device).permute(2, 0, 1)[None].float()/255


def as_pixels(sr): return (sr.clamp(0, 1)*255).round().to(torch.uint8)[0].permute(1, 2, 0).cpu().numpy()


def whole(net, pixels, device):
    with torch.no_grad(): return as_pixels(net(as_tensor(pixels, device)))


def tiled(net, pixels, device, side=192, around=10):
    "Tiles of 192 px that see 10 px around themselves, put together on the device."
    low = as_tensor(pixels, device)
    height, width = low.shape[2:]
    sr = low.new_zeros(1, 3, 4*height, 4*width)
    for top in range(0, height, side):
        for left in range(0, width, side):
            bottom, right = min(top + side, height), min(left + side, width)
            above, beside = max(top - around, 0), max(left - around, 0)
            with torch.no_grad(): made = net(low[:, :, above:min(bottom + around, height), beside:min(right + around, width)])
            y, x = 4*(top - above), 4*(left - beside)
            sr[:, :, 4*top:4*bottom, 4*left:4*right] = made[:, :, y:y + 4*(bottom - top), x:x + 4*(right - left)]
    return as_pixels(sr)


def ways_of(names, path, device):
    "Functions from pixels to pixels; what needs spandrel loads it."
    ways = {}
    if "ours" in names: ways["ours"] = Upscaler(path, device)
    if {"spandrel", "tiled"} & set(names):
        from spandrel import ModelLoader
        theirs = ModelLoader(device=device).load_from_file(path)
        if "spandrel" in names: ways["spandrel"] = lambda pixels: whole(theirs, pixels, device)
        if "tiled" in names: ways["tiled"] = lambda pixels: tiled(theirs, pixels, device)
    return ways


def timed(work):
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def peak_rate(device, seconds=2):
    "Operations per second of what the device does best in bfloat16."
    if device == "cpu":
        kernel = torch.randn(256, 256, 3, 3, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
        picture = torch.randn(1, 256, 192, 192, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
        work, operations = (lambda: F.conv2d(picture, kernel, padding=1)), 2*9*256*256*192**2
    else:
        one, two = (torch.randn(8192, 8192, dtype=torch.bfloat16, device=device) for _ in range(2))
        work, operations = (lambda: one @ two), 2*8192**3
    best, end = 0, time.perf_counter() + seconds
    with torch.no_grad():
        while time.perf_counter() < end:
            start = time.perf_counter()
            work()
            if device != "cpu": torch.cuda.synchronize()
            best = max(best, operations/(time.perf_counter() - start))
    return best


def operations_of(path, pixels):
    "Multiplications and additions of the net for one picture."
    net = Upscaler(path, "cpu", precise=True).net
    with FlopCounterMode(display=False) as counter, torch.no_grad(): net(torch.zeros(1, 3, 32, 32))
    return counter.get_total_flops()/32**2*pixels.shape[0]*pixels.shape[1]


def memory_now(name="VmRSS"): return 1024*int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def weights(model, folder):
    "A file with the weights that all ways load."
    if model != "rrdbnet": return model
    torch.manual_seed(0)
    torch.save(dict(params_ema=make_generator("rrdbnet").state_dict()), path := f"{folder}/rrdbnet23.pth")
    return path


@call_parse
def main(
    model:str="rrdbnet", # "rrdbnet" for random weights of 23 blocks, or a checkpoint that spandrel and we know
    picture:str=None, # LR picture; the first sample painting if left out
    side:int=600, # Largest side of the part of it that is upscaled, in LR pixels
    rounds:int=3, # How often each way is timed
    device:str="cpu", # Where all run
    no_memory:bool=False, # Leave the memory out?
    only:str=None, # (for the processes that measure memory) One way, run once
):
    "Ratios of the engine's time and memory to its peers'."
    pixels = (read_rgb8(picture) if picture else samples()[0].low)[:side, :side]
    if only:
        way = ways_of([only], model, device)[only]
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")   # forget the highest memory so far
        before = memory_now()
        way(pixels)
        return print(memory_now("VmHWM") - before if device == "cpu" else torch.cuda.max_memory_allocated())
    with tempfile.TemporaryDirectory() as folder:
        path = weights(model, folder)
        on_cpu = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[:1] or [""]
        name = on_cpu[0] if device == "cpu" else torch.cuda.get_device_name()
        print(f"{model} on {pixels.shape[1]}x{pixels.shape[0]} px, {name}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")
        ways, flops, rates = ways_of(WAYS, path, device), operations_of(path, pixels), []
        ways["ours"](pixels[:64, :64])   # modes are measured
        walls, cpus, results = {way: [] for way in ways}, {way: [] for way in ways}, {}
        for _ in range(rounds):
            rates.append(peak_rate(device))
            for way, work in ways.items():
                wall, cpu, results[way] = timed(lambda: work(pixels))
                walls[way].append(wall)
                cpus[way].append(cpu)
        best, peak = {way: min(times) for way, times in walls.items()}, max(rates)
        print(f"{ways['ours']}\n{flops/1e12:.2f} Tflop per picture; peak in bfloat16 {peak/1e9:.0f} Gflop/s (from {min(rates)/1e9:.0f})")
        print("way         wall s   CPU s   Gflop/s   of peak   ours/way   CPU ours/way")
        for way in ways:
            rate, cpu = flops/best[way], min(cpus[way])
            print(f"{way:9} {best[way]:8.2f} {cpu:7.2f} {rate/1e9:9.0f} {rate/peak:9.2f} {best['ours']/best[way]:10.2f} "
                  f"{min(cpus['ours'])/cpu:14.2f}")
        off = np.abs(results["ours"].astype(int) - results["spandrel"])
        mean = np.square(off.astype(float)).mean()
        print(f"ours to spandrel: {10*np.log10(255**2/mean) if mean else np.inf:.1f} dB, {off.max()} levels at most; "
              f"tiled to spandrel: {np.abs(results['tiled'].astype(int) - results['spandrel']).max()} levels at most")
        del ways
        gc.collect()
        if no_memory: return
        command = [sys.executable, __file__, "--model", path, "--side", str(side), "--device", device]
        if picture: command += ["--picture", picture]
        def memory_of(way):
            done = subprocess.run([*command, "--only", way], capture_output=True, text=True, check=True)
            return int(done.stdout.split()[-1])
        taken = {way: memory_of(way) for way in WAYS}
        for way in WAYS: print(f"{way:9} {taken[way]/1e9:6.2f} GB, ours/way {taken['ours']/taken[way]:.2f}")
