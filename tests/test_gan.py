"""Proofs that the GAN step does what the equations say, and the matrix of what it must work together with.

The proofs are what `tools/mutate.py` turns red by planting defects; each says which of the usual faults it is there for."""
import copy
import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.progress import CSVLogger
from fastai.callback.schedule import fit_one_cycle, lr_find   # noqa: F401 (they add methods to Learner)
from fastai.callback.tracker import SaveModelCallback
from fastai.callback.training import GradientAccumulation, GradientClip
from torch import nn

from paintsr_nb.nets.critics import PatchCritic, UNetCritic, VGGCritic
from paintsr_nb.losses.adversarial import ADVERSARIAL
from paintsr_nb.training.gan import GANCallback
from paintsr_nb.training.average import averaged_weights, own_weights
from paintsr_nb.training.learner import sr_learner
from paintsr_nb.losses.fidelity import SRLoss
from tiny import copies, fit, same, tiny_gan, tiny_learner


pytestmark = pytest.mark.usefixtures("one_thread")


_number = itertools.count()

def probe(order, run_valid=False, **events):
    "A callback that looks on at an order; `seen` counts its looks. Each has a class of its own, for fastai names callbacks by class."
    def event(look):
        def run(self):
            look(self.learn)
            self.seen += 1
        return run
    return type(f"Probe{next(_number)}", (Callback,), dict(order=order, run_valid=run_valid, seen=0) | {name: event(look) for name, look in events.items()})()


# Proofs

def test_the_adversarial_term_alone_moves_the_generator(tiny_store):
    "With the picture terms of weight next to nothing the generator still learns, and towards what the critic calls real."
    class Bright(nn.Module):
        "A critic for which brighter is more real; it learns nothing that matters."
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
        def forward(self, x): return x.mean((1, 2, 3))[:, None]*4*self.weight
    gan = tiny_gan(Bright(), weight=1.0, kind="vanilla", lr=0.0)
    learn = tiny_learner(tiny_store, gan, loss=SRLoss(pixel=1e-12), n_iters=20)
    before, low = copies(learn.model), learn.dls.valid.one_batch()[0]
    with torch.no_grad(): dark = learn.model(low).mean()
    fit(learn)
    assert not same(before, own_weights(learn))
    with torch.no_grad(): assert learn.model(low).mean() > dark + 0.01


