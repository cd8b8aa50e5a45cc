"The meter's share is exact on a clock of our own, and `train` passes its word on."
import time
from types import SimpleNamespace

import pytest
import torch
from fastai.callback.core import Callback

from paintsr_nb.data.patches import CropDL, sr_dls
from paintsr_nb.losses.fidelity import SRLoss
from paintsr_nb.nets.generators import make_generator
from paintsr_nb.training import meter
from paintsr_nb.training.checkpoint import CheckpointCallback
from paintsr_nb.training.learner import StopwatchCallback, sr_learner
from paintsr_nb.training.meter import MeterCallback, loader_advice
from paintsr_nb.training.recipes import make_recipe
from paintsr_nb.training.train import train
from tiny import fit, tiny_learner

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def clock(monkeypatch):
    "The meter's clock: it stands still until a test lets it go on."
    clock = SimpleNamespace(now=0.0, per_crop=0.0)
    monkeypatch.setattr(meter, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    cut = CropDL.create_item
    def slowly(self, address):
        clock.now += clock.per_crop
        return cut(self, address)
    monkeypatch.setattr(CropDL, "create_item", slowly)
    return clock


class TakesTime(Callback):
    "Lets the clock go on in a step, after it, in the first batch of an epoch, and in validation."
    order = CheckpointCallback.order
    def __init__(self, clock, seconds, after=0.0): self.clock, self.seconds, self.after = clock, seconds, after
    def before_train(self): self.clock.now += 1000
    def after_loss(self): self.clock.now += self.seconds if self.training else 1000
    def after_batch(self): self.clock.now += self.after*self.training


def measure(store, clock, step=1.0, after=0.0, epochs=2, n_iters=12, **kwargs):
    "The meter of a tiny fit, and what it said."
    heard = []
    learn = tiny_learner(store, TakesTime(clock, step, after), MeterCallback(say=heard.append, **kwargs), n_iters=n_iters)
    return fit(learn, epochs).meter, heard


def test_the_share_is_that_of_the_clock(tiny_store, clock):
    "Two crops of 0.5 s against a step of 3 s; neither the first batch of an epoch nor validation counts."
    clock.per_crop = 0.5
    seen, heard = measure(tiny_store, clock, step=3.0)
    assert (seen.measured, seen.waited, seen.total) == (22, 22.0, 88.0)
    assert heard == ["training waited 25% of its time for pictures: use num_workers=1 (now 0)"]


def test_the_work_of_others_is_no_waiting(tiny_store, clock):
    "A checkpoint is written after the batch, before the next one is asked for."
    clock.per_crop = 0.5
    seen, heard = measure(tiny_store, clock, step=3.0, after=16.0)
    assert seen.share == 0.05 and heard == []


def test_it_is_silent_where_there_is_nothing_to_say(tiny_store, clock):
    clock.per_crop = 0.5
    for settings in (dict(step=9.5), dict(step=1.0, epochs=1, n_iters=10), dict(step=1.0, least=0.51)):
        assert measure(tiny_store, clock, **settings)[1] == [], settings
    for settings in (dict(step=9.0), dict(step=1.0, epochs=1, n_iters=11), dict(step=1.0, least=0.5)):
        assert len(measure(tiny_store, clock, **settings)[1]) == 1, settings
    heard = []
    learn = tiny_learner(tiny_store, MeterCallback(say=heard.append), n_iters=12)
    with learn.no_bar(), learn.no_logging(): learn.lr_find(num_it=12, show_plot=False)
    assert heard == []


def test_an_epoch_that_is_cut_counts(tiny_store, clock):
    clock.per_crop, heard = 0.5, []
    fit(tiny_learner(tiny_store, TakesTime(clock, 1.0), MeterCallback(say=heard.append), StopwatchCallback(12), n_iters=100))
    assert len(heard) == 1


def test_a_second_fit_is_judged_anew(tiny_store, clock):
    clock.per_crop, heard = 0.5, []
    learn = tiny_learner(tiny_store, takes := TakesTime(clock, 1.0), MeterCallback(say=heard.append), n_iters=12)
    fit(learn)
    takes.seconds = 99.0
    fit(learn)
    assert len(heard) == 1 and learn.meter.share == 0.01


@pytest.mark.parametrize("share, num_workers, n_cores, told", [
    (0.10, 0, 4, "use num_workers=1 (now 0)"),
    (0.50, 0, 4, "use num_workers=1 (now 0)"),
    (0.51, 0, 4, "use num_workers=2 (now 0)"),
    (1.00, 0, 4, "use num_workers=4 (now 0)"),
    (0.10, 1, 4, "use num_workers=2 (now 1)"),
    (0.50, 2, 8, "use num_workers=4 (now 2)"),
    (0.50, 4, 4, "choose a lighter degradation, or take more cores"),
    (0.50, 8, 4, "8 workers are as many as the cores can feed"),
])
def test_the_advice(share, num_workers, n_cores, told):
    "As many workers as make one batch per step, and never more than there are cores."
    line = loader_advice(share, num_workers, n_cores)
    assert told in line and f"{share:.0%} of its time" in line and "\n" not in line


@pytest.mark.parametrize("per_crop, lines", [(1.0, 1), (0.0, 0)])
def test_train_says_it_once_per_stage(per_crop, lines, tiny_store, clock, tmp_path, capsys, monkeypatch):
    loss = SRLoss.forward
    def slowly(self, *args):
        clock.now += 3.0
        return loss(self, *args)
    monkeypatch.setattr(SRLoss, "forward", slowly)
    clock.per_crop = per_crop
    recipe = make_recipe("l1", arch="compact", arguments=dict(num_filters=8, num_blocks=1), bs=1, low_size=8, epoch_iters=12, n_iters=24, valid_size=12, precision="fp32")
    train(recipe, tiny_store, tmp_path/"run", device="cpu", predict=False)
    told = [line for line in capsys.readouterr().out.splitlines() if "for pictures" in line]
    assert told == ["training waited 25% of its time for pictures: use num_workers=1 (now 0)"]*lines


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_card_holds_the_watch(tiny_store):
    "The longer its own work, the smaller the share that the same crops are waited for."
    class Busy(Callback):
        def after_loss(self): torch.cuda._sleep(self.cycles)
    shares = []
    for cycles in (0, 400_000_000):
        dls = sr_dls(tiny_store, low_size=8, bs=2, n_iters=12, valid_size=12, device="cuda")
        cut = dls.train.create_item
        def slowly(address, cut=cut):
            time.sleep(0.02)
            return cut(address)
        dls.train.create_item = slowly
        busy = Busy()
        busy.cycles = cycles
        learn = sr_learner(dls, make_generator("compact", num_filters=8, num_blocks=1), SRLoss(), cbs=[busy, MeterCallback(say=lambda line: None)])
        shares.append(fit(learn).meter.share)
    assert shares[0] > 0.3 and shares[1] < shares[0]/2
