"""The guard, each accident provoked: what is left out, what is put back, what is said, and when it ends."""
import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.training import GradientAccumulation
from torch import nn

from paintsr_nb.nets.critics import PatchCritic
from paintsr_nb.nets.generators import make_generator
from paintsr_nb.nets.foreign import load_model
import paintsr_nb.training.train as room
from paintsr_nb.training.run import load_checkpoint
from paintsr_nb.training.guard import GuardCallback
from paintsr_nb.training.average import own_weights
from paintsr_nb.losses.fidelity import SRLoss
from paintsr_nb.training.recipes import Recipe, Stage
from paintsr_nb.training.train import train
from tiny import copies, fit, same, tiny_gan, tiny_learner


pytestmark = pytest.mark.usefixtures("one_thread")


class Spoil(Callback):
    "Does some harm at chosen training batches."
    run_valid, order = False, -5
    def __init__(self, at, batch=None, prediction=None, gradient=None):
        self.at, self.batch, self.prediction, self.gradient = set(at), batch, prediction, gradient

    def before_batch(self):
        if self.batch and self.learn.train_iter in self.at: self.batch(self.learn)

    def after_pred(self):
        if self.prediction and self.learn.train_iter in self.at: self.prediction(self.learn)

    def after_backward(self):
        if self.gradient and self.learn.train_iter in self.at: self.gradient(self.learn)


def nan_in_batch(learn): learn.xb[0][0, 0, 0, 0] = float("nan")
def far_off(learn): learn.pred = learn.pred*100
def nan_in_gradient(learn): next(learn.model.parameters()).grad[0] = float("nan")


def finite(learn):
    nets = [learn.model, *([learn.gan.critic] if hasattr(learn, "gan") else [])]
    return all(value.isfinite().all() for net in nets for value in net.state_dict().values())


@pytest.mark.parametrize("harm", [dict(batch=nan_in_batch), dict(gradient=nan_in_gradient)], ids=["loss", "gradient"])
def test_row_04_one_non_finite_step_is_left_out(tiny_store, capsys, harm):
    "users.md table 2 row 4: NaN after hours. A single one costs one step of either net, and the batch's pictures are named."
    class Count(Callback):
        run_valid, order = False, 80
        def before_fit(self): self.states = []
        def after_batch(self): self.states.append((copies(self.learn.model), copies(self.learn.gan.critic)))
    learn = fit(tiny_learner(tiny_store, Spoil([3], **harm), tiny_gan(), GuardCallback(), Count()))
    (model, critic), (model_after, critic_after) = learn.count.states[2:4]
    assert same(model, model_after) and same(critic, critic_after)
    assert not same(model_after, learn.count.states[4][0]) and finite(learn)
    assert learn.guard.n_rollbacks == 0 and learn.guard.stopped is None
    said = capsys.readouterr().out
    assert ("the loss is" if "batch" in harm else "the generator's gradient is") in said
    assert "is no finite number; this step is left out" in said and "pictures of the batch: " in said
    names = said.split("pictures of the batch: ")[1].split(")")[0].split(", ")
    assert set(names) <= set(tiny_store.ids("train"))
    assert all(torch.isfinite(torch.as_tensor(loss)) for loss in learn.recorder.losses)
    row = dict(zip(learn.recorder.metric_names[1:], learn.recorder.values[-1]))
    assert row["l1"] == row["l1"] and row["adversarial"] == row["adversarial"]   # the means of the epoch are numbers


def test_row_04_the_second_puts_both_nets_back_at_half_the_rate(tiny_store, capsys):
    gan, guard = tiny_gan(), GuardCallback(every=4)
    rates = []
    class Rates(Callback):
        run_valid, order = False, 12
        def before_step(self): rates.append((self.learn.opt.hypers[-1]["lr"], self.learn.gan.optimiser.param_groups[0]["lr"]))
    good = {}
    class Look(Callback):
        run_valid, order = False, 90
        def after_batch(self):
            if self.learn.train_iter == 4: good.update(model=copies(self.learn.model), critic=copies(self.learn.gan.critic), average=copies_of(self.learn.ema.average))
            if self.learn.train_iter == 7: good.update(model_then=copies(self.learn.model), critic_then=copies(self.learn.gan.critic), average_then=copies_of(self.learn.ema.average))
    learn = fit(tiny_learner(tiny_store, Spoil([5, 6], batch=nan_in_batch), gan, guard, Rates(), Look(), n_iters=8), lr=1e-3)
    assert guard.n_rollbacks == 1 and "both nets are put back" in capsys.readouterr().out
    assert rates[0] == pytest.approx((1e-3, 1e-3)) and rates[-1] == pytest.approx((0.5e-3, 0.5e-3))
    assert (learn.schedule.factor, learn.schedule.critic_factor) == (0.5, 1.0)
    assert finite(learn)


def copies_of(state): return {name: value.clone() for name, value in state.items()}


def test_what_is_put_back_is_the_last_good_state(tiny_store):
    "Generator, average, both optimisers and the critic are as they were when the state was taken."
    from paintsr_nb.training.checkpoint import learner_state
    from paintsr_nb.training.run import plain_copy
    learn = fit(tiny_learner(tiny_store, tiny_gan(), GuardCallback()))
    learn.ema.take_back()
    before, learn.guard.good = plain_copy(learner_state(learn)), plain_copy(learner_state(learn, back=True))
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    learn.ema.take_back()
    learn.guard._put_back()
    after = plain_copy(learner_state(learn))
    for part in ("generator",): assert same(before[part], after[part])
    for name in ("ema", "gan"): assert_equal(before["callbacks"][name], after["callbacks"][name])
    assert_equal(before["optimiser"]["state"], after["optimiser"]["state"])


