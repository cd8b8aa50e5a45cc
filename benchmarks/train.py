"""Time and memory of a GAN step by `stage_learner` against a plain PyTorch loop that does the same step.

    python benchmarks/train.py [--arch rrdbnet --num_blocks 3] [--critic vgg] [--bs 4] [--low_size 24] [--rounds 6]
                                [--steps 3] [--threads N] [--device cpu] [--json FILE]

The plain loop does what the reference code of ESRGAN does (BasicSR's `ESRGANModel`): float32, contiguous, Adam as
PyTorch has it, the critic asked anew for its own step, two backward passes through it, an average of the weights after
each step, numbers for the log. Ours runs twice: at equal settings (float32, contiguous, all callbacks of a run), and in
the precision and layout that `fastest_mode` finds. All have the same weights, the same pictures (each cuts its own
crops), the same perceptual net. They take turns, `steps` at a time; told is the median of the ratios of the rounds.

First the generators of both loops are compared after one step and after two, by the difference of the ways that they
have gone, as a share of the way. The first step must agree. From then on the critics differ, for ours follows ESRGAN's
eq. 1, where the gradient flows through the mean of the logits too, while the reference code takes the mean for a
constant. Spectral norm leaves a small difference in the first step already: asking for an opinion does not move its
vectors here, in the plain loop it does.

Last, memory: the same nets with a narrower critic on smaller crops, so that 300 steps are soon made, in a fresh process.
"""
import copy
import ctypes
import gc
import os
import statistics
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import psutil
import torch
from fastai.callback.core import Callback, CancelValidException
from torch import nn
from torch.nn import functional as F

from paintsr_nb.commands import command
from paintsr_nb.core import write_json
from paintsr_nb.data.patches import sr_dls
from paintsr_nb.data.store import Store, prepare
from paintsr_nb.nets.generators import make_generator
from paintsr_nb.picture import write_picture
from paintsr_nb.samples import samples
from paintsr_nb.training.callback import PositionCallback
from paintsr_nb.training.checkpoint import learner_state
from paintsr_nb.training.run import plain_copy
from paintsr_nb.training.guard import GuardCallback
from paintsr_nb.nets.modes import Mode, fastest_mode
from paintsr_nb.training.learner import seed_everything, time_steps
from paintsr_nb.training.recipes import Gan, Recipe, Stage, Terms
from paintsr_nb.training.train import Setup, stage_learner, stage_loss

EQUAL, AGREES, WARM_UP, MEMORY_STEPS = Mode("fp32", "contiguous"), 0.01, 30, 300
TARGETS = dict(cuda=0.6, amx_bf16=0.55, avx512_bf16=0.7)   # of our defaults; at equal settings 1.05 everywhere