@pytest.mark.parametrize("critic", [VGGCritic, UNetCritic, PatchCritic])
def test_row_09_a_step_of_one_net_leaves_the_other_alone(tiny_store, critic):
    "users.md table 2 row 9: gradient leaks. Weights, gradients and buffers of the critic in the generator's step, and the reverse."
    def everything(net): return copies(net), [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    def unchanged(net, before):
        state, grads = everything(net)
        assert same(state, before[0])
        for a, b in zip(grads, before[1]): assert (a is None) == (b is None) and (a is None or torch.equal(a, b))
    gan = tiny_gan(critic(num_filters=4))
    kept = {}
    def remember_critic(learn): kept["critic"] = everything(learn.gan.critic)
    def critic_untouched(learn): unchanged(learn.gan.critic, kept["critic"]); kept["generator"] = everything(learn.model)
    def generator_untouched(learn): unchanged(learn.model, kept["generator"])
    probes = [probe(gan.order - 1, before_batch=remember_critic, after_batch=critic_untouched), probe(gan.order + 1, after_batch=generator_untouched)]
    learn = fit(tiny_learner(tiny_store, gan, *probes))
    assert probes[0].seen == 12 and probes[1].seen == 6
    assert all(parameter.requires_grad for parameter in learn.gan.critic.parameters())


def test_both_nets_learn(tiny_store):
    "The critic's weights move at every step, and its optimiser holds its own weights only."
    gan = tiny_gan()
    learn = tiny_learner(tiny_store, gan)
    before = copies(gan.critic)
    fit(learn)
    moved = [name for name, value in copies(gan.critic).items() if not torch.equal(value, before[name])]
    assert {name for name, _ in gan.critic.named_parameters()} <= set(moved)
    owned = {id(parameter) for group in gan.optimiser.param_groups for parameter in group["params"]}
    assert owned == {id(parameter) for parameter in gan.critic.parameters()}


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_weight_0_is_the_plain_learner_bit_for_bit(tiny_store, kind):
    "And draws no random number, which nets with dropout, or another loader, would notice."
    plain, drawn = own_weights(fit(tiny_learner(tiny_store))), torch.get_rng_state()
    assert same(plain, own_weights(fit(tiny_learner(tiny_store, tiny_gan(weight=0.0, kind=kind)))))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not same(plain, own_weights(fit(tiny_learner(tiny_store, tiny_gan(weight=0.1, kind=kind)))))


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_parts_sum_to_what_is_back_propagated(tiny_store, kind):
    "And the gradient of the generator is that of the sum of its parts."
    gan = tiny_gan(kind=kind, feature_matching=0.05)
    def look(learn):
        parts = learn.loss_func.parts | learn.gan.parts
        assert set(parts) == {"l1", "ssim_loss", "adversarial", "feature_matching"}
        assert learn.loss_grad.item() == pytest.approx(sum(float(value)*weight for value, weight in parts.values()), rel=1e-5)
    looker = probe(gan.order + 1, before_backward=look)
    learn = fit(tiny_learner(tiny_store, gan, looker, loss=SRLoss(pixel=0.7, ssim=0.3), bs=2))
    assert looker.seen == 6


def test_the_gradient_is_that_of_the_formula(tiny_store):
    "Three steps against plain PyTorch: the generator's gradient of L1 + w·adversarial, and then the critic's of its own loss."
    gan = tiny_gan(VGGCritic(num_filters=4))
    kept = {}
    bce = lambda logits, target: nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))
    def begin(learn): kept.update(net=copy.deepcopy(learn.model), critic=copy.deepcopy(learn.gan.critic))
    def generator_step(learn):
        net, critic, high = kept["net"], copy.deepcopy(kept["critic"]), learn.y
        sr = net(learn.x).float()
        real, fake = critic(high), critic(sr)
        loss = (sr - high).abs().mean() + 0.1*(bce(real.detach() - fake.mean(), 0.0) + bce(fake - real.detach().mean(), 1.0))/2
        for parameter, wanted in zip(learn.model.parameters(), torch.autograd.grad(loss, list(net.parameters()))):
            torch.testing.assert_close(parameter.grad, wanted, rtol=1e-4, atol=1e-7)
    def critic_step(learn):
        with torch.no_grad(): sr = kept["net"](learn.x).float()
        real, fake = kept["critic"](learn.y), kept["critic"](sr)
        ((bce(real - fake.mean(), 1.0) + bce(fake - real.mean(), 0.0))/2).backward()
        norm = torch.cat([parameter.grad.flatten() for parameter in kept["critic"].parameters()]).norm().item()
        assert float(learn.gan.numbers["critic_norm"]) == pytest.approx(norm, rel=1e-4)
    probes = [probe(gan.order - 1, before_batch=begin), probe(gan.order, before_step=generator_step), probe(gan.order + 1, after_batch=critic_step)]
    fit(tiny_learner(tiny_store, gan, *probes, n_iters=3))
    assert all(one.seen == 3 for one in probes)


def test_both_nets_see_the_same_batch(tiny_store):
    class Eavesdrop(UNetCritic):
        def __init__(self):
            super().__init__(num_filters=4)
            self.heard = []
        def forward(self, x):
            self.heard.append(x.detach().clone())
            return super().forward(x)
    gan = tiny_gan(Eavesdrop())
    def look(learn):
        for given, wanted in zip(learn.gan.critic.heard, (learn.y, learn.pred)*2, strict=True): assert torch.equal(given, wanted)
        learn.gan.critic.heard.clear()
    looker = probe(gan.order + 1, after_batch=look)
    fit(tiny_learner(tiny_store, gan, looker))
    assert looker.seen == 6


