"""What `test_parallel.py` launches in several processes, and what it runs itself in one to compare.

    torchrun --standalone --nproc_per_node 2 tests/parallel_script.py STORE OUT plain gan ...
    torchrun --standalone --nproc_per_node 2 tests/parallel_script.py STORE RUN train [RANK THAT STOPS ...] [resume]

The first way each process writes what it found to OUT/RANK.pt, under the names asked for; the second way is a whole run."""
import os
import sys
from pathlib import Path

import pytest
import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.callback.training import GradientAccumulation
from torch.nn import functional as F

from paintsr_nb.data.patches import sr_dls
from paintsr_nb.nets.critics import UNetCritic, VGGCritic
from paintsr_nb.nets import generators
from paintsr_nb.nets.generators import make_generator
from paintsr_nb.training import parallel as room
from paintsr_nb.training.checkpoint import CheckpointCallback
from paintsr_nb.training.gan import GANCallback
from paintsr_nb.training.average import averaged_weights
from paintsr_nb.training.learner import seed_everything, sr_learner
from paintsr_nb.losses.fidelity import SRLoss
from paintsr_nb.training.parallel import ParallelCallback, mean_of_ranks, same_everywhere, start_parallel
from paintsr_nb.training.callback import SRCallback
from paintsr_nb.training.recipes import Gan, Recipe, Stage, Terms
from paintsr_nb.training.train import train

BATCH = 4   # crops a step of all processes


class Look(Callback):
    "Which model others see, in training and in validation."
    order = 60
    def before_fit(self): self.seen = set()
    def _see(self): self.seen.add(type(self.learn.model).__name__)
    def before_train(self): self._see()
    def after_loss(self): self._see()
    def after_batch(self): self._see()
    def after_validate(self): self._see()