def small_store(folder):
    "The middles of the sample paintings, prepared."
    for sample in samples():
        top, left = ((side - 512)//2 for side in sample.high.shape[:2])
        write_picture(folder/"high"/f"{sample.id}.png", sample.high[top:top + 512, left:left + 512])
    return prepare(folder/"store", high=folder/"high", num_workers=1).store


def now(device):
    "Seconds; of the processor where one thread works, so that what else the machine does matters less."
    if device == "cuda": torch.cuda.synchronize()
    return time.process_time() if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


class PlainLoop:
    "Relativistic average GAN training as the reference code does it."
    def __init__(self, net, critic, loss, recipe, loader, device):
        stage, = recipe.stages
        self.net, self.critic, self.average = net, critic, copy.deepcopy(net).eval()
        self.loader, self.device, self.stage = loader, device, stage
        self.features = copy.deepcopy(loss.perceptual.features)
        for layer in self.features:
            if isinstance(layer, nn.ReLU): layer.inplace = True   # as in torchvision's VGG
        self.mean, self.std = loss.perceptual.mean, loss.perceptual.std
        self.optimiser = torch.optim.Adam(net.parameters(), stage.lr, recipe.betas)
        self.critic_optimiser = torch.optim.Adam(critic.parameters(), stage.gan.critic_lr, recipe.betas)
        self.decay = recipe.ema

    def run(self, watch=None):
        "Seconds that one pass of the loader takes."
        start = now(self.device)
        for low, high in self.loader:
            self.step(*(side.as_subclass(torch.Tensor) for side in (low, high)))
            if watch: watch(self.net)
        return now(self.device) - start

    def step(self, low, high):
        def adversarial(logits, target): return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))
        for parameter in self.critic.parameters(): parameter.requires_grad = False
        self.optimiser.zero_grad()
        fake = self.net(low)
        pixel = F.l1_loss(fake, high)
        perceptual = F.l1_loss(self.features((fake - self.mean)/self.std), self.features((high - self.mean)/self.std))
        real_logits, fake_logits = self.critic(high).detach(), self.critic(fake)
        gan = (adversarial(real_logits - fake_logits.mean(), 0.0) + adversarial(fake_logits - real_logits.mean(), 1.0))/2
        (self.stage.loss.pixel*pixel + self.stage.loss.perceptual*perceptual + self.stage.gan.weight*gan).backward()
        self.optimiser.step()

        for parameter in self.critic.parameters(): parameter.requires_grad = True
        self.critic_optimiser.zero_grad()
        fake_logits, real_logits = self.critic(fake).detach(), self.critic(high)
        real_loss = adversarial(real_logits - fake_logits.mean(), 1.0)/2
        real_loss.backward()
        fake_logits = self.critic(fake.detach())
        fake_loss = adversarial(fake_logits - real_logits.detach().mean(), 0.0)/2
        fake_loss.backward()
        self.critic_optimiser.step()

        numbers = dict(pixel=pixel, perceptual=perceptual, gan=gan, real_loss=real_loss, fake_loss=fake_loss,
                       real=real_logits, fake=fake_logits)
        self.log = {name: value.detach().mean().item() for name, value in numbers.items()}
        new = dict(self.net.named_parameters())
        for name, parameter in self.average.named_parameters(): parameter.data.mul_(self.decay).add_(new[name].data, alpha=1 - self.decay)


class Clock(Callback):
    "Seconds of one pass over the training crops; validation is passed over."
    order, run_valid = 1000, False
    def __init__(self, device, watch=None): self.device, self.watch = device, watch
    def before_train(self): self.start = now(self.device)
    def after_batch(self):
        if self.watch: self.watch(self.learn.model)
        if self.learn.iter == self.learn.n_iter - 1: self.seconds = now(self.device) - self.start
    def before_validate(self): raise CancelValidException()


class Ours:
    "The learner of a run's stage, with what `train` adds to each step."
    def __init__(self, recipe, net, setup, loss, mode, every=100):
        stage, = recipe.stages
        self.device, self.guard = setup.device, GuardCallback(every=every)
        callbacks = [PositionCallback(recipe.epoch_iters, stage.n_iters), self.guard]
        self.learn = stage_learner(recipe, stage, net, replace(setup, mode=mode), loss=loss, cbs=callbacks)

    def run(self, watch=None):
        "Seconds that one pass of the loader takes."
        clock = Clock(self.device, watch)
        with self.learn.no_bar(), self.learn.no_logging(): self.learn.fit(1, cbs=clock)
        return clock.seconds

    def copying(self):
        "Seconds per step for the copy that the guard takes at times; the rounds are too short to see it."
        start = now(self.device)
        plain_copy(learner_state(self.learn, back=True))
        return (now(self.device) - start)/self.guard.every


class Trail:
    "The weights of a generator after each of the first two steps."
    def __init__(self, net): self.at = [self._weights(net)]
    def _weights(self, net): return torch.cat([parameter.detach().flatten().cpu() for parameter in net.parameters()]).double()
    def __call__(self, net):
        if len(self.at) < 3: self.at.append(self._weights(net))
    def way(self, n): return self.at[n] - self.at[0]