def test_the_generator_runs_once_a_batch(tiny_store):
    learn, calls = tiny_learner(tiny_store, tiny_gan()), []
    learn.model.register_forward_hook(lambda module, given, made: calls.append(module.training))
    fit(learn)
    assert sum(calls) == 6


def test_row_20_the_average_is_validated_and_saved(tiny_store, tmp_path):
    "users.md table 2 row 20: EMA lost or broken. What is scored is the average; own weights go on training; a save keeps the average."
    kept = {}
    def look(learn): kept["validated"] = copies(learn.model)
    learn = tiny_learner(tiny_store, tiny_gan(), probe(90, run_valid=True, after_validate=look), ema=0.5, path=tmp_path)
    fit(learn)
    average, own = averaged_weights(learn), own_weights(learn)
    assert same(kept["validated"], average) and not same(average, own)
    learn.save("kept")
    saved = torch.load(tmp_path/"models"/"kept.pth", weights_only=True)
    assert same(saved["model"] if "model" in saved else saved, average)
    class FirstForward(Callback):
        order, run_valid = -20, False
        def before_batch(self):
            if not hasattr(self, "state_then"): self.state_then = copies(self.learn.model)
    watch = FirstForward()
    fit(learn, cbs=watch)
    assert same(watch.state_then, own)   # the second fit goes on from the generator's own weights, not from the average


def test_the_average_is_the_formula(tiny_store):
    "min(decay, (1+n)/(10+n)) of the old, the rest of the new, after every step that was made; a second fit goes on with both."
    states = []
    def look(learn): states.append((copies(learn.model), averaged_weights(learn)))
    learn = tiny_learner(tiny_store, probe(66, after_step=look), ema=0.5)
    expected = copies(learn.model)
    fit(fit(learn))
    assert len(states) == 12
    for n, (own, average) in enumerate(states, 1):
        keep = min(0.5, (1 + n)/(10 + n))
        expected = {name: value*keep + own[name]*(1 - keep) for name, value in expected.items()}
        for name, value in average.items(): torch.testing.assert_close(value, expected[name])


# The matrix

@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("accumulate,clip", [*itertools.product([1, 2], [False, True])])
def test_row_13_works_together(tiny_store, tmp_path, precision, accumulate, clip):
    "users.md table 2 rows 12 and 13: stock GAN support breaks with mixed precision and with fastai's own callbacks."
    steps = []
    gan = tiny_gan(kind="relativistic_average")
    learn = tiny_learner(tiny_store, gan, CSVLogger(), precision=precision, n_iters=8, path=tmp_path)
    if accumulate > 1: learn.add_cb(GradientAccumulation(2*accumulate))
    if clip: learn.add_cb(GradientClip(0.1))
    with warnings.catch_warnings(), learn.no_bar():
        warnings.filterwarnings("error", message=".*shadowing.*")
        learn.fit_one_cycle(2, 1e-3, cbs=SaveModelCallback(monitor="ssim"))
    columns = pd.read_csv(tmp_path/"history.csv")
    for name in ("l1", "l1_share", "adversarial", "adversarial_weight", "critic_loss", "critic_real", "critic_fake", "critic_accuracy", "critic_norm", "generator_norm", "psnr", "ssim"):
        assert np.isfinite(columns[name]).all(), name
    assert gan.n_steps == 16//accumulate
    assert all(value.isfinite().all() for value in [*learn.model.state_dict().values(), *gan.critic.state_dict().values()])
    preds, high = learn.get_preds()
    assert preds.shape == high.shape
    assert learn.get_preds(with_loss=True)[2].shape == (1,)
    best = columns.ssim.max()
    assert dict(zip(("loss", "psnr", "ssim"), learn.validate()[-3:]))["ssim"] == pytest.approx(best, abs=2e-3)   # SaveModelCallback brought the best average back
    learn.show_results(max_n=1)


