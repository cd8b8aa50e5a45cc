"""Memory of one large picture over its size: each size in a process of its own, from rows of a TIFF to a tiled TIFF with its pyramid.

    python benchmarks/gigapixel.py [--sizes 600,1200,2400,4800,8000] [--model default] [--max-memory 0]

Prints per size the highest resident memory, wall and CPU seconds, and the size of the result. 8,000 px take some minutes and 5 GB of disk.
"""
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from fastcore.script import call_parse

from paintsr_nb.picture import write_picture
from paintsr_nb.samples import samples
from paintsr_nb.upscaling.engine import Upscaler
from paintsr_nb.upscaling.gigapixel import upscale_large


def mosaic(side):
    "Sample paintings side by side, as large as wanted."
    pieces, count = [sample.high[:2000, :2000] for sample in samples()], -(-side//2000)
    rows = [np.concatenate([pieces[(row + column) % len(pieces)] for column in range(count)], 1) for row in range(count)]
    return np.ascontiguousarray(np.concatenate(rows)[:side, :side])


def one(path, target, model, max_memory):
    start = time.perf_counter()
    upscaler = Upscaler(model, "cpu", max_memory=max_memory or None)
    upscale_large(path, target, upscaler, pyramid=True)
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])*1024
    print(f"{peak/1e9:6.2f} GB at most, {time.perf_counter() - start:7.1f} s, {time.process_time():7.1f} s of CPU, "
          f"result {os.path.getsize(target)/1e9:.2f} GB, {upscaler.cost}")


@call_parse
def main(
    sizes:str="600,1200,2400,4800,8000", # Sides of the LR pictures
    model:str="default", # Name of a packaged model, weight file or run folder
    max_memory:int=0, # Bytes that the process may take; 0: by what is free
    path:str=None, # (for the processes that this starts)
    target:str=None, # (for the processes that this starts)
):
    "Resident memory against size."
    if path: return one(path, target, model, max_memory)
    with tempfile.TemporaryDirectory() as folder:
        for side in map(int, sizes.split(",")):
            write_picture(f"{folder}/low.tif", mosaic(side))
            print(f"{side:6} px: ", end="", flush=True)
            subprocess.run([sys.executable, __file__, "--model", model, "--max-memory", str(max_memory),
                            "--path", f"{folder}/low.tif", "--target", f"{folder}/sr.tif"], check=True)
