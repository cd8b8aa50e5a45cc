"""Training from the outside: exact resume of whole runs, Ctrl-C, kill -9, refused mixtures, and the command.

Not in the notebooks because each of these starts, cuts and compares runs."""
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback

from paintsr_nb.data.patches import sr_dls
from paintsr_nb.nets import generators
from paintsr_nb.nets.critics import VGGCritic
from paintsr_nb.nets.foreign import load_model
import paintsr_nb.training.train as room
from paintsr_nb.training.callback import PositionCallback
from paintsr_nb.training.checkpoint import BestCallback, CheckpointCallback, HistoryCallback
from paintsr_nb.training.run import RunFolder, load_checkpoint
from paintsr_nb.training.average import averaged_weights
from paintsr_nb.training.learner import ScoreColumn
from paintsr_nb.training.recipes import Gan, Recipe, Stage, Terms, make_recipe, recipe_from_json
from paintsr_nb.training.train import train
from tiny import fit, same, tiny_learner

BIN = Path(sys.executable).parent


@pytest.fixture(autouse=True, scope="module")
def small_nets():
    "The same nets with few channels, so that a run takes seconds."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(generators.GENERATORS, "compact", lambda **kwargs: generators.Compact(**{"num_filters": 8, "num_blocks": 1, **kwargs}))
        patch.setattr(room, "make_critic", lambda name, num_filters: VGGCritic(num_filters=4))
        yield
    torch.set_num_threads(threads)


TWO_STAGES = Recipe("test", (Stage("l1", 7, lr=1e-3), Stage("gan", 7, lr=1e-3, loss=Terms(ssim=0.1), gan=Gan(weight=0.05))),
                    low_size=12, bs=2, epoch_iters=4, valid_size=16, precision="fp32")


class Cut(Exception): "A run is cut here, with no time to save."


def cut_after(monkeypatch, stage, step):
    "Make a run stop as by Ctrl-C after a step of a stage."
    original = CheckpointCallback.after_batch
    def after_batch(self):
        if self.learn.training and self.about["stage"] == stage and self.learn.position.steps == step: self.stopping = True
        original(self)
    monkeypatch.setattr(CheckpointCallback, "after_batch", after_batch)