def test_mixed_precision_is_mixed(tiny_store):
    "The critic and the generator run in the asked type, and float16 has one scaler for each optimiser."
    for precision, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        gan = tiny_gan()
        learn, seen = tiny_learner(tiny_store, gan, precision=precision), {}
        learn.model.body.register_forward_hook(lambda module, given, made: seen.update(generator=made.dtype) if module.training else None)
        gan.critic.conv8.register_forward_hook(lambda module, given, made: seen.update(critic=made.dtype))
        fit(learn)
        assert seen == dict(generator=dtype, critic=dtype)
        assert learn.precision.scaler.is_enabled() == gan.loss_scale.scaler.is_enabled() == (precision == "fp16")
        assert learn.precision.scaler is not gan.loss_scale.scaler


def test_fp16_leaves_out_a_step_that_overflows(tiny_store):
    "A scale far too large: steps are left out and the scale falls, for each net by itself, until the gradient fits."
    gan = tiny_gan()
    learn = tiny_learner(tiny_store, gan, precision="fp16", n_iters=3, metrics=[])   # which NaN would stop before it is seen here
    learn.precision.loss_scale.load_state_dict(dict(scale=2.0**60, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000, _growth_tracker=0))
    before, critic_before = copies(learn.model), copies(gan.critic)
    fit(learn)
    assert same(before, own_weights(learn)) and learn.precision.scaler.get_scale() == 2.0**57
    assert not same(critic_before, copies(gan.critic))


class WatchedAdam(torch.optim.Adam):
    "Keeps the gradients that it was given."
    def step(self, *args, **kwargs):
        self.given = getattr(self, "given", []) + [[p.grad.clone() for group in self.param_groups for p in group["params"]]]
        return super().step(*args, **kwargs)


