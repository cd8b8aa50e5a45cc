"""Does tuning on one painter's pictures help on his others? A net that never saw him, then a tuning for each of three.

    python benchmarks/finetune.py --out runs/finetune                   all of it; killed and run again, it goes on
    python benchmarks/finetune.py --out try --report try/report --base_steps 4 --tune_steps 4 --limit 2 --bs 2 --low_size 24 --crop 320

A base net starts from fresh weights, because the packaged ones saw these painters, and learns from all training
pictures but those of Van Gogh, Monet and Rembrandt: none of a painter with such a name in the index (so none of
Rembrandt's circle), none that looks like one of theirs or shares a part with it (`find_alike`). It is tuned on
each painter's pictures in paintings/train as tutorial 04 does it: L1 from the base, some pictures put aside for
validation, the weights with the best SSIM there kept, which may be those it began with. Judged are his pictures in
paintings/test and paintings2, as centre crops of at most 1600x1200, LR by our bicubic: SSIM (`wang_rgb`), PSNR (`paper_y`).

What the gain is compared with: the nets tuned on the other two, and `more`, tuned in the same way with as many steps
on the base's own pictures; a gain that is his alone is above both. Forgetting is what Set5 loses in PSNR.

--out keeps split, stores, runs and scores; --report has the README, result.json, recipe.json and a history per run.
"""
import json
import re
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
PAINTERS = dict(van_gogh="Vincent van Gogh", monet="Claude Monet", rembrandt="Rembrandt") # Run -> painter of the index
FOLDERS = ("paintings", "paintings2", "photos", "photos2")
LEAST, MOST_FORGOTTEN = 5, 0.3 # Pictures that a tuning learns from; dB of Set5
SCORES = dict(ssim=4, psnr=2) # -> digits


# The split

def pictures_of(data):
    "A row per picture: its path in `data`, its painter (empty for a photograph), and whether it is to be halved."
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
    "The pictures with the columns `owner`, `use` (base, tune, held, none) and `why`; `limit` keeps the first few of each kind."
    pictures = pictures.assign(owner=[owner_of(row) for row in pictures.itertuples()])
    pictures[["use", "why"]] = [use_of(row) for row in pictures.itertuples()]
    if not limit: return pictures
    return pictures.groupby(["use", "owner", pictures.path.str.split("/").str[0]]).head(limit).reset_index(drop=True)


def without_copies(pictures, alike):
    "Leave out what looks like a picture that must not be learnt: for the base those of the painters, for a tuning those held out."
    pictures = pictures.set_index("path")
    was = pictures.copy()
    for one, other, how, number in alike.itertuples(index=False):
        for path, like in ((one, other), (other, one)):
            leak = dict(base=bool(was.owner[like]), tune=was.use[like] == "held").get(was.use[path], False)
            if leak: pictures.loc[path, ["use", "why"]] = "none", f"{how} ({number}) of {like}"
    return pictures.reset_index()


def _print_of(path): return fingerprint(read_rgb8(path))


def make_split(data, out, limit, num_workers):
    "The split, from the file of an earlier call where there is one."
    file = out/"split.csv"
    if not file.exists():
        pictures = split_of(pictures_of(data), limit)
        paths = [data/path for path in pictures.path]
        prints = dict(zip(pictures.path, run_parallel(_print_of, paths, num_workers, "fingerprints")))
        write_table(file, without_copies(pictures, find_alike(prints)))
    return pd.read_csv(file, dtype=dict(painter=str, owner=str, why=str), keep_default_na=False)


def split_table(pictures):
    "How many pictures are for what."
    lines = ["| painter | tuned on | held out | left out |", "|---|---|---|---|"]
    for run, name in PAINTERS.items():
        own = pictures[(pictures.owner == run) & (pictures.painter == name)]
        lines.append(f"| {name} | " + " | ".join(str((own.use == use).sum()) for use in ("tune", "held", "none")) + " |")
    rest = pictures[pictures.use == "base"]
    paintings = (rest.painter != "").sum()
    left = pictures[(pictures.use == "none") & ~pictures.painter.isin(PAINTERS.values())]
    lines.append(f"| base: the others' {paintings} paintings, {len(rest) - paintings} photographs | {len(rest)} | | {len(left)} |")
    why = [f"- {Path(row.path).stem}: {row.why}" for row in pictures[pictures.use == "none"].itertuples()
           if row.why != "kept for measuring"]
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


