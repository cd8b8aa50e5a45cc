"""Does tuning on one painter's pictures help on his others? A net that never saw him, then a tuning.

    python benchmarks/finetune.py --out runs/finetune            all of it; killed and run again, it goes on
    python benchmarks/finetune.py --out try --report try/report --limit 2 --crop 320 \\
        --base_steps 4 --tune_steps 4 --bs 2 --low_size 24       a try, in two minutes

A base net starts from fresh weights, because the packaged ones saw these painters, and learns from all
training pictures but those of Van Gogh, Monet and Rembrandt: none of a painter with such a name in the
index (so none of Rembrandt's circle), none that looks like one of theirs or shares a part with it
(`find_alike`). It is tuned on each painter's pictures in paintings/train as tutorial 04 does it: L1 from
the base, some pictures put aside for validation, the weights with the best SSIM there kept, which may be
those it began with. Judged are his pictures in paintings/test and paintings2, as centre crops of at most
1600x1200, LR by our bicubic: SSIM (`wang_rgb`) and PSNR (`paper_y`).

What the gain is compared with: the nets tuned on the other two, and `more`, tuned in the same way with as
many steps on the base's own pictures; a gain that is his alone is above both. Forgetting is what Set5 loses
in PSNR.

--out keeps split, stores, runs and scores; --report has the README, result.json, recipe.json and the
histories.
"""
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from quality import DATA, centre_crop, gain, pairs_of

from paintsr_nb.commands import command
from paintsr_nb.core import atomic_path, picture_id, progress, run_parallel, write_json
from paintsr_nb.data.hashes import find_alike, fingerprint
from paintsr_nb.data.manifest import MANIFEST
from paintsr_nb.data.store import Store, prepare
from paintsr_nb.metrics import psnr, ssim
from paintsr_nb.picture import read_rgb8
from paintsr_nb.resize import enlarge, shrink
from paintsr_nb.training.recipes import make_recipe
from paintsr_nb.training.run import write_table
from paintsr_nb.training.train import train
from paintsr_nb.upscaling.engine import Upscaler

HERE = Path(__file__).resolve().parent/"finetune"
PAINTERS = dict( # Run -> painter of the index
    van_gogh="Vincent van Gogh",
    monet="Claude Monet",
    rembrandt="Rembrandt",
)
FOLDERS = ("paintings", "paintings2", "photos", "photos2")
LEAST, MOST_FORGOTTEN = 5, 0.3 # Pictures that a tuning learns from; dB of Set5
SCORES = dict(ssim=4, psnr=2) # -> digits
RIVALS = dict(base="the base", others="the other painters' nets", more="`more`") # -> words


# The split

def pictures_of(data):
    "A row per picture: path in `data`, painter (empty for a photograph), is it to be halved?"
    tables = []
    for folder in FOLDERS:
        index = pd.read_csv(data/folder/"index.csv", dtype=str, keep_default_na=False)
        halve = index.hint == "halve" if "hint" in index else False
        painter = index.painter if "painter" in index else ""
        tables.append(pd.DataFrame(dict(path=folder + "/" + index.file, painter=painter, halve=halve)))
    return pd.concat(tables, ignore_index=True)


def owner_of(row):
    "The run of the painter whose surname is in the painter's name, or in a photograph's; empty for others."
    said = (row.painter or Path(row.path).stem).lower()
    return next((run for run, name in PAINTERS.items() if name.split()[-1].lower() in said), "")


def use_of(row):
    "What a picture is for, by its painter and its folder alone; and why it is left out."
    if row.owner and row.painter == PAINTERS[row.owner]:
        return ("tune" if row.path.startswith("paintings/train/") else "held"), ""
    if row.owner: return "none", f"by {row.painter}"
    if row.path.startswith("paintings/test/"): return "none", "kept for measuring"
    return "base", ""