def test_accumulated_batches_are_one_large_batch(tiny_store):
    "Two batches of 2 with accumulation give both nets the gradient of one batch of 4; a second step shows that nothing is carried over."
    def run(bs, *more):   # a critic without norms, which would see the batches apart
        torch.manual_seed(0)   # both runs begin with the same critic
        gan, given = tiny_gan(PatchCritic(num_filters=4, norm="none"), kind="vanilla"), []
        gan.optimiser = WatchedAdam(gan.critic.parameters(), lr=0.0)
        def look(learn): given.append([p.grad.clone() for p in learn.model.parameters()])
        fit(tiny_learner(tiny_store, gan, probe(50, before_step=look), *more, bs=bs, n_iters=8//bs, ema=None), lr=0.0)
        return given, gan.optimiser.given
    for one, two in zip(run(4), run(2, GradientAccumulation(4))):
        assert len(one) == len(two) == 2
        for step_one, step_two in zip(one, two):
            for a, b in zip(step_one, step_two): torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-7)


def test_lr_find_puts_everything_back(tiny_store, tmp_path):
    gan = tiny_gan()
    learn = fit(tiny_learner(tiny_store, gan, path=tmp_path, n_iters=8))
    before = copies(learn.model), copies(gan.critic), copy.deepcopy(gan.optimiser.state_dict()), averaged_weights(learn), copies_of(own_weights(learn))
    with learn.no_bar(): learn.lr_find(num_it=12, show_plot=False)
    assert same(copies(learn.model), before[0]) and same(copies(gan.critic), before[1]) and same(averaged_weights(learn), before[3]) and same(own_weights(learn), before[4])
    for key, state in gan.optimiser.state_dict()["state"].items():
        for name, value in state.items(): assert torch.equal(torch.as_tensor(value), torch.as_tensor(before[2]["state"][key][name]))


def copies_of(state): return {name: value.clone() for name, value in state.items()}


def test_tensorboard(tiny_store, tmp_path):
    from fastai.callback.tensorboard import TensorBoardCallback
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    fit(tiny_learner(tiny_store, tiny_gan(), TensorBoardCallback(tmp_path, trace_model=True, log_preds=True), path=tmp_path))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"adversarial", "critic_accuracy", "critic_norm", "generator_norm", "ssim", "train_loss"} <= scalars
    assert events.Tags()["images"]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_clip_bounds_both_nets(tiny_store, precision):
    "The critic's gradient is cut to the same length as the generator's, in float16 after the scale is taken out of it."
    gan, lengths, norms = tiny_gan(weight=1.0), [], []
    def look(learn): lengths.append(float(nn.utils.get_total_norm([p.grad for p in learn.model.parameters()])))
    def look_at_norms(learn): norms.append((float(learn.gradient_norm.numbers["generator_norm"]), float(learn.gan.numbers["critic_norm"])))
    learn = tiny_learner(tiny_store, gan, GradientClip(1e-3), probe(50, before_step=look), probe(50, after_batch=look_at_norms), precision=precision)
    gan.optimiser = WatchedAdam(gan.critic.parameters(), lr=1e-3)
    fit(learn)
    critic_lengths = [float(nn.utils.get_total_norm(grads)) for grads in gan.optimiser.given]
    assert len(lengths) == len(critic_lengths) == 6
    assert lengths == pytest.approx([1e-3]*6, rel=1e-2) and critic_lengths == pytest.approx([1e-3]*6, rel=1e-2)
    assert all(2e-3 < norm < 1 for pair in norms for norm in pair)   # what the columns show is the length before, without the scale


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_r1_and_feature_matching_train(tiny_store, kind):
    gan = tiny_gan(kind=kind, r1=1.0, r1_every=2, feature_matching=0.1)
    learn = fit(tiny_learner(tiny_store, gan, precision="bf16"))
    row = dict(zip(learn.recorder.metric_names[1:], learn.recorder.values[-1]))
    assert row["critic_r1"] > 0 and row["feature_matching"] > 0 and row["feature_matching_weight"] == pytest.approx(0.1)
    shares = [row[name] for name in row if name.endswith("_share")]
    assert sum(shares) == pytest.approx(1, abs=1e-6)


def test_any_module_of_spandrel_trains(tiny_store):
    from spandrel.architectures.SPAN import SPAN
    from paintsr_nb.nets.foreign import foreign_net
    torch.manual_seed(0)
    net = foreign_net(SPAN(num_in_ch=3, num_out_ch=3, feature_channels=16, upscale=4))
    before = copies(net)
    learn = fit(tiny_learner(tiny_store, tiny_gan(), net=net))
    assert any(not torch.equal(value, before[name]) for name, value in own_weights(learn).items())


def test_a_plain_learner_takes_the_callback(tiny_store):
    "No SRLoss, no columns, fastai's own loss: the critic's term is still there."
    from fastai.learner import Learner
    from fastai.losses import L1LossFlat
    gan = tiny_gan(weight=1.0)
    dls = tiny_learner(tiny_store).dls
    torch.manual_seed(0)
    from paintsr_nb.nets.generators import make_generator
    learn = Learner(dls, make_generator("compact", num_filters=8, num_blocks=1), loss_func=L1LossFlat(), cbs=gan, lr=1e-3)
    fit(learn)
    assert gan.n_steps == 6 and gan.parts["adversarial"][0] > 0


def test_no_memory_grows_with_steps(tiny_store):
    "users.md table 2 row 22: what a step leaves behind. Tensors alive after 10 steps and after 60 are the same number."
    import gc
    counts = []
    def look(learn):
        if learn.train_iter in (10, 60):
            gc.collect()
            counts.append(sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects()))
    learn = tiny_learner(tiny_store, tiny_gan(), probe(200, after_batch=look), n_iters=62)
    fit(learn)
    assert abs(counts[1] - counts[0]) <= 60   # the recorder's own list of losses: one a step