def differences(ours, plain): return [((ours.way(n) - plain.way(n)).norm()/plain.way(n).norm()).item() for n in (1, 2)]


def trim():
    "Give free memory back to the system, as far as the C library knows how: else it would hide what grows."
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"): library.malloc_trim(0)


class Weigh(Callback):
    "Memory in megabytes after the warm-up and after each third of the steps that follow."
    order, run_valid = 1001, False
    def __init__(self): self.held, self.on_card = [], []
    def after_batch(self):
        if (self.learn.iter + 1 - WARM_UP) % (MEMORY_STEPS//3): return
        gc.collect()
        trim()
        self.held.append(psutil.Process().memory_info().rss/2**20)
        if not torch.cuda.is_available(): return
        self.on_card.append(torch.cuda.max_memory_allocated()/2**20)
        torch.cuda.reset_peak_memory_stats()


def weigh(recipe, num_blocks, store, device, mode):
    "Memory of a longer fit on small crops, to be asked of a fresh process: of the process, and the card's peaks."
    warnings.filterwarnings("ignore", category=FutureWarning)
    stage, = recipe.stages
    n = WARM_UP + MEMORY_STEPS
    stage = replace(stage, n_iters=n, gan=replace(stage.gan, critic_filters=min(16, stage.gan.critic_filters)))
    recipe = replace(recipe, bs=2, low_size=min(12, recipe.low_size), epoch_iters=n, stages=(stage,))
    net, setup, scales = make_generator(recipe.arch, num_blocks=num_blocks), Setup(Store(store), device=device), Weigh()
    ours = Ours(recipe, net, setup, stage_loss(stage.loss), mode, every=25)
    ours.learn.add_cb(scales)
    ours.run()
    return scales.held, scales.on_card


def target(device):
    "What the time of our defaults shall be at most, and why; `None` where nothing is promised."
    if device == "cuda": return TARGETS["cuda"], "a GPU"
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    for flag in ("amx_bf16", "avx512_bf16"):
        if flag in flags: return TARGETS[flag], f"a CPU with {flag}"
    return None, "a CPU without bfloat16"


def summary(times, name):
    "Median, least and greatest ratio of the rounds."
    ratios = [ours/plain for ours, plain in zip(times[name], times["plain"])]
    return dict(ratio=statistics.median(ratios), least=min(ratios), greatest=max(ratios), seconds=statistics.median(times[name]))


@command
def main(
    arch:str="rrdbnet", # Generator: "compact", "srresnet" or "rrdbnet"
    num_blocks:int=3, # Its blocks
    critic:str="vgg", # "vgg", "unet" or "patch"
    critic_filters:int=64, # Channels of its first stage
    bs:int=4, # Crops per batch
    low_size:int=24, # Side of a crop in LR pixels
    rounds:int=6, # How often the ways take turns
    steps:int=3, # Steps per turn, 2 or more
    threads:int=None, # Of PyTorch; its own choice if left out
    device:str="cpu", # "cpu" or "cuda"
    no_memory:bool=False, # Leave out the 300 steps for memory?
    json:str=None, # File that the numbers are written to
):
    "Ratio of the time of our GAN step to that of a plain PyTorch loop, and the growth of memory."
    warnings.filterwarnings("ignore", category=FutureWarning)
    if threads: torch.set_num_threads(threads)
    if steps < 2: raise ValueError(f"steps={steps}: give each turn 2 or more, the first two are compared")
    stage = Stage("gan", 10**6, lr=1e-5, schedule="flat",
                  loss=Terms(pixel=1e-2, perceptual=1.0, net="vgg16"),
                  gan=Gan(weight=5e-3, critic=critic, critic_filters=critic_filters, critic_lr=1e-5))
    recipe = Recipe("benchmark", (stage,), arch, low_size=low_size, bs=bs, epoch_iters=steps)
    report = dict(arch=arch, num_blocks=num_blocks, critic=critic, critic_filters=critic_filters, bs=bs,
                  low_size=low_size, rounds=rounds, steps=steps, device=device,
                  threads=torch.get_num_threads(), torch=torch.__version__, load=[os.getloadavg()[0]])
    print(f"{arch} of {num_blocks} blocks against {critic}, {bs} crops of {low_size}x{low_size}, {device}, {report['threads']} threads, "
          f"PyTorch {torch.__version__}, load {report['load'][0]:.2f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(small_store(Path(folder)), device=device)
        seed_everything(recipe.seed)
        net, loss = make_generator(arch, num_blocks=num_blocks), stage_loss(stage.loss).to(device)
        short = replace(recipe, epoch_iters=3)
        def seconds_of(mode):
            in_mode = replace(setup, mode=mode)
            return time_steps(stage_learner(short, stage, copy.deepcopy(net), in_mode, loss=copy.deepcopy(loss)))
        mode, seconds = fastest_mode(seconds_of)
        print(f"fastest here: {mode} (" + ", ".join(f"{name} {value:.3g} s" for name, value in seconds.items()) + ")", flush=True)
        ours = {name: Ours(recipe, copy.deepcopy(net), setup, copy.deepcopy(loss), how)
                for name, how in dict(equal=EQUAL, defaults=mode).items()}
        judge = ours["equal"].learn.gan.critic
        ours["defaults"].learn.gan.critic.load_state_dict(judge.state_dict())
        loader = sr_dls(setup.store, low_size, bs, steps, recipe.seed, recipe.valid_size, device=device).train
        plain = PlainLoop(copy.deepcopy(net).to(device), copy.deepcopy(judge).to(device), loss, recipe, loader, device)
        ways = dict(plain=plain) | ours

        trails = {name: Trail(net) for name in ways}
        for name, way in ways.items(): way.run(trails[name])   # warm-up too
        report["off"] = differences(trails["equal"], trails["plain"])
        print("  at equal settings the generators differ by {:.1e} of their way after one step, by {:.1e} after two".format(
            *report["off"]), flush=True)
        if report["off"][0] > AGREES:
            raise RuntimeError(f"the loops differ by more than {AGREES} of the first step: they do not do the same")

        times = {name: [] for name in ways}
        for number in range(rounds):
            order = list(ways) if number % 2 == 0 else list(ways)[::-1]
            for name in order: times[name].append(ways[name].run()/steps)
        for name, way in ours.items(): times[name] = [time + way.copying() for time in times[name]]
        report |= dict(mode=str(mode), times=times, load=report["load"] + [os.getloadavg()[0]])
        report |= {name: summary(times, name) for name in ours}
        limit, machine = target(device)
        print(f"  plain     {statistics.median(times['plain']):7.3f} s per step")
        for name, most in (("equal", 1.05), ("defaults", limit)):
            found = report[name]
            wanted = f"; at most {most} on {machine}" if most else ""
            print(f"  {name:9} {found['seconds']:7.3f} s per step, {found['ratio']:.3f} of the plain time "
                  f"(rounds from {found['least']:.3f} to {found['greatest']:.3f}){wanted}")
        print(f"  load {report['load'][0]:.2f} at the start, {report['load'][1]:.2f} now", flush=True)

        if not no_memory:
            with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (torch.get_num_threads(),)) as fresh:
                report["held"], report["on_card"] = fresh.submit(weigh, recipe, num_blocks, setup.store.path, device, mode).result()
            for what, held in (("process", report["held"]), ("card", report["on_card"])):
                if not held: continue
                growth = ", ".join(f"{later - held[0]:+.1f}" for later in held[1:])
                print(f"  memory of the {what}: {held[0]:.0f} MB after {WARM_UP} steps, {growth} MB after {MEMORY_STEPS//3} more each")
    if json: write_json(json, report)


if __name__ == "__main__": main()