def assert_equal(a, b):
    if isinstance(a, torch.Tensor): assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a: assert_equal(a[key], b[key])
    elif isinstance(a, list):
        for pair in zip(a, b, strict=True): assert_equal(*pair)
    else: assert a == b


def test_row_04_an_exploding_loss_is_put_back_at_once(tiny_store, capsys):
    learn = fit(tiny_learner(tiny_store, Spoil([30], prediction=far_off), tiny_gan(), GuardCallback(every=10), n_iters=36))
    said = capsys.readouterr().out
    assert learn.guard.n_rollbacks == 1 and "its usual value is" in said and "the rate is now 0.5" in said
    assert finite(learn)


def test_a_calm_run_is_left_alone(tiny_store, capsys):
    "The guard changes nothing where nothing happens, bit for bit, hinge losses of either sign included."
    for kind in ("relativistic_average", "hinge"):
        plain = own_weights(fit(tiny_learner(tiny_store, tiny_gan(kind=kind), n_iters=30)))
        guarded = fit(tiny_learner(tiny_store, tiny_gan(kind=kind), GuardCallback(every=7), n_iters=30))
        assert same(plain, own_weights(guarded)) and guarded.guard.n_rollbacks == 0
    assert "guard" not in capsys.readouterr().out


class Oracle(nn.Module):
    "A critic that is right, or wrong, every time: it looks at a mark that the test leaves in real pictures."
    def __init__(self, sign):
        super().__init__()
        self.sign, self.scale = sign, nn.Parameter(torch.ones(1))
    def forward(self, x):
        fake = (x[:, 0, 0, 0] != 0.123).float()[:, None]
        return self.sign*(1 - 2*fake)*5*self.scale.abs().clamp_min(0.1)


def mark_real(learn): learn.yb[0][:, 0, 0, 0] = 0.123


@pytest.mark.parametrize("sign,word", [(1, "right"), (-1, "wrong")])
def test_row_05_a_critic_that_is_always_right_or_wrong_is_slowed(tiny_store, capsys, sign, word):
    "users.md table 2 row 5: the critic wins, or knows nothing, and nobody is told."
    gan = tiny_gan(Oracle(sign), kind="vanilla")
    learn = fit(tiny_learner(tiny_store, Spoil(range(100), batch=mark_real), gan, GuardCallback(patience=8), n_iters=10))
    said = capsys.readouterr().out
    assert f"the critic has been {word} every time for 4 steps" in said          # the warning
    assert f"the critic has been {word} every time for 8 steps; both nets are put back" in said and "the critic's rate is now 0.5" in said
    assert (learn.schedule.factor, learn.schedule.critic_factor) == (1.0, 0.5)


def test_it_ends_with_advice_and_the_last_good_weights(tiny_store, capsys):
    learn = fit(tiny_learner(tiny_store, Spoil(range(10, 100), batch=nan_in_batch), tiny_gan(), GuardCallback(rollbacks=2, every=3), n_iters=40))
    assert learn.guard.n_rollbacks == 3 and "Advice: try a lower lr" in learn.guard.stopped
    assert learn.train_iter < 20 and finite(learn)


def test_with_accumulation_a_whole_step_is_left_out(tiny_store):
    "A NaN in the first of two batches takes the second with it, and the next step begins whole."
    gan = tiny_gan(PatchCritic(num_filters=4, norm="none"))
    learn = tiny_learner(tiny_store, Spoil([2], batch=nan_in_batch), gan, GradientAccumulation(4), GuardCallback(), n_iters=8)
    from paintsr_nb.training.callback import PositionCallback
    learn.add_cb(PositionCallback(epoch_iters=4, n_iters=4, accumulate=2))
    fit(learn)
    assert gan.n_steps == 3 and learn.position.steps == 4 and learn.ema.n_steps == 3


def test_fp16_that_never_fits_ends_with_advice(tiny_store):
    learn = tiny_learner(tiny_store, Spoil(range(200), gradient=nan_in_gradient), tiny_gan(), GuardCallback(), precision="fp16", n_iters=60)
    fit(learn)
    assert "bfloat16" in learn.guard.stopped and finite(learn)


def test_row_04_a_run_never_overwrites_good_weights(tiny_store, tmp_path, monkeypatch):
    "The run ends with an error; model, history and checkpoint are those of the good epoch, and the run can go on."
    monkeypatch.setattr(room, "make_generator", lambda arch: make_generator(arch, num_filters=8, num_blocks=1))
    original = room.stage_learner
    spoils = []
    def spoiled(*args, **kwargs):
        learn = original(*args, **kwargs)
        if hasattr(learn, "checkpoint"): learn.add_cbs([spoil() for spoil in spoils])
        return learn
    monkeypatch.setattr(room, "stage_learner", spoiled)
    spoils.append(lambda: Spoil(range(6, 100), batch=nan_in_batch))
    recipe = Recipe("test", (Stage("l1", 40, lr=1e-3),), low_size=12, bs=2, epoch_iters=5, valid_size=16, precision="fp32")
    with pytest.raises(RuntimeError, match="The best model so far is in"): train(recipe, tiny_store, tmp_path/"run", device="cpu", predict=False)
    net = load_model(tmp_path/"run")
    assert all(value.isfinite().all() for value in net.state_dict().values()) and net.card["step"] in (0, 5)
    state = load_checkpoint(tmp_path/"run"/"checkpoints"/"last.pt")
    assert all(value.isfinite().all() for value in state["generator"].values()) and state["callbacks"]["position"]["steps"] in (5, 10)
    spoils.clear()
    train(recipe, tiny_store, tmp_path/"run", resume=True, device="cpu")
    assert load_model(tmp_path/"run").card["valid"]["ssim"] >= net.card["valid"]["ssim"]
