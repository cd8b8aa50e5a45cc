"""SSIM and PSNR beside scikit-image on one 2400x2400 RGB pair: values, time and memory.

    python benchmarks/metrics.py [--side 2400] [--repeats 5]

Time is the median processor time of interleaved repeats on one thread; memory is how far the peak of a fresh process rises above what it
held with both pictures loaded. Needs Linux and the `dev` extra (scikit-image).
"""
import argparse, os, subprocess, sys, tempfile, time

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import pandas as pd

CALLS = ("ssim", "psnr")


def reference(call, sr, high, protocol):
    "The same score by scikit-image."
    from skimage.color import rgb2ycbcr
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity
    if protocol == "paper_y": sr, high = (rgb2ycbcr(pixels)[4:-4, 4:-4, 0] for pixels in (sr, high))
    if call == "psnr": return peak_signal_noise_ratio(high, sr, data_range=255)
    window = {} if protocol == "skimage_default" else dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    return structural_similarity(sr, high, data_range=255, channel_axis=None if protocol == "paper_y" else -1, **window)


def ours(call, sr, high, protocol):
    from paintsr_nb import metrics
    return getattr(metrics, call)(sr, high, protocol)


def timed(function, *args):
    start = time.process_time()
    value = function(*args)
    return value, time.process_time() - start


def peak_memory(folder, whose, call, protocol):
    "Megabytes above the baseline, in a process of its own."
    command = [sys.executable, __file__, "--measure", folder, whose, call, protocol]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def resident(field):
    "VmRSS (now) or VmHWM (highest so far) in megabytes."
    with open("/proc/self/status") as status: return next(int(line.split()[1]) for line in status if line.startswith(field))/1024


def measure_here(folder, whose, call, protocol):
    function = dict(ours=ours, skimage=reference)[whose]
    small = np.zeros((32, 32, 3), np.uint8)
    function(call, small + np.uint8(1), small, protocol) # imports are not what is measured
    pair = [np.load(f"{folder}/{name}.npy") for name in ("sr", "high")]
    before = resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as file: file.write("5") # begin the highest anew
    function(call, *pair, protocol)
    print(resident("VmHWM") - before)


def compare(side, repeats):
    from paintsr_nb.metrics import PROTOCOLS
    from paintsr_nb.resize import enlarge, resize
    from paintsr_nb.samples import samples
    sample, = samples(["dahlia"])
    high = resize(sample.high, side, side) if side != 2400 else sample.high
    sr = enlarge(resize(high, side//4, side//4))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, pixels in dict(sr=sr, high=high).items(): np.save(f"{folder}/{name}.npy", pixels)
        for call in CALLS:
            for protocol in PROTOCOLS:
                both = [(timed(ours, call, sr, high, protocol), timed(reference, call, sr, high, protocol)) for _ in range(repeats)]
                (value, _), (expected, _) = both[0]
                seconds = np.median([[mine[1], other[1]] for mine, other in both], axis=0)
                memory = [peak_memory(folder, whose, call, protocol) for whose in ("ours", "skimage")]
                rows.append(dict(score=f"{call} {protocol}", value=value, difference=abs(value - expected), seconds=seconds[0],
                                 skimage_s=seconds[1], time_ratio=seconds[0]/seconds[1], MB=memory[0], skimage_MB=memory[1],
                                 memory_ratio=memory[0]/memory[1]))
    return pd.DataFrame(rows).set_index("score")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]: measure_here(*sys.argv[2:])
    else:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--side", type=int, default=2400, help="height and width of the pair, a multiple of 4")
        parser.add_argument("--repeats", type=int, default=5)
        args = parser.parse_args()
        table = compare(args.side, args.repeats)
        formats = {name: "{:.3f}".format for name in table}
        formats |= dict(difference="{:.0e}".format, MB="{:.0f}".format, skimage_MB="{:.0f}".format)
        print(table.to_string(formatters=formats))
