"""How long an audit takes, and how much memory: made pairs of 600/2400 px, extrapolated to a thousand.

    python benchmarks/audit.py [--pairs 20] [--workers 2]

The pairs are squares of the sample paintings, put together in another order each. Looking at pairs grows with their number, after the
processes have started (which eight pairs tell); comparing fingerprints grows faster, so it is measured by itself at a thousand of them.
The time of the processors is told beside that of the clock, because a machine that has other work to do shares it. Memory is the peak
of all processes together. Needs Linux.
"""
import argparse, base64, os, resource, tempfile, threading, time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np

from paintsr_nb.data.audit import audit_pairs
from paintsr_nb.data.hashes import find_alike, fingerprint
from paintsr_nb.picture import write_picture
from paintsr_nb.resize import shrink
from paintsr_nb.samples import samples


def write_pairs(folder, count):
    "Pairs of 600 and 2400 px whose pictures are put together from squares of the samples, each in another order."
    squares = [sample.high[top:top+800, left:left+800] for sample in samples() for top in (0, 800, 1600) for left in (0, 800, 1600)]
    for n in range(count):
        order = np.random.default_rng(n).permutation(len(squares))[:9]
        high = np.concatenate([np.concatenate([squares[k] for k in order[row:row+3]], axis=1) for row in (0, 3, 6)])
        write_picture(folder/f"2400px/image_2400px_{n:04}.png", high)
        write_picture(folder/f"600px/image_600px_{n:04}.png", shrink(high))


def strangers(count):
    "Fingerprints of pictures that have nothing in common, as large as real ones."
    size = len(base64.b64decode(fingerprint(samples("cat")[0].low)))
    return {n: base64.b64encode(np.random.default_rng(n).bytes(size)).decode() for n in range(count)}


def memory_of_all(mine):
    "Resident megabytes of this process and its children."
    total, parents = 0, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try: fields = dict(line.split(":", 1) for line in (folder/"status").read_text().splitlines())
        except OSError: continue
        parents[int(folder.name)] = int(fields["PPid"]), int(fields.get("VmRSS", "0 kB").split()[0])
    for pid in parents:
        above = pid
        while above in parents and above != mine: above = parents[above][0]
        if above == mine: total += parents[pid][1]
    return total/1000


def processor_seconds():
    "Spent so far by this process and its children that have ended."
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    peak, done = [0.0], threading.Event()
    def watch():
        while not done.wait(0.2): peak[0] = max(peak[0], memory_of_all(os.getpid()))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_pairs(folder/"few", 8)
        write_pairs(folder/"many", given.pairs)
        watcher = threading.Thread(target=watch)
        watcher.start()
        spent = {}
        for name in ("few", "many"):
            start, used = time.perf_counter(), processor_seconds()
            audit = audit_pairs(folder/name, num_workers=given.workers)
            spent[name] = np.array([time.perf_counter() - start, processor_seconds() - used])
        per_pair, work = (spent["many"] - spent["few"])/(given.pairs - 8)
        prints, start = strangers(1000), time.perf_counter()
        find_alike(prints)
        compared = time.perf_counter() - start
        done.set()
        watcher.join()
    print(f"{given.pairs} pairs on {given.workers} processes: {per_pair:.2f} s per pair by the clock, {work:.2f} s of processor time")
    print(f"a thousand fingerprints compared in {compared:.0f} s; peak of all processes together {peak[0]:,.0f} MB")
    print(f"a thousand pairs: {(1000*per_pair + compared)/60:.1f} minutes by the clock, "
          f"{(1000*work/given.workers + compared)/60:.1f} where nothing else runs; findings here: {audit.kind.value_counts().to_dict()}")


if __name__ == "__main__": main()