def learner(store, parallel, *callbacks, gan=None, **kwargs):
    "A tiny learner; the batch of all processes is the same in any world."
    seed_everything(0)
    rank, world = (parallel.process_index, parallel.num_processes) if parallel else (0, 1)
    dls = sr_dls(store, low_size=8, bs=kwargs.pop("bs", BATCH//world), n_iters=kwargs.pop("n_iters", 3), valid_size=16, device="cpu", rank=rank, world=world)
    cbs = [Look(), *callbacks]
    if gan: cbs.append(GANCallback(opinionated(gan.pop("net", UNetCritic)(num_filters=4)), **gan))
    if parallel: cbs.append(ParallelCallback(parallel))
    return sr_learner(dls, make_generator("compact", num_filters=8, num_blocks=1), SRLoss(pixel=0.01 if gan else 1, ssim=0.0 if gan else 0.2), lr=1e-3, cbs=cbs)


def opinionated(net):
    "A fresh critic says nearly the same of everything; this one says it loudly, so that its part of the gradients counts."
    with torch.no_grad():
        if hasattr(net, "conv9"): net.conv9.weight *= 50
    return net


def fit(learn, epochs=2):
    with learn.no_bar(), learn.no_logging(): learn.fit(epochs)
    found = dict(generator=learn.model.state_dict(), average=averaged_weights(learn), seen=sorted(learn.look.seen), wrapped=type(learn.model).__name__)
    found["history"] = dict(zip(list(learn.recorder.metric_names)[1:-1], map(float, list(learn.recorder.values[-1]))))
    if hasattr(learn, "gan"): found |= dict(critic=learn.gan.critic.state_dict(), judge=type(learn.gan.judge).__name__)
    return found


def critic(**kwargs): return dict(weight=1.0, kind="relativistic_average", lr=1e-3) | kwargs


class Stop(SRCallback):
    "Stands for Ctrl-C on one process only."
    order = 100
    def __init__(self, rank): self.mine = rank == 1
    def after_batch(self):
        if self.learn.training and float(self.agree(float(self.mine and self.learn.train_iter == 2))) > 0: raise CancelFitException()


FITS = dict(
    plain=lambda store, parallel: fit(learner(store, parallel)),
    gan=lambda store, parallel: fit(learner(store, parallel, gan=critic())),
    vanilla=lambda store, parallel: fit(learner(store, parallel, gan=critic(kind="vanilla"))),
    penalty=lambda store, parallel: fit(learner(store, parallel, gan=critic(r1=1.0, r1_every=2))),
    features=lambda store, parallel: fit(learner(store, parallel, gan=critic(feature_matching=0.1))),
    # two batches of half the size a step
    accumulated=lambda store, parallel: fit(learner(store, parallel, GradientAccumulation(BATCH//(parallel.num_processes if parallel else 1)),
                                                    gan=critic(), bs=BATCH//2//(parallel.num_processes if parallel else 1), n_iters=6)),
)


def mean_and_gradient(rank, world):
    "A loss that compares each logit with the mean over all; gradients averaged over the processes, as DDP does."
    torch.manual_seed(0)
    crops, weight = torch.randn(8, 3), torch.randn(3, requires_grad=True)
    crops[4:] += 1
    mine = crops[rank*8//world:(rank+1)*8//world] @ weight
    mean = mean_of_ranks(mine) if world > 1 else mine.mean()
    loss = F.softplus(mean - mine).mean() + mean**2
    loss.backward()
    if world > 1:
        torch.distributed.all_reduce(weight.grad)
        assert same_everywhere(f"rank {rank}") == "rank 0"
    return dict(mean=mean.detach(), gradient=weight.grad/world)


def refusal(store, parallel):
    "What a critic with batch norm is told."
    learn = learner(store, parallel, gan=critic(net=VGGCritic))
    try: fit(learn)
    except ValueError as error: return str(error)


def cancelled(store, parallel, rank):
    "One process wants to stop: all do, after the same batch, and nothing stays wrapped."
    learn = learner(store, parallel, Stop(rank), gan=critic())
    with learn.no_bar(), learn.no_logging(): learn.fit(2)
    return dict(batches=learn.train_iter, model=type(learn.model).__name__, judge=type(learn.gan.judge).__name__, mean=learn.gan.mean is torch.mean)


def broken(store, parallel, what):
    "The fit `gan` with one of the page's safeguards taken away; it must differ from one process."
    learn = learner(store, parallel, gan=critic())
    if what == "no_mean":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(room, "mean_of_ranks", torch.mean)
            return fit(learn)
    prepare = parallel.prepare_model
    parallel.prepare_model = lambda net: net if hasattr(net, "critic") else prepare(net)
    try: return fit(learn)
    finally: parallel.prepare_model = prepare


def recipe(world):
    "Two stages, the second with a critic; the batch of all processes is the same in any world."
    gan = Stage("gan", 7, lr=1e-3, loss=Terms(pixel=0.1, ssim=0.1), gan=Gan(weight=0.5, critic="unet", critic_filters=4, critic_lr=1e-3))
    return Recipe("test", (Stage("l1", 7, lr=1e-3), gan), low_size=12, bs=BATCH//world, epoch_iters=4, valid_size=16, precision="fp32")


def follow(store, run, world, stops=(), resume=False):
    "A whole run with small nets; the ranks in `stops` are asked to stop in mid-epoch of the second stage."
    original, small = CheckpointCallback.after_batch, lambda **kwargs: generators.Compact(**{"num_filters": 8, "num_blocks": 1, **kwargs})
    def after_batch(self):
        if self.learn.training and self.about["stage"] == 1 and self.learn.position.steps == 2 and int(os.environ.get("RANK", 0)) in stops: self.stop()
        original(self)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(generators.GENERATORS, "compact", small)
        patch.setattr(CheckpointCallback, "after_batch", after_batch)
        return train(recipe(world), store, run, resume=resume, device="cpu", predict=False)


def main(store, out, *names):
    torch.set_num_threads(1)
    if names[0] == "train":
        follow(store, out, 2, stops=[int(name) for name in names if name.isdigit()], resume="resume" in names)
        return print("rank", os.environ["RANK"], "is through", flush=True)
    parallel = start_parallel("cpu")
    rank, world = parallel.process_index, parallel.num_processes
    others = dict(mean=lambda: mean_and_gradient(rank, world), refusal=lambda: refusal(store, parallel), cancelled=lambda: cancelled(store, parallel, rank),
                  no_mean=lambda: broken(store, parallel, "no_mean"), no_wrapping=lambda: broken(store, parallel, "no_wrapping"))
    torch.save({name: others[name]() if name in others else FITS[name](store, parallel) for name in names}, Path(out)/f"{rank}.pt")


if __name__ == "__main__": main(*sys.argv[1:])