def split_of(pictures, limit=None):
    "Adds `owner`, `use` (base, tune, held, none) and `why`; `limit` keeps the first few of each kind."
    pictures = pictures.assign(owner=[owner_of(row) for row in pictures.itertuples()])
    pictures[["use", "why"]] = [use_of(row) for row in pictures.itertuples()]
    if not limit: return pictures
    folder = pictures.path.str.split("/").str[0]
    return pictures.groupby(["use", "owner", folder]).head(limit).reset_index(drop=True)


def without_copies(pictures, alike):
    "Leave out what looks like a painter's, for the base, or like one held out, for a tuning."
    pictures = pictures.set_index("path")
    was = pictures.copy()
    for one, other, how, number in alike.itertuples(index=False):
        for path, like in ((one, other), (other, one)):
            leaks = dict(base=was.owner[like] != "", tune=was.use[like] == "held")
            if not leaks.get(was.use[path]): continue
            pictures.loc[path, ["use", "why"]] = "none", f"{how} ({number}) of {like}"
    return pictures.reset_index()


def _print_of(path): return fingerprint(read_rgb8(path))


def prints_of(data, out, paths, num_workers):
    "The fingerprint by path; those of an earlier call are kept."
    file = out/"fingerprints.json"
    prints = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    missing = [path for path in paths if path not in prints]
    for start in range(0, len(missing), 50):
        part = missing[start:start + 50]
        prints |= zip(part, run_parallel(_print_of, [data/path for path in part], num_workers, "fingerprints"))
        write_json(file, prints)
    return {path: prints[path] for path in paths}


def make_split(data, out, limit, num_workers):
    "The split, from the file of an earlier call where there is one."
    file = out/"split.csv"
    if not file.exists():
        pictures = split_of(pictures_of(data), limit)
        alike = find_alike(prints_of(data, out, list(pictures.path), num_workers))
        write_table(file, without_copies(pictures, alike))
    return pd.read_csv(file, dtype=dict(painter=str, owner=str, why=str), keep_default_na=False)


def split_table(pictures):
    "How many pictures are for what."
    lines = ["| pictures of | for training and validation | held out | left out |", "|---|---|---|---|"]
    for name in PAINTERS.values():
        own = pictures.use[pictures.painter == name]
        counts = [str((own == use).sum()) for use in ("tune", "held", "none")]
        lines.append(f"| {name} | " + " | ".join(counts) + " |")
    rest = pictures[~pictures.painter.isin(PAINTERS.values())]
    kinds = {"other painters": rest[rest.painter != ""], "none, photographs": rest[rest.painter == ""]}
    for name, own in kinds.items():
        lines.append(f"| {name} | {(own.use == 'base').sum()} | | {(own.use == 'none').sum()} |")
    left = pictures[(pictures.use == "none") & (pictures.why != "kept for measuring")]
    why = [f"- {Path(row.path).stem}: {row.why}" for row in left.itertuples()]
    return "\n".join([*lines, "", "Left out, beside pictures kept for measuring:", "", *(why or ["- none"])])


# The nets

def make_store(data, out, name, pictures, valid, num_workers):
    "The store of one run, from links to its pictures."
    folder, store = out/"pictures"/name, out/"stores"/name
    if (store/MANIFEST).is_file(): return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in pictures.path: (folder/Path(path).name).symlink_to((data/path).resolve())
    halve = [picture_id(path) for path in pictures.path[pictures.halve]]
    prepare(store, high=folder, halve=halve, valid=valid, num_workers=num_workers)


def make_stores(data, out, pictures, num_workers):
    "One for the base, with a twentieth for validation, and one per painter, with a fifth."
    make_store(data, out, "base", pictures[pictures.use == "base"], 0.05, num_workers)
    for run in PAINTERS:
        own = pictures[(pictures.use == "tune") & (pictures.owner == run)]
        make_store(data, out, run, own, 0.2, num_workers)


def learnt(out, name): return set(Store(out/"stores"/name).ids())


