"""Runs that are cut, damaged, or lose their folder; what is kept of the best epochs. (The exact resume of whole runs is in test_training.py.)"""
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from paintsr_nb.nets import generators
from paintsr_nb.nets.critics import PatchCritic
from paintsr_nb.nets.foreign import load_model
from paintsr_nb.nets.generators import Compact
from paintsr_nb.nets.modes import Mode
from paintsr_nb.nets.weights import save_model
import paintsr_nb.training.train as room
from paintsr_nb.training.checkpoint import CheckpointCallback
from paintsr_nb.training.run import RunFolder, load_checkpoint, newest_checkpoint, save_checkpoint
from paintsr_nb.training.recipes import Gan, Recipe, Stage
from paintsr_nb.training.train import train
from test_training import assert_equal, cut_after


@pytest.fixture(autouse=True, scope="module")
def small_nets():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(generators.GENERATORS, "compact", lambda **kwargs: Compact(**{"num_filters": 8, "num_blocks": 1, **kwargs}))
        patch.setattr(room, "make_critic", lambda name, num_filters: PatchCritic(num_filters=4))
        yield
    torch.set_num_threads(threads)


RECIPE = Recipe("test", (Stage("l1", 6, lr=1e-3), Stage("gan", 8, lr=1e-3, gan=Gan(weight=0.05, kind="hinge", feature_matching=0.05, r1=0.1))),
                low_size=12, bs=2, epoch_iters=4, valid_size=16, precision="fp32", clip=1.0)


def run(recipe, store, folder, **kwargs): return train(recipe, store, folder, device="cpu", predict=False, **kwargs)


# Exactness where it is easily lost

@pytest.mark.parametrize("step", [2, 5, 7])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_row_03_exact_with_accumulation_scaler_and_workers(tiny_store, tmp_path, monkeypatch, step, num_workers):
    "users.md table 2 row 3: k + m steps are k+m, with two batches a step, clipping, R1 every few steps, float16 scalers, in the second stage."
    recipe = replace(RECIPE, accumulate=2, precision="fp16")
    straight = run(recipe, tiny_store, tmp_path/"straight")
    with monkeypatch.context() as patch:
        cut_after(patch, 1, step)
        run(recipe, tiny_store, tmp_path/"cut")
    assert load_checkpoint(tmp_path/"cut"/"checkpoints"/"last.pt")["callbacks"]["position"]["batch"] % 2 == 0
    torch.rand(7)
    run(recipe, tiny_store, tmp_path/"cut", resume=True, num_workers=num_workers)
    one, two = (load_checkpoint(folder/"checkpoints"/"1_gan.pt") for folder in (straight, tmp_path/"cut"))
    assert_equal(one, two, skip=("history",))
    histories = [pd.read_csv(folder/"history.csv").drop(columns="time") for folder in (straight, tmp_path/"cut")]
    pd.testing.assert_frame_equal(*histories, check_exact=True)


def test_row_03_a_resume_across_the_change_of_stage(tiny_store, tmp_path, monkeypatch):
    "Cut by an accident before the second stage has saved anything: the first stage's end is where it goes on."
    straight = run(RECIPE, tiny_store, tmp_path/"straight")
    class Cut(Exception): pass
    original = CheckpointCallback.after_batch
    def after_batch(self):
        if self.about["stage"] == 1 and self.learn.training and self.learn.position.steps == 2: raise Cut("power")
        original(self)
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointCallback, "after_batch", after_batch)
        with pytest.raises(Cut): run(RECIPE, tiny_store, tmp_path/"cut")
    run(RECIPE, tiny_store, tmp_path/"cut", resume=True)
    assert_equal(*(load_checkpoint(folder/"checkpoints"/"1_gan.pt") for folder in (straight, tmp_path/"cut")), skip=("history",))


def test_row_19_and_the_precision_is_kept(tiny_store, tmp_path, monkeypatch):
    "users.md table 2 row 19: same seed, other result. `auto` may choose anew on another day: a resumed run keeps what it began with."
    recipe = replace(RECIPE, precision="auto")
    monkeypatch.setattr(room, "fastest_mode", lambda seconds_of, modes: (Mode("bf16", "contiguous"), {Mode("bf16", "contiguous"): 1.0}))
    with monkeypatch.context() as patch:
        cut_after(patch, 0, 3)
        run(recipe, tiny_store, tmp_path/"run")
    monkeypatch.setattr(room, "fastest_mode", lambda seconds_of, modes: pytest.fail("measured again"))
    run(recipe, tiny_store, tmp_path/"run", resume=True)
    state = load_checkpoint(tmp_path/"run"/"checkpoints"/"1_gan.pt")["callbacks"]["precision"]
    assert (state["precision"], state["layout"]) == ("bf16", "contiguous")


# Files

