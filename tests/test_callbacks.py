"The protocol of `training.callback` from the outside: its table is true, and a callback of one's own takes part in everything."
import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from paintsr_nb.training import callback, train   # noqa: F401 (the latter imports every callback)
from paintsr_nb.training.callback import PositionCallback, SRCallback, find_callback
from paintsr_nb.training.checkpoint import CheckpointCallback, HistoryCallback, learner_state
from paintsr_nb.training.guard import GuardCallback
from paintsr_nb.training.run import load_checkpoint
from fastai.callback.core import event
from tiny import fit, tiny_gan, tiny_learner

PAGE = Path(__file__).resolve().parents[1]/"nbs"/"training"/"30_callback.ipynb"
EVENTS = [name for name in dir(event) if re.match(r"(before|after)_", name)]

pytestmark = pytest.mark.usefixtures("one_thread")


def kinds(base=SRCallback):
    "Every callback of the package."
    found = [kind for kind in base.__subclasses__() if kind.__module__.startswith("paintsr_nb.")]
    return found + [deeper for kind in found for deeper in kinds(kind)]


def table():
    "Rows of the page's table: name → (order, events, remembers)."
    text = "".join("".join(cell["source"]) for cell in json.loads(PAGE.read_text(encoding="utf-8"))["cells"])
    rows = re.findall(r"^\| `(\w+Callback)` \| (-?[\d.]+) \| ([\w ]+) \|.*\|([^|]*)\|$", text, re.M)
    return {name: (float(order), set(events.split()), remembers.strip()) for name, order, events, remembers in rows}


def test_the_table_of_callbacks_is_true():
    known = {kind.__name__: kind for kind in kinds()}
    assert set(table()) == set(known)
    for name, (order, events, remembers) in table().items():
        kind = known[name]
        assert order == pytest.approx(kind.order), name
        assert events == {event for event in EVENTS if hasattr(kind, event)}, name
        assert ("goes back" in remembers) == kind.rolls_back, name
        assert bool(remembers) == (kind.state_dict is not SRCallback.state_dict), name
    assert list(table()) == sorted(known, key=lambda name: known[name].order)


class SeenCallback(SRCallback):
    "A user's own: counts crops, has a column, and wants to be put back."
    part_names, number_names, rolls_back, run_valid = ("pull",), ("crops",), True, False
    def __init__(self): self.crops = 0
    def before_batch(self): self.parts, self.numbers, self.fresh = {}, {}, 0
    def after_loss(self):
        pull = (self.learn.pred - 0.5).square().mean()
        self.learn.loss_grad = self.learn.loss_grad + 0.1*pull
        self.parts, self.fresh = dict(pull=(pull.detach(), 0.1)), len(self.learn.x)
    def after_batch(self):
        self.crops += self.fresh
        self.numbers = dict(crops=self.crops)
    def leave_out(self): self.fresh = 0
    def state_dict(self): return dict(crops=self.crops)
    def load_state_dict(self, state): self.crops = state["crops"]


def test_a_callback_of_ones_own_has_its_columns(tiny_store):
    learn = fit(tiny_learner(tiny_store, SeenCallback(), n_iters=1))
    row = dict(zip(learn.recorder.metric_names[1:], learn.recorder.values[-1]))
    assert row["crops"] == 2 and row["pull_weight"] == pytest.approx(0.1)
    assert row["pull_share"] == pytest.approx(0.1*row["pull"]/(row["l1"] + 0.1*row["pull"]), rel=1e-5)


def test_it_is_saved_resumed_and_put_back(tiny_store, tmp_path):
    def run(n_iters): return tiny_learner(tiny_store, SeenCallback(), PositionCallback(4, n_iters), HistoryCallback(tmp_path), CheckpointCallback(tmp_path), n_iters=4)
    fit(run(8), 1)
    state = load_checkpoint(tmp_path/"checkpoints"/"last.pt")
    assert state["callbacks"]["seen"] == dict(crops=8)
    learn = run(8)
    state["callbacks"]["seen"]["crops"] = 100   # as if it had seen more
    learn.checkpoint.resume(state)
    fit(learn, learn.position.epochs_left)
    assert learn.seen.crops == 108 and list(pd.read_csv(tmp_path/"history.csv").crops) == [5, 105]
    assert learner_state(learn, back=True)["callbacks"]["seen"] == dict(crops=108) and "position" not in learner_state(learn, back=True)["callbacks"]


def test_the_guard_asks_it_to_forget_and_puts_it_back(tiny_store):
    class NanCallback(SRCallback):
        run_valid, order = False, -5
        def before_batch(self):
            if self.learn.train_iter in (5, 6): self.learn.xb[0][0, 0, 0, 0] = float("nan")
    learn = fit(tiny_learner(tiny_store, SeenCallback(), NanCallback(), tiny_gan(), GuardCallback(every=4), n_iters=8))
    assert learn.guard.n_rollbacks == 1 and learn.seen.crops == 2*4 + 2   # five batches, one left out, back to the fourth, one more
    assert torch.isfinite(torch.cat([value.flatten() for value in learn.model.state_dict().values()])).all()


def test_what_is_missing_is_named(tiny_store, tmp_path):
    with pytest.raises(Exception, match="HistoryCallback needs a PositionCallback"): fit(tiny_learner(tiny_store, HistoryCallback(tmp_path)))
    from fastai.learner import Learner
    plain = tiny_learner(tiny_store)
    learn = Learner(plain.dls, plain.model, loss_func=plain.loss_func, cbs=GuardCallback())
    with pytest.raises(Exception, match="GuardCallback needs a ScheduleCallback"): fit(learn)


def test_one_owner_of_the_rates(tiny_store):
    "A factor slows both nets under any schedule: fastai's own, a constant rate, and one of ours."
    from paintsr_nb.training.learner import ScheduleCallback
    for schedule, rate, critic in ((ScheduleCallback(), 2e-3, 1e-3), (ScheduleCallback(lambda done: 4e-3, lambda done: 8e-3), 4e-3, 8e-3)):
        schedule.factor, schedule.critic_factor = 0.5, 0.1
        gan = tiny_gan(lr=1e-3)
        learn = fit(tiny_learner(tiny_store, gan, schedule=schedule), lr=2e-3)
        assert set(learn.recorder.lrs) == {rate/2} and gan.optimiser.param_groups[0]["lr"] == pytest.approx(critic*0.05)
        assert find_callback(learn, ScheduleCallback) is schedule


def test_rooms_know_each_other_by_type():
    "No callback asks another by name or by `hasattr`."
    folder = Path(callback.__file__).parent
    asked = [f"{path.name}: {line.strip()}" for path in sorted(folder.glob("*.py")) for line in path.read_text(encoding="utf-8").splitlines()
             if re.search(r"(hasattr|getattr)\(self\.learn,", line) and "lr_finder" not in line]
    assert not asked