def check_stores(out, pictures, least):
    "Refuse stores, as they are on the disk, from which a net would see what it is scored on."
    ids = pictures.assign(id=pictures.path.map(picture_id))
    theirs, held = set(ids.id[ids.owner != ""]), set(ids.id[ids.use == "held"])
    _refuse("the base", learnt(out, "base") & theirs)
    for run, name in PAINTERS.items():
        _refuse(f"the tuning on {name}", learnt(out, run) & held)
        _refuse(f"the tuning on {name}", learnt(out, run) - set(ids.id[ids.owner == run]))
        if (found := len(Store(out/"stores"/run).ids("train"))) < least:
            raise ValueError(f"{found} pictures of {name} to tune on, {least} are the least")


def _refuse(what, seen):
    if seen: raise ValueError(f"{what} would see {', '.join(sorted(seen))}: begin in another folder")


def recipes_of(out, options):
    "The recipes of the base and of a tuning."
    crops = {name: options[name] for name in ("bs", "low_size", "precision")}
    long, short = options["base_steps"], options["tune_steps"]
    base = make_recipe("l1", n_iters=long, epoch_iters=max(1, long//8), **crops)
    tuning = make_recipe(
        "l1",
        start=str((out/"runs"/"base").resolve()),
        n_iters=short,
        epoch_iters=max(1, short//10),
        lr=3e-4,
        ema=0.99, # 0.999 would still be near the base after a few hundred steps
        score="ssim",
        **crops,
    )
    return base, tuning


def follow(recipe, out, store, name, minutes, device):
    "Train, or go on, or find it done."
    run = out/"runs"/name
    end = run/"checkpoints"/f"0_{recipe.stages[0].name}.pt" # Written when the stage has ended
    if end.exists(): return
    train(recipe, out/"stores"/store, run, resume=True, minutes=minutes, device=device, predict=False)
    if not end.exists(): raise RuntimeError(f"{run} was stopped: the same command goes on from there")


# The scores

def held_out(data, pictures, crop):
    "Set, id, LR and HR of every picture to score, one after the other."
    for pair in pairs_of(data/"bench"/"Set5"): yield "Set5", pair.id, pair.low, pair.high
    for row in pictures[pictures.use == "held"].itertuples():
        high = centre_crop(read_rgb8(data/row.path), crop)
        yield row.owner, Path(row.path).stem, shrink(high), high


def score(name, out, data, pictures, crop, device):
    "Score one net on everything, into a table of its own."
    file = out/"scores"/f"{name}.csv"
    if file.exists(): return
    method = enlarge if name == "bicubic" else Upscaler(out/"runs"/name, device, precise=True)
    rows, total = [], int((pictures.use == "held").sum()) + 5
    for kind, id, low, high in progress(held_out(data, pictures, crop), total=total, what=f"scoring {name}"):
        sr = method(low)
        rows.append(dict(model=name, set=kind, id=id, ssim=ssim(sr, high), psnr=psnr(sr, high, "paper_y")))
    file.parent.mkdir(exist_ok=True)
    write_table(file, pd.DataFrame(rows))


class Judge:
    "The scores of all nets, and the differences between them."
    def __init__(self, out):
        files = sorted((out/"scores").glob("*.csv"))
        self.table = pd.concat([pd.read_csv(file, dtype=dict(id=str)) for file in files])

    def values(self, model, kind, metric):
        "A number per picture of a set, in one order; of several models their mean."
        models = [model] if isinstance(model, str) else model
        own = self.table[(self.table.set == kind) & self.table.model.isin(models)]
        return own.groupby("id")[metric].mean().sort_index().to_numpy()

    def mean(self, model, kind, metric): return float(self.values(model, kind, metric).mean())

    def over(self, model, rival, kind, metric):
        "Mean difference of two nets on a set, and the ends of its interval."
        return gain(self.values(model, kind, metric), self.values(rival, kind, metric))


def judged(judge):
    "A row per painter: his net over its rivals, and what Set5 changes by."
    rows = []
    for run, name in PAINTERS.items():
        others = [other for other in PAINTERS if other != run]
        row = dict(painter=name, run=run, pictures=len(judge.values("base", run, "ssim")))
        for metric in SCORES:
            nets = dict(bicubic="bicubic", base="base", more="more", tuned=run)
            row |= {f"{word}_{metric}": judge.mean(net, run, metric) for word, net in nets.items()}
            rivals = dict(base="base", others=others, more="more")
            for word, rival in rivals.items():
                row[f"over_{word}_{metric}"] = judge.over(run, rival, run, metric)
        row["set5_psnr"] = judge.mean(run, "Set5", "psnr") - judge.mean("base", "Set5", "psnr")
        rows.append(row)
    return rows


def gains_over_base(judge):
    "A row per tuned net: what it gains over the base on each painter's held-out pictures."
    def gained(run, kind, metric): return judge.mean(run, kind, metric) - judge.mean("base", kind, metric)
    columns = [(kind, metric) for kind in PAINTERS for metric in SCORES]
    return [dict(run=run) | {f"{kind}_{metric}": gained(run, kind, metric) for kind, metric in columns}
            for run in (*PAINTERS, "more")]


def spread(values):
    "Mean, standard deviation and ends of a number per painter."
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    return dict(mean=mean, sd=sd, least=float(min(values)), most=float(max(values)))


def summed_up(rows):
    "Mean and spread over the painters."
    gains = [f"over_{rival}_{metric}" for rival in RIVALS for metric in SCORES]
    total = {name: spread([row[name][0] for row in rows]) for name in gains}
    return total | dict(set5_psnr=spread([row["set5_psnr"] for row in rows]))


def run_of(out, name, metric):
    "How a run went: steps, best step by its score, that score there and at the start, minutes."
    history = pd.read_csv(out/"runs"/name/"history.csv")
    best = history.loc[history[metric].idxmax()]
    return dict(
        steps=int(history.step.max()),
        best_step=int(best.step),
        best=float(best[metric]),
        start=float(history[metric].iloc[0]),
        minutes=sum(map(_seconds, history.time.dropna()))/60,
    )


def _seconds(time):
    "Of 1:02:03 or 02:03."
    return sum(60**place*int(part) for place, part in enumerate(reversed(time.split(":"))))


# The report

def _ends(value, digits): return "{:+.{d}f} ({:+.{d}f} to {:+.{d}f})".format(*value, d=digits)


def _spread(value, digits):
    return "{mean:+.{d}f} ± {sd:.{d}f} ({least:+.{d}f} to {most:+.{d}f})".format(**value, d=digits)


def painters_table(rows, metric):
    digits = SCORES[metric]
    nets = "bicubic", "base", "more", "tuned"
    names = ["painter", "held out", *nets, *(f"over {words}" for words in RIVALS.values())]
    lines = ["| " + " | ".join(names) + " |", "|---"*len(names) + "|"]
    for row in rows:
        cells = [row["painter"], row["pictures"], *(f"{row[f'{net}_{metric}']:.{digits}f}" for net in nets)]
        cells += [_ends(row[f"over_{rival}_{metric}"], digits) for rival in RIVALS]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def gains_table(gains):
    lines = ["| tuned on | " + " | ".join(PAINTERS.values()) + " |", "|---|" + "---|"*len(PAINTERS)]
    for row in gains:
        name = PAINTERS.get(row["run"], "`more`: the base's own pictures")
        cells = {kind: f"{row[f'{kind}_ssim']:+.4f} / {row[f'{kind}_psnr']:+.2f}" for kind in PAINTERS}
        if row["run"] in cells: cells[row["run"]] = f"**{cells[row['run']]}**"
        lines.append("| " + " | ".join([name, *cells.values()]) + " |")
    return "\n".join(lines)


def runs_table(runs):
    names = "run", "chosen by", "steps", "best step", "start", "best", "minutes"
    lines = ["| " + " | ".join(names) + " |", "|---"*len(names) + "|"]
    for name, run in runs.items():
        metric, digits = ("PSNR dB", 2) if name == "base" else ("SSIM", 4)
        cells = [PAINTERS.get(name, name), metric, f"{run['steps']:,}", f"{run['best_step']:,}"]
        cells += [f"{run['start']:.{digits}f}", f"{run['best']:.{digits}f}", f"{run['minutes']:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdict(rows, rival):
    "A sentence: for how many painters the whole interval lies above 0, and below it."
    ends = [row[f"over_{rival}_ssim"] for row in rows]
    above, below = sum(least > 0 for _, least, _ in ends), sum(most < 0 for _, _, most in ends)
    return (f"Over {RIVALS[rival]}, the 95 % interval of the gain in SSIM lies above 0 for {above} "
            f"of {len(rows)} painters, below 0 for {below}.")


def forgetting(rows):
    told = ", ".join(f"{row['painter']} {row['set5_psnr']:+.2f} dB" for row in rows)
    missed = sum(row["set5_psnr"] <= -MOST_FORGOTTEN for row in rows)
    kept = f"missed by {missed}" if missed else "kept by all"
    return f"Set5, tuned less base: {told}. The limit, a fall of less than {MOST_FORGOTTEN} dB, is {kept}."


README = """# Does tuning on one painter's pictures help on his others?

    {command}

Written by that command, from the numbers in `result.json`. A base net that started from fresh weights and
saw no picture of {names} was tuned on each painter's pictures, and scored on others of his that neither it
nor the base had seen.

## The split

{split}

The base's pictures have none that `find_alike` takes for one of the three painters' (by hashes, mirrored
ones too, and by parts that agree), and a painter's pictures to tune on none of those held out. The stores,
once written, were compared with the split again. `split.csv` has every picture.

## What tuning is worth

SSIM (`wang_rgb`), mean of his held-out pictures; in brackets the 95 % interval of a paired bootstrap over
the pictures:

{ssim}

PSNR in dB (`paper_y`) of the same:

{psnr}

`more` went on from the base as the tunings did, by as many steps, on the base's own pictures. Over the
painters, mean ± standard deviation (least to most):

| | SSIM | PSNR dB |
|---|---|---|
{spreads}

- {over_base}
- {over_others}
- {over_more}
- {forgetting}

## His pictures, or any?

Gain over the base, SSIM / PSNR in dB, of the net in the row on the held-out pictures of the painter in the
column:

{gains}

## The runs

{runs}

{settings}

A tuning keeps the weights with the best SSIM on those of the painter's pictures that were put aside from
the ones that it learns from ({valid}), so it ends where more steps would learn his pictures by heart; step
0 would mean that no step helped. Held-out pictures decide nothing. `recipe.json` has every value,
`history_*.csv` every validation.
"""


def settings_of(base, tuning, device):
    "The recipes in a sentence."
    (one,), (two,) = base.stages, tuning.stages
    cpu = f"{torch.get_num_threads()} thread(s) of a CPU with {torch.backends.cpu.get_cpu_capability()}"
    return (f"The base: `{base.arch}`, L1, {one.n_iters:,} steps of {base.bs} crops of {base.low_size} px "
            f"at {one.lr:g} ({one.schedule.curve}), {base.precision}. "
            f"A tuning: L1, {two.n_iters:,} steps at {two.lr:g}, averaged weights ({tuning.ema:g}). "
            f"On {cpu if device == 'cpu' else 'a GPU'}.")


def readme(result, pictures, recipes, out, command_line, device):
    "The text of the report."
    rows, total = result["painters"], result["over_the_painters"]
    counts = {name: len(Store(out/"stores"/run).ids("valid")) for run, name in PAINTERS.items()}
    *first, last = PAINTERS.values()
    return README.format(
        command=command_line,
        names=f"{', '.join(first)} or {last}",
        split=split_table(pictures),
        ssim=painters_table(rows, "ssim"),
        psnr=painters_table(rows, "psnr"),
        spreads=spreads_table(total),
        forgetting=forgetting(rows),
        gains=gains_table(result["gains_over_base"]),
        runs=runs_table(result["runs"]),
        settings=settings_of(*recipes, device),
        valid=", ".join(f"{count} of {name}" for name, count in counts.items()),
        **{f"over_{rival}": verdict(rows, rival) for rival in RIVALS},
    )


def spreads_table(total):
    lines = []
    for rival, words in RIVALS.items():
        cells = [_spread(total[f"over_{rival}_{metric}"], digits) for metric, digits in SCORES.items()]
        lines.append("| " + " | ".join([f"over {words}", *cells]) + " |")
    return "\n".join([*lines, f"| Set5, tuned less base | | {_spread(total['set5_psnr'], 2)} |"])


def write_report(report, out, pictures, recipes, command_line, device):
    "README, result, recipes and histories."
    judge = Judge(out)
    rows, runs = judged(judge), ("base", "more", *PAINTERS)
    result = dict(
        painters=rows,
        over_the_painters=summed_up(rows),
        gains_over_base=gains_over_base(judge),
        runs={name: run_of(out, name, "psnr" if name == "base" else "ssim") for name in runs},
        scores=judge.table.to_dict("records"),
    )
    report.mkdir(parents=True, exist_ok=True)
    write_json(report/"result.json", result)
    base, tuning = map(asdict, recipes)
    write_json(report/"recipe.json", dict(base=base, tuning=tuning | dict(start="the base")))
    write_table(report/"split.csv", pictures)
    for name in runs:
        write_table(report/f"history_{name}.csv", pd.read_csv(out/"runs"/name/"history.csv").round(6))
    text = readme(result, pictures, recipes, out, command_line, device)
    with atomic_path(report/"README.md") as temporary: temporary.write_text(text, encoding="utf-8")
    print(text)


def keep_settings(out, settings):
    "Write them down at the first call; refuse others later."
    file = out/"settings.json"
    out.mkdir(parents=True, exist_ok=True)
    if not file.exists(): write_json(file, settings)
    if (was := json.loads(file.read_text(encoding="utf-8"))) != settings:
        changed = ", ".join(f"{name} was {was[name]!r}" for name in settings if was[name] != settings[name])
        raise ValueError(f"{out} was begun with other settings ({changed}): name another folder")


@command
def main(
    out:str="runs/finetune", # Folder of split, stores, runs and scores; the same one goes on
    base_steps:int=4000, # Steps of the base
    tune_steps:int=400, # Steps of each tuning
    bs:int=16, # Crops per step
    low_size:int=48, # Side of a crop, LR pixels
    precision:str="bf16", # Number format of the training
    crop:int=1600, # Longest side of a held-out picture's centre crop, HR pixels
    limit:int=None, # 2 or more: only the first few pictures of each kind, to try it
    minutes:float=5, # Longest time between two checkpoints
    data:str=str(DATA), # Folder with paintings, paintings2, photos, photos2 and bench
    report:str=str(HERE), # Folder for README.md, result.json, recipe.json and the histories
    device:str="cpu", # cpu or cuda
    num_workers:int=1, # Processes that prepare pictures
):
    "Train a base without three painters, tune it on each, score it on his other pictures."
    out, data = Path(out), Path(data)
    lengths, crops = dict(base_steps=base_steps, tune_steps=tune_steps), dict(bs=bs, low_size=low_size)
    settings = lengths | crops | dict(precision=precision, crop=crop, limit=limit)
    keep_settings(out, settings)
    pictures = make_split(data, out, limit, num_workers)
    print(split_table(pictures), flush=True)
    make_stores(data, out, pictures, num_workers)
    check_stores(out, pictures, 1 if limit else LEAST)
    base, tuning = recipes_of(out, settings)
    follow(base, out, "base", "base", minutes, device)
    follow(tuning, out, "base", "more", minutes, device)
    for run in PAINTERS: follow(tuning, out, run, run, minutes, device)
    for name in ("bicubic", "base", "more", *PAINTERS): score(name, out, data, pictures, crop, device)
    line = f"python benchmarks/finetune.py --base_steps {base_steps} --tune_steps {tune_steps}"
    write_report(Path(report), out, pictures, (base, tuning), line, device)


if __name__ == "__main__": main()