def assert_same_run(one, two):
    a, b = (load_checkpoint(run/"checkpoints"/"1_gan.pt") for run in (one, two))
    assert_equal(a, b, skip=("history",))
    histories = [pd.read_csv(run/"history.csv").drop(columns="time") for run in (one, two)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    assert_equal(*(load_model(run).state_dict() for run in (one, two)))


def assert_equal(a, b, skip=(), at="run"):
    assert type(a) is type(b), at
    if isinstance(a, torch.Tensor): assert torch.equal(a, b), at
    elif hasattr(a, "items"):
        assert set(a) == set(b), at
        for key in set(a) - set(skip): assert_equal(a[key], b[key], skip, f"{at}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), at
        for index, pair in enumerate(zip(a, b)): assert_equal(*pair, skip, f"{at}[{index}]")
    else: assert a == b, at


@pytest.fixture(scope="module")
def straight(tiny_store, tmp_path_factory):
    "The run that nobody cut."
    return train(TWO_STAGES, tiny_store, tmp_path_factory.mktemp("runs")/"straight", device="cpu")


@pytest.mark.parametrize("stage,step", [(0, 2), (0, 4), (0, 7), (1, 3), (1, 4), (1, 6)],
                         ids=["l1-mid-epoch", "l1-epoch-end", "l1-last-step", "gan-mid-epoch", "gan-epoch-end", "gan-mid-last-epoch"])
def test_resume_is_exact(straight, tiny_store, tmp_path, monkeypatch, capsys, stage, step):
    with monkeypatch.context() as patch:
        cut_after(patch, stage, step)
        train(TWO_STAGES, tiny_store, tmp_path/"run", device="cpu")
    assert "go on with resume" in capsys.readouterr().out
    assert not (tmp_path/"run"/"checkpoints"/"1_gan.pt").exists()
    torch.rand(3)
    train(TWO_STAGES, tiny_store, tmp_path/"run", resume=True, device="cpu", num_workers=2 if step == 3 else 0)
    assert_same_run(straight, tmp_path/"run")


def test_accident_goes_on_from_the_last_whole_checkpoint(straight, tiny_store, tmp_path, monkeypatch):
    "An exception in mid-epoch saves nothing; the epoch is done again, to the same bits."
    original = CheckpointCallback.after_batch
    def after_batch(self):
        original(self)
        if self.learn.training and self.about["stage"] == 1 and self.learn.position.steps == 6: raise Cut("power")
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointCallback, "after_batch", after_batch)
        with pytest.raises(Cut): train(TWO_STAGES, tiny_store, tmp_path/"run", device="cpu")
    assert load_checkpoint(tmp_path/"run"/"checkpoints"/"last.pt")["callbacks"]["position"]["steps"] == 4
    train(TWO_STAGES, tiny_store, tmp_path/"run", resume=True, device="cpu")
    assert_same_run(straight, tmp_path/"run")


def test_row_19_two_runs_of_one_recipe_are_the_same_and_another_seed_is_not(straight, tiny_store, tmp_path):
    "users.md table 2 row 19: same seed, other result."
    assert_same_run(straight, train(TWO_STAGES, tiny_store, tmp_path/"again", device="cpu"))
    other = train(replace(TWO_STAGES, seed=7), tiny_store, tmp_path/"other", device="cpu")
    assert not torch.equal(load_model(other).conv_first.weight, load_model(straight).conv_first.weight)


def test_runs_are_never_mixed(straight, tiny_store):
    with pytest.raises(FileExistsError, match="resume it"): train(TWO_STAGES, tiny_store, straight, device="cpu")
    with pytest.raises(ValueError, match="bs was 2 and is 4"): train(replace(TWO_STAGES, bs=4), tiny_store, straight, resume=True, device="cpu")


def test_run_folder_holds_what_the_plan_says(straight):
    for name in ("recipe.json", "history.csv", "model.safetensors", "curves.png", "live.html", "checkpoints/last.pt", "preview/0_l1_epoch_0000.png", "preview/1_gan_epoch_0000.png"):
        assert (straight/name).is_file(), name
    assert recipe_from_json(straight/"recipe.json") == TWO_STAGES
    card = load_model(straight).card
    assert card["recipe"] == "test" and card["stage"] == "gan" and 0 < card["valid"]["ssim"] <= 1
    history = pd.read_csv(straight/"history.csv")
    assert list(history["stage"]) == ["l1"]*3 + ["gan"]*3 and list(history["step"]) == [0, 4, 7, 0, 4, 7]
    assert history[history.step == 0].ssim.notna().all()   # the start is scored first
    gan = history[(history.stage == "gan") & (history.step > 0)]
    for column in ("adversarial", "adversarial_weight", "adversarial_share", "critic_loss", "critic_real", "critic_fake", "critic_accuracy", "critic_norm", "generator_norm"):
        assert gan[column].notna().all(), column


def test_saved_model_is_the_best_average_so_far(straight):
    "Not the last weights, and not the generator's own; the start of the stage counts too."
    checkpoint = load_checkpoint(straight/"checkpoints"/"1_gan.pt")
    saved, best = load_model(straight).state_dict(), checkpoint["callbacks"]["best"]
    assert_equal(dict(saved), best["weights"])
    history = pd.read_csv(straight/"history.csv")
    gan = history[history.stage == "gan"]
    assert best["value"] == pytest.approx(gan.ssim.max(), abs=1e-12) and best["step"] == gan.step[gan.ssim.idxmax()]
    assert not torch.equal(saved["conv_first.weight"], checkpoint["generator"]["conv_first.weight"])


@pytest.mark.parametrize("score,told,best", [("ssim", (0.5, 0.6, 0.9, 0.7), 2), ("psnr", (30, 22, 28, 24), 0), ("distance", (0.5, 0.6, 0.3, 0.4), 2),
                                             ("distance", (0.1, 0.6, 0.3, 0.4), 0), ("ssim", (float("nan"), 0.6, 0.6, float("nan")), 1)])
def test_the_best_is_the_best_of_all_that_was_scored(tiny_store, tmp_path, score, told, best):
    "Scores that are told, not measured: the start and three epochs. What is kept, and written, are the weights of that moment."
    scores, states = iter(told), []
    class States(Callback):
        order = BestCallback.order + 1
        def after_epoch(self): states.append(averaged_weights(self.learn))
    judge = BestCallback(RunFolder(tmp_path), {}, score)
    learn = tiny_learner(tiny_store, judge, States(), PositionCallback(2, 6), HistoryCallback(tmp_path), metrics=[ScoreColumn(score, lambda *_: next(scores))])
    states.append(averaged_weights(learn))
    judge.begin()
    fit(learn, 3)
    assert judge.value == told[best] and judge.best_step == 2*best and next(scores, None) is None
    assert same(judge.best_weights, states[best]) and same(load_model(tmp_path).state_dict(), states[best])


def test_a_resumed_run_remembers_its_best(tiny_store, tmp_path, monkeypatch):
    "The best epoch lies before the cut, by scores that are told: bicubic's, the start's, and those of three epochs."
    told, run = iter((0.1, 0.5, 0.9, 0.6, 0.7)), tmp_path/"run"
    monkeypatch.setattr(room, "ssim", lambda *_: next(told))
    recipe = replace(TWO_STAGES, stages=(Stage("l1", 12, lr=1e-3),))
    with monkeypatch.context() as patch:
        cut_after(patch, 0, 6)
        train(recipe, tiny_store, run, device="cpu", predict=False)
    best = load_model(run).state_dict()
    train(recipe, tiny_store, run, resume=True, device="cpu", predict=False)
    net = load_model(run)
    assert net.card["step"] == 4 and net.card["valid"]["ssim"] == 0.9 and next(told, None) is None
    assert_equal(dict(best), dict(net.state_dict()))


def test_row_19_workers_do_not_change_the_crops(tiny_store):
    def crops(num_workers):
        dls = sr_dls(tiny_store, low_size=12, bs=2, n_iters=5, valid_size=16, num_workers=num_workers, device="cpu")
        return [low for _ in range(2) for low, _ in dls.train]
    alone = crops(0)
    for num_workers in (1, 2):
        for a, b in zip(alone, crops(num_workers), strict=True): assert torch.equal(a, b)


# The command itself, in a process of its own.
COMMAND = ["--recipe", "l1", "--bs", "2", "--low_size", "12", "--epoch_iters", "5", "--valid_size", "16", "--device", "cpu"]


def command(store, out, *more):
    return [BIN/"paintsr_train", str(store.path), "--out", str(out), *COMMAND, *more]


def wait_for(condition, process, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the run did not get there"
        time.sleep(0.05)


def test_a_run_goes_on_without_recipe_and_store(straight, tiny_store, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        cut_after(patch, 0, 3)
        train(TWO_STAGES, tiny_store, tmp_path/"run", device="cpu")
    train(None, None, tmp_path/"run", resume=True, device="cpu")
    assert same(load_model(tmp_path/"run").state_dict(), load_model(straight).state_dict())


def test_a_store_that_moved_is_named_once(tiny_store, tmp_path, monkeypatch):
    shutil.copytree(tiny_store.path, tmp_path/"store")
    cut_after(monkeypatch, 0, 2)
    train(TWO_STAGES, tmp_path/"store", tmp_path/"run", device="cpu")
    (tmp_path/"store").rename(tmp_path/"moved")
    with pytest.raises(FileNotFoundError, match="if it has moved, name it"): train(None, None, tmp_path/"run", resume=True, device="cpu")
    train(None, tmp_path/"moved", tmp_path/"run", resume=True, device="cpu")
    assert room._of_run(None, None, tmp_path/"run")[1].path == tmp_path/"moved"


def test_the_command_resumes_by_the_folder_alone(tmp_path, monkeypatch):
    "What the line says goes to `train`: nothing but the folder, where nothing else is said."
    from paintsr_nb.commands import paintsr_train
    asked = []
    monkeypatch.setattr(room, "train", lambda recipe, store, run, **kwargs: asked.append((recipe, store, run, kwargs["resume"])) or run)
    (tmp_path/"recipe.json").touch()
    for line in ("--resume --out RUN", "STORE --resume --out NEW", "STORE --augment cutblur,rgb --out NEW", "STORE --recipe l1 --resume --out RUN"):
        monkeypatch.setattr(sys, "argv", ["paintsr_train", *line.replace("RUN", str(tmp_path)).replace("NEW", str(tmp_path/"new")).split()])
        with pytest.raises(SystemExit) as end: paintsr_train()
        assert end.value.code is None
    assert asked[0] == (None, None, str(tmp_path), True)
    assert [(recipe.name, store) for recipe, store, *_ in asked[1:]] == [("score", "STORE"), ("score", "STORE"), ("l1", "STORE")]
    assert [recipe.augment for recipe, *_ in asked[1:]] == ["", "cutblur,rgb", ""]
    monkeypatch.setattr(sys, "argv", ["paintsr_train", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="no store: name the folder"): paintsr_train()


def test_command_ctrl_c_kill_and_resume(tiny_store, tmp_path):
    out, last = tmp_path/"run", tmp_path/"run"/"checkpoints"/"last.pt"
    env = dict(os.environ, OMP_NUM_THREADS="1")
    first = subprocess.Popen(command(tiny_store, out, "--n_iters", "60"), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(last.is_file, first)
    first.send_signal(signal.SIGINT)
    stdout, stderr = first.communicate(timeout=240)
    assert first.returncode == 0 and "go on with resume" in stdout, stderr
    stopped = load_checkpoint(last)["callbacks"]["position"]["steps"]
    assert 5 <= stopped < 60

    second = subprocess.Popen(command(tiny_store, out, "--n_iters", "60", "--resume"), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: load_checkpoint(last)["callbacks"]["position"]["steps"] > stopped, second)
    second.kill()
    second.communicate()
    assert not list(out.rglob("*.tmp")) or load_checkpoint(last)   # whatever a kill leaves, the checkpoint is whole

    done = subprocess.run(command(tiny_store, out, "--n_iters", "60", "--resume"), env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "model.safetensors" in done.stdout and "l1: 100% 60/60" in done.stderr   # a line in a pipe where a terminal has a bar
    assert list(pd.read_csv(out/"history.csv")["step"]) == list(range(0, 61, 5))


def test_command_says_what_is_wrong(tiny_store, tmp_path):
    def fails(*arguments):
        done = subprocess.run([BIN/"paintsr_train", *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        return done.stderr
    assert "prepare" in fails(tmp_path/"nowhere")
    assert "choose one of l1" in fails(tiny_store.path, "--recipe", "best", "--out", tmp_path/"a")
    assert "known are arch" in fails(tiny_store.path, "--set", "batch=3", "--out", tmp_path/"b")
    assert not (tmp_path/"a").exists() and not (tmp_path/"b").exists()


def test_changing_a_recipe():
    assert [stage.n_iters for stage in make_recipe("score", n_iters=300).stages] == [200, 100]
    with pytest.raises(ValueError, match="too short"): make_recipe("score", n_iters=1)
    with pytest.raises(ValueError, match="must be 1 or more"): make_recipe("l1", bs=0)


@pytest.mark.parametrize("changes, message", [
    (dict(start="default", grow=dict(num_blocks=4)), "num_blocks=4 is less than the 6"),
    (dict(start="default", grow=dict(num_blocks="18")), "num_blocks='18', expected a whole number"),
    (dict(start="default", grow=dict(blocks=18)), "blocks cannot grow"),
    (dict(start="no-such-model"), "no-such-model"),
])
def test_a_start_that_cannot_be_leaves_no_run_behind(tiny_store, tmp_path, changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message): train(replace(TWO_STAGES, **changes), tiny_store, tmp_path/"run", predict=False)
    assert not (tmp_path/"run").exists()   # a second try with the right words begins afresh