def learnt(out, name): return set(Store(out/"stores"/name).ids("train")) | set(Store(out/"stores"/name).ids("valid"))


def check_stores(out, pictures, least):
    "Refuse stores, as they are on the disk, from which a net would see what it is scored on."
    ids = pictures.assign(id=pictures.path.map(picture_id))
    theirs, held = set(ids.id[ids.owner != ""]), set(ids.id[ids.use == "held"])
    if (seen := learnt(out, "base") & theirs): raise ValueError(f"the base would see {', '.join(sorted(seen))}: prepare it anew")
    for run, name in PAINTERS.items():
        if (seen := learnt(out, run) & held): raise ValueError(f"the tuning on {name} would see {', '.join(sorted(seen))}")
        if learnt(out, run) - set(ids.id[ids.owner == run]): raise ValueError(f"the store of {name} has pictures of others")
        if (found := len(Store(out/"stores"/run).ids("train"))) < least:
            raise ValueError(f"{found} pictures of {name} to tune on, expected {least} or more: give him more")


def recipes_of(out, options):
    "The recipes of the base and of a tuning."
    crops = {name: options[name] for name in ("bs", "low_size", "precision")}
    base = make_recipe("l1", n_iters=options["base_steps"], epoch_iters=max(1, options["base_steps"]//8), **crops)
    tuning = make_recipe("l1", start=str((out/"runs"/"base").resolve()), n_iters=options["tune_steps"], lr=3e-4,
                         epoch_iters=max(1, options["tune_steps"]//10), ema=0.99, score="ssim", **crops)
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
        self.table = pd.concat([pd.read_csv(file, dtype=dict(id=str)) for file in sorted((out/"scores").glob("*.csv"))])

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
    "A row per painter: his net over the base, over the other painters' nets and over `more`, and what Set5 changes by."
    rows = []
    for run, name in PAINTERS.items():
        others = [other for other in PAINTERS if other != run]
        row = dict(painter=name, run=run, pictures=len(judge.values("base", run, "ssim")))
        for metric in SCORES:
            row |= {f"{model}_{metric}": judge.mean(model, run, metric) for model in ("bicubic", "base", "more")}
            row[f"tuned_{metric}"] = judge.mean(run, run, metric)
            rivals = dict(base="base", others=others, more="more")
            row |= {f"over_{rival}_{metric}": judge.over(run, models, run, metric) for rival, models in rivals.items()}
        row["set5_psnr"] = judge.mean(run, "Set5", "psnr") - judge.mean("base", "Set5", "psnr")
        rows.append(row)
    return rows


def gains_over_base(judge):
    "A row per tuned net: what it gains over the base on each painter's held-out pictures."
    return [dict(run=run) | {f"{kind}_{metric}": judge.mean(run, kind, metric) - judge.mean("base", kind, metric)
                             for kind in PAINTERS for metric in SCORES} for run in (*PAINTERS, "more")]


def spread(values):
    "Mean, standard deviation and ends of a number per painter."
    return dict(mean=float(np.mean(values)), sd=float(np.std(values, ddof=1)), least=float(min(values)), most=float(max(values)))


def summed_up(rows):
    "Mean and spread over the painters."
    gains = [f"over_{rival}_{metric}" for rival in ("base", "others", "more") for metric in SCORES]
    return {name: spread([row[name][0] for row in rows]) for name in gains} | dict(set5_psnr=spread([row["set5_psnr"] for row in rows]))


def run_of(out, name, metric):
    "How a run went, from its history: steps, best step by its score, that score there and at the start, minutes."
    history = pd.read_csv(out/"runs"/name/"history.csv")
    best = history.loc[history[metric].idxmax()]
    seconds = sum(sum(60**place*int(part) for place, part in enumerate(reversed(time.split(":")))) for time in history.time.dropna())
    return dict(steps=int(history.step.max()), best_step=int(best.step), best=float(best[metric]),
                start=float(history[metric].iloc[0]), minutes=seconds/60)


# The report

def _ends(value, digits): return "{:+.{d}f} ({:+.{d}f} to {:+.{d}f})".format(*value, d=digits)


def _spread(value, digits): return "{mean:+.{d}f} ± {sd:.{d}f} ({least:+.{d}f} to {most:+.{d}f})".format(**value, d=digits)


def painters_table(rows, metric):
    digits = SCORES[metric]
    lines = ["| painter | held out | bicubic | base | more | tuned | over the base | over the other painters' nets | over `more` |",
             "|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        cells = [row["painter"], row["pictures"], *(f"{row[f'{model}_{metric}']:.{digits}f}" for model in ("bicubic", "base", "more", "tuned"))]
        cells += [_ends(row[f"over_{rival}_{metric}"], digits) for rival in ("base", "others", "more")]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def gains_table(gains):
    lines = ["| tuned on | " + " | ".join(PAINTERS.values()) + " |", "|---|" + "---|"*len(PAINTERS)]
    for row in gains:
        name = PAINTERS.get(row["run"], "`more`: the base's own pictures")
        cells = [f"{row[f'{kind}_ssim']:+.4f} / {row[f'{kind}_psnr']:+.2f}" for kind in PAINTERS]
        lines.append(f"| {name} | " + " | ".join(f"**{cell}**" if kind == row["run"] else cell for kind, cell in zip(PAINTERS, cells)) + " |")
    return "\n".join(lines)


def runs_table(runs):
    lines = ["| run | chosen by | steps | best step | start | best | minutes |", "|---|---|---|---|---|---|---|"]
    for name, run in runs.items():
        metric, digits = ("PSNR dB", 2) if name == "base" else ("SSIM", 4)
        lines.append(f"| {PAINTERS.get(name, name)} | {metric} | {run['steps']:,} | {run['best_step']:,} | {run['start']:.{digits}f} | "
                     f"{run['best']:.{digits}f} | {run['minutes']:.0f} |")
    return "\n".join(lines)


def verdict(rows, rival, words, metric="ssim"):
    "A sentence: for how many painters the whole interval lies above 0, and below it."
    ends = [row[f"over_{rival}_{metric}"] for row in rows]
    above, below = sum(least > 0 for _, least, _ in ends), sum(most < 0 for _, _, most in ends)
    return f"Over {words}, the 95 % interval of the gain in SSIM lies above 0 for {above} of {len(rows)} painters, below 0 for {below}."


def forgetting(rows):
    worst = min(row["set5_psnr"] for row in rows)
    told = ", ".join(f"{row['painter']} {row['set5_psnr']:+.2f} dB" for row in rows)
    kept = "kept by all" if worst > -MOST_FORGOTTEN else f"missed by {sum(row['set5_psnr'] <= -MOST_FORGOTTEN for row in rows)}"
    return f"Set5, tuned less base: {told}. The limit, a fall of less than {MOST_FORGOTTEN} dB, is {kept}."


README = """# Does tuning on one painter's pictures help on his others?

    {command}

Written by that command, from the numbers in `result.json`. A base net that started from fresh weights and saw no picture of
{names} was tuned on each painter's pictures, and scored on others of his that neither it nor the base had seen.

## The split

{split}

No picture is alike two of these by `find_alike`: hashes, mirrored ones too, and parts that agree. The stores were compared with the
split again after they had been written.

## What tuning is worth

SSIM (`wang_rgb`), mean of his held-out pictures; in brackets the 95 % interval of a paired bootstrap over the pictures:

{ssim}

PSNR in dB (`paper_y`) of the same:

{psnr}

Over the painters, mean ± standard deviation (least to most):

| | SSIM | PSNR dB |
|---|---|---|
{spreads}

- {over_base}
- {over_others}
- {over_more}
- {forgetting}

## His pictures, or any?

`more` went on from the base as the tunings did, by as many steps, on the base's own pictures. Gain over the base, SSIM / PSNR in dB,
of the net in the row on the held-out pictures of the painter in the column:

{gains}

## The runs

{runs}

{settings} A tuning keeps the weights with the best SSIM on those of the painter's pictures that were put aside from the ones in the
table ({valid}), so it stops where more steps would learn his pictures by heart; step 0 means that no step helped. Held-out pictures
decide nothing.
`recipe.json` has every value, `history_*.csv` every validation.
"""


def settings_of(base, tuning):
    "The recipes in a sentence."
    (one,), (two,) = base.stages, tuning.stages
    return (f"The base: `{base.arch}`, L1, {one.n_iters:,} steps of {base.bs} crops of {base.low_size} px at {one.lr:g} "
            f"({one.schedule.curve}), {base.precision}; a tuning: L1, {two.n_iters:,} steps at {two.lr:g}, averaged weights "
            f"({tuning.ema:g}). On {torch.get_num_threads()} thread(s) of a CPU with {torch.backends.cpu.get_cpu_capability()}."
            if not torch.cuda.is_available() else
            f"The base: `{base.arch}`, L1, {one.n_iters:,} steps; a tuning: {two.n_iters:,} steps; on a GPU.")


def readme(result, pictures, recipes, out, command_line):
    "The text of the report."
    rows, total = result["painters"], result["over_the_painters"]
    rivals = dict(base="the base", others="the other painters' nets", more="`more`")
    lines = [f"| over {words} | " + " | ".join(_spread(total[f"over_{rival}_{metric}"], digits) for metric, digits in SCORES.items()) + " |"
             for rival, words in rivals.items()]
    valid = ", ".join(f"{len(Store(out/'stores'/run).ids('valid'))} of {name}" for run, name in PAINTERS.items())
    return README.format(
        command=command_line,
        names=" or ".join([", ".join([*PAINTERS.values()][:-1]), [*PAINTERS.values()][-1]]),
        split=split_table(pictures),
        ssim=painters_table(rows, "ssim"),
        psnr=painters_table(rows, "psnr"),
        spreads="\n".join([*lines, f"| Set5, tuned less base | | {_spread(total['set5_psnr'], 2)} |"]),
        forgetting=forgetting(rows),
        gains=gains_table(result["gains_over_base"]),
        runs=runs_table(result["runs"]),
        settings=settings_of(*recipes),
        valid=valid,
        **{f"over_{rival}": verdict(rows, rival, words) for rival, words in rivals.items()},
    )


def write_report(report, out, pictures, recipes, command_line):
    "README, result, recipes and histories."
    judge = Judge(out)
    rows = judged(judge)
    result = dict(painters=rows, over_the_painters=summed_up(rows), gains_over_base=gains_over_base(judge),
                  runs={name: run_of(out, name, "psnr" if name == "base" else "ssim") for name in ("base", "more", *PAINTERS)},
                  scores=judge.table.to_dict("records"))
    report.mkdir(parents=True, exist_ok=True)
    write_json(report/"result.json", result)
    base, tuning = map(asdict, recipes)
    write_json(report/"recipe.json", dict(base=base, tuning=tuning | dict(start="the base")))
    write_table(report/"split.csv", pictures)
    for name in result["runs"]:
        write_table(report/f"history_{name}.csv", pd.read_csv(out/"runs"/name/"history.csv").round(6))
    text = readme(result, pictures, recipes, out, command_line)
    with atomic_path(report/"README.md") as temporary: temporary.write_text(text, encoding="utf-8")
    print(text)


def keep_settings(out, settings):
    "Write them down at the first call; refuse others later."
    file = out/"settings.json"
    out.mkdir(parents=True, exist_ok=True)
    if not file.exists(): write_json(file, settings)
    if (was := json.loads(file.read_text(encoding="utf-8"))) != settings:
        changed = ", ".join(f"{name} was {was.get(name)!r}" for name in settings if was.get(name) != settings[name])
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
    settings = dict(base_steps=base_steps, tune_steps=tune_steps, bs=bs, low_size=low_size, precision=precision, crop=crop, limit=limit)
    keep_settings(out, settings)
    pictures = make_split(data, out, limit, num_workers)
    print(split_table(pictures), flush=True)
    make_store(data, out, "base", pictures[pictures.use == "base"], 0.05, num_workers)
    for run in PAINTERS:
        make_store(data, out, run, pictures[(pictures.use == "tune") & (pictures.owner == run)], 0.2, num_workers)
    check_stores(out, pictures, 1 if limit else LEAST)
    recipes = recipes_of(out, settings)
    follow(recipes[0], out, "base", "base", minutes, device)
    for run in ("more", *PAINTERS): follow(recipes[1], out, "base" if run == "more" else run, run, minutes, device)
    for name in ("bicubic", "base", "more", *PAINTERS): score(name, out, data, pictures, crop, device)
    line = f"python benchmarks/finetune.py --base_steps {base_steps} --tune_steps {tune_steps}"
    write_report(Path(report), out, pictures, recipes, line)


if __name__ == "__main__": main()