def test_a_damaged_checkpoint_is_passed_over(tiny_store, tmp_path, monkeypatch, capsys):
    "A disk lost half of last.pt: the run goes on from the newest whole one, and ends as the run that nobody cut."
    straight = run(RECIPE, tiny_store, tmp_path/"straight")
    with monkeypatch.context() as patch:
        cut_after(patch, 1, 3)
        run(RECIPE, tiny_store, tmp_path/"cut")
    last = tmp_path/"cut"/"checkpoints"/"last.pt"
    last.write_bytes(last.read_bytes()[:2000])
    run(RECIPE, tiny_store, tmp_path/"cut", resume=True)
    assert "passed over" in capsys.readouterr().out
    assert_equal(*(load_checkpoint(folder/"checkpoints"/"1_gan.pt") for folder in (straight, tmp_path/"cut")), skip=("history",))


def test_no_whole_checkpoint_is_an_error(tmp_path):
    (tmp_path/"checkpoints").mkdir()
    (tmp_path/"checkpoints"/"last.pt").write_bytes(b"half")
    with pytest.raises(ValueError, match="begin again in another folder"): newest_checkpoint(tmp_path)
    assert newest_checkpoint(tmp_path/"empty") is None


def test_the_best_epochs_are_kept_whole(tiny_store, tmp_path):
    "`keep` states by the stage's score, and the last; each can be loaded, and holds the critic too (users.md table 2 row 21)."
    folder = run(replace(RECIPE, keep=2, epoch_iters=2), tiny_store, tmp_path/"run")
    history = pd.read_csv(folder/"history.csv")
    for stage, name in enumerate(("l1", "gan")):
        rows = history[(history.stage == name) & (history.step > 0)]
        wanted = {f"best_{stage}_{step:07d}" for step in rows.nlargest(2, "ssim").step}
        found = {path.stem for path in (folder/"checkpoints").glob(f"best_{stage}_*.pt")}
        assert found == wanted
    assert "critic" in load_checkpoint(next((folder/"checkpoints").glob("best_1_*.pt")))["callbacks"]["gan"]


def test_a_checkpoint_by_minutes(tiny_store, tmp_path, monkeypatch):
    "users.md table 2 row 2: sessions end in the middle of an epoch. With no minutes between two, every step is saved."
    saved, original = [], CheckpointCallback.save
    monkeypatch.setattr(CheckpointCallback, "save", lambda self, name="last": (saved.append(self.learn.position.steps), original(self, name)))
    run(replace(RECIPE, stages=RECIPE.stages[:1], accumulate=2), tiny_store, tmp_path/"run", minutes=0)
    assert {1, 2, 3, 4, 5, 6} <= set(saved)


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from paintsr_nb.data.store import Store
import paintsr_nb.training.train as room
from paintsr_nb.training.checkpoint import CheckpointCallback
import test_checkpoint
test_checkpoint.generators.GENERATORS["compact"] = lambda **kwargs: test_checkpoint.Compact(**{{"num_filters": 8, "num_blocks": 1, **kwargs}})
room.make_critic = lambda name, num_filters: test_checkpoint.PatchCritic(num_filters=4)
where, original_save, original_batch = {where!r}, torch.save, CheckpointCallback.after_batch
saves = 0
def half_save(state, path, *rest):
    global saves
    original_save(state, path, *rest)
    saves += 1
    if where == "save" and saves == {at}:
        whole = open(path, "rb").read()
        open(path, "wb").write(whole[:len(whole)//2])
        os.kill(os.getpid(), signal.SIGKILL)
def after_batch(self):
    original_batch(self)
    if where == "epoch" and self.about["stage"] == 1 and self.learn.training and self.learn.position.steps == {at}: os.kill(os.getpid(), signal.SIGKILL)
torch.save, CheckpointCallback.after_batch = half_save, after_batch
test_checkpoint.run(test_checkpoint.RECIPE, Store({store!r}), {folder!r})
"""


@pytest.mark.parametrize("where,at", [("epoch", 3), ("epoch", 6), ("save", 6), ("save", 8)])
def test_row_02_kill_minus_9(tiny_store, tmp_path, where, at):
    "users.md table 2 row 2: killed in the middle of an epoch, and in the middle of writing a checkpoint; it goes on from the last whole one."
    straight = run(RECIPE, tiny_store, tmp_path/"straight")
    folder = tmp_path/"killed"
    code = KILLED.format(tests=str(Path(__file__).parent), where=where, at=at, store=str(tiny_store.path), folder=str(folder))
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert newest_checkpoint(folder) is not None
    run(RECIPE, tiny_store, folder, resume=True)
    assert_equal(*(load_checkpoint(one/"checkpoints"/"1_gan.pt") for one in (straight, folder)), skip=("history",))
    assert not list((folder/"checkpoints").glob(".*.tmp"))


# A folder that vanishes

def test_row_02_a_vanished_folder_is_waited_for(tiny_store, tmp_path, monkeypatch, capsys):
    "users.md table 2 row 2: the drive goes away in the middle and comes back; training goes on meanwhile, nothing is missing at the end."
    straight = run(RECIPE, tiny_store, tmp_path/"straight")
    folder, away = tmp_path/"run", tmp_path/"away"
    original, made = CheckpointCallback.after_batch, []
    def after_batch(self):
        at = (self.about["stage"], self.learn.position.steps) if self.learn.training else None
        if at == (0, 2): folder.rename(away)
        if at == (1, 2): made.append(folder.exists()); away.rename(folder)
        original(self)
    monkeypatch.setattr(CheckpointCallback, "after_batch", after_batch)
    run(RECIPE, tiny_store, folder)
    said = capsys.readouterr().out
    assert made == [False] and "training goes on" in said and "is back" in said
    assert_equal(*(load_checkpoint(one/"checkpoints"/"1_gan.pt") for one in (straight, folder)), skip=("history",))
    assert {path.name for path in folder.rglob("*.p*")} >= {"0_l1.pt", "1_gan.pt", "last.pt", "curves.png"}
    assert_equal(*(load_model(one).state_dict() for one in (straight, folder)))


def test_a_folder_that_comes_back_after_the_end(tiny_store, tmp_path, monkeypatch):
    folder, away = tmp_path/"run", tmp_path/"away"
    original = CheckpointCallback.after_batch
    def after_batch(self):
        if self.learn.training and (self.about["stage"], self.learn.position.steps) == (1, 6):
            folder.rename(away)
            threading.Timer(2, lambda: away.rename(folder)).start()
        original(self)
    monkeypatch.setattr(CheckpointCallback, "after_batch", after_batch)
    monkeypatch.setattr(room, "RunFolder", lambda path, writes: RunFolder(path, pause=0.1))
    run(RECIPE, tiny_store, folder)
    assert (folder/"checkpoints"/"1_gan.pt").is_file() and len(pd.read_csv(folder/"history.csv")) == 6


def test_a_folder_that_stays_away_is_said(tiny_store, tmp_path, monkeypatch):
    folder = tmp_path/"run"
    original = CheckpointCallback.after_batch
    def after_batch(self):
        if self.learn.training and (self.about["stage"], self.learn.position.steps) == (1, 6): folder.rename(tmp_path/"away")
        original(self)
    monkeypatch.setattr(CheckpointCallback, "after_batch", after_batch)
    monkeypatch.setattr(room, "RunFolder", lambda path, writes: RunFolder(path, minutes=0, pause=0.01))
    with pytest.raises(OSError, match="copy them there and resume") as error: run(RECIPE, tiny_store, folder)
    place = Path(str(error.value).split(" are in ")[1].split(",")[0])
    assert load_model(place/"model.safetensors") and (place/"checkpoints"/"1_gan.pt").is_file() and not folder.exists()


# The best so far

def test_row_06_fine_tuning_never_ends_worse(tiny_store, tmp_path):
    "users.md table 2 row 6: a rate that ruins the net; what the run leaves is the start, scored first."
    good = run(replace(RECIPE, stages=(Stage("l1", 40, lr=2e-3),), epoch_iters=10), tiny_store, tmp_path/"good")
    ruin = replace(RECIPE, start=str(good), stages=(Stage("l1", 8, lr=10.0, schedule="flat"),))
    try: folder = run(ruin, tiny_store, tmp_path/"ruin")
    except RuntimeError: folder = tmp_path/"ruin"   # the guard may have had enough
    assert_equal(load_model(good).state_dict(), load_model(folder).state_dict())
    assert load_model(folder).card["step"] == 0
    history = pd.read_csv(folder/"history.csv") if (folder/"history.csv").exists() else None
    if history is not None: assert history.step.iloc[0] == 0 and history.ssim.iloc[0] == pytest.approx(load_model(good).card["valid"]["ssim"], abs=1e-4)


@pytest.mark.parametrize("score,better", [("ssim", max), ("psnr", max), ("valid_loss", min)])
def test_the_best_is_by_the_stages_own_score(tiny_store, tmp_path, score, better):
    folder = run(replace(RECIPE, stages=(Stage("l1", 12, lr=3e-3, schedule="flat", score=score),), epoch_iters=2), tiny_store, tmp_path/"run")
    history = pd.read_csv(folder/"history.csv")
    assert load_model(folder).card["valid"][score] == pytest.approx(better(history[score]), abs=1e-4)


def test_bicubic_is_scored_beside_the_start(tiny_store, tmp_path, capsys):
    run(replace(RECIPE, stages=RECIPE.stages[:1]), tiny_store, tmp_path/"run")
    said = capsys.readouterr().out
    assert "stage 'l1' begins: psnr" in said and "(bicubic " in said and "best ssim" in said
