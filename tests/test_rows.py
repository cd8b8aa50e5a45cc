"""What people who train lose elsewhere: `users.md`, table 2. Each test names its row; the other rows are tested where their subject is:
2, 3, 6, 19 in test_checkpoint.py, 4 and 5 in test_guard.py, 9, 13 and 20 in test_gan.py, 11 in test_perceptual.py, 14 in test_parallel.py."""
import inspect
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.callback.schedule import lr_find   # noqa: F401 (adds a method to Learner)
from fastai.learner import load_learner
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn
from torch.nn import functional as F

from paintsr_nb.data.patches import sr_dls
from paintsr_nb.nets.weights import save_model
from paintsr_nb.training.callback import PositionCallback
from paintsr_nb.training.checkpoint import CheckpointCallback
from paintsr_nb.training.guard import GuardCallback
from paintsr_nb.nets.tensors import to_pictures
from paintsr_nb.training.average import averaged_weights
from paintsr_nb.training.learner import sr_learner
from paintsr_nb.losses.fidelity import SRLoss
from paintsr_nb.training.recipes import RECIPES
from paintsr_nb.training.train import stage_loss
from tiny import copies, fit, same, tiny_gan, tiny_learner


def test_row_01_the_learners_scores_are_the_reference_librarys(tiny_store):
    "SSIM and PSNR of the table are those of the finished 8-bit pictures by `wang_rgb`, spelled out for scikit-image."
    learn = fit(tiny_learner(tiny_store, tiny_gan()))
    row = dict(zip(learn.recorder.metric_names[1:], learn.recorder.values[-1]))
    preds, high = learn.get_preds()
    sr, high = to_pictures(preds)[0], to_pictures(high)[0]
    wanted = structural_similarity(sr, high, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=-1)
    assert row["ssim"] == pytest.approx(wanted, abs=1e-9)
    assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(high, sr, data_range=255), abs=1e-9)


def test_row_05_health_is_in_the_table(tiny_store):
    "Critic(real), critic(fake), accuracy and both gradient norms are columns, and mean what they say."
    gan, seen = tiny_gan(kind="vanilla"), []
    learn = fit(tiny_learner(tiny_store, gan, n_iters=1))
    row = dict(zip(learn.recorder.metric_names[1:], learn.recorder.values[-1]))
    assert set(row) >= {"critic_loss", "critic_real", "critic_fake", "critic_accuracy", "critic_norm", "generator_norm"}
    assert row["critic_loss"] == pytest.approx((np.log1p(np.exp(-row["critic_real"])) + np.log1p(np.exp(row["critic_fake"])))/2, abs=0.02)
    assert 0 <= row["critic_accuracy"] <= 1 and row["generator_norm"] > 0 and row["critic_norm"] > 0


def test_row_10_raw_value_weight_and_share_of_every_part(tiny_store):
    learn = fit(tiny_learner(tiny_store, tiny_gan(weight=0.3), loss=SRLoss(pixel=2.0, ssim=0.5), n_iters=1))
    row = dict(zip(learn.recorder.metric_names[1:], learn.recorder.values[-1]))
    weights = dict(l1=2.0, ssim_loss=0.5, adversarial=0.3)
    total = sum(row[name]*weight for name, weight in weights.items())
    for name, weight in weights.items():
        assert row[f"{name}_weight"] == pytest.approx(weight) and row[f"{name}_share"] == pytest.approx(row[name]*weight/total, rel=1e-5)
    assert row["train_loss"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("name,pixel,perceptual,layers,weight,kind", [
    ("srgan", 0.0, 1/12.75**2, {"relu5_4"}, 1e-3, "vanilla"),
    ("esrgan", 1e-2, 1.0, {"conv5_4"}, 5e-3, "relativistic_average"),
    ("realesrgan", 1.0, 1.0, {"conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4"}, 0.1, "vanilla"),
    ("hackathon2020", 1e-2, 1.0, {"conv5_4"}, 5e-3, "relativistic_average"),
])
def test_row_10_recipes_have_the_weights_of_their_source(name, pixel, perceptual, layers, weight, kind):
    "As the papers print them; no recipe hides a term."
    last = RECIPES[name].stages[-1]
    assert (last.loss.pixel, last.loss.perceptual, last.gan.weight) == pytest.approx((pixel, perceptual, weight), rel=0.03)
    assert set(last.loss.layers) == layers and last.gan.kind == kind and not last.loss.ssim


@pytest.mark.filterwarnings("ignore:vgg16 lacks layers")
@pytest.mark.parametrize("name", RECIPES)
def test_row_10_every_recipe_has_a_loss_to_train_with(name):
    for stage in RECIPES[name].stages:
        sr, high = torch.rand(2, 3, 32, 32, requires_grad=True), torch.rand(2, 3, 32, 32)
        stage_loss(replace(stage.loss, net="vgg16"))(sr, high).backward()
        assert torch.isfinite(sr.grad).all() and sr.grad.abs().sum() > 0


class Enlarge(nn.Module):
    "A net that is right about colours from the beginning: bilinear, with one weight that is 1."
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
    def forward(self, x): return self.gain*F.interpolate(x.float(), scale_factor=4, mode="bilinear")


def test_row_12_colours_and_channels_arrive_as_they_left(tiny_store):
    "Stock GAN predictions come inverted. Here red stays red through loader, learner and `get_preds`, after a fit with a critic."
    learn = fit(tiny_learner(tiny_store, tiny_gan(weight=1e-6), net=Enlarge(), lr=1e-5))
    low = learn.dls.valid.one_batch()[0]
    preds, high = learn.get_preds()
    for channel in range(3):
        assert preds[:, channel].mean().item() == pytest.approx(low[:, channel].mean().item(), abs=0.02)
        assert preds[:, channel].mean().item() == pytest.approx(high[:, channel].mean().item(), abs=0.03)
    name = tiny_store.ids("valid")[0]
    decoded, *_, raw = learn.predict(name)
    low = torch.from_numpy(np.array(tiny_store.low(name))).permute(2, 0, 1).float()
    assert raw.shape[1:] == (4*low.shape[1], 4*low.shape[2])
    for channel in range(3):
        assert decoded[channel].float().mean().item() == pytest.approx(low[channel].mean().item(), abs=2)   # bytes, as fastai decodes them
        assert raw[channel].mean().item()*255 == pytest.approx(low[channel].mean().item(), abs=2)


def test_row_12_nothing_is_shadowed_and_everything_works_after_a_fit(tiny_store, tmp_path):
    "`lr_find`, `export`, a second fit, `show_results` after GAN training; no warning of shadowed attributes."
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*shadowing.*")
        learn = fit(tiny_learner(tiny_store, tiny_gan(), GuardCallback(), path=tmp_path))
        with learn.no_bar(): learn.lr_find(num_it=6, show_plot=False)
        fit(learn)
    learn.show_results(max_n=1)
    learn.export("gan.pkl")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = load_learner(tmp_path/"gan.pkl")
    assert same(copies(again.model), averaged_weights(learn))   # what was validated is what is exported


def test_row_15_a_trained_net_loads_without_fastai(tiny_store, tmp_path):
    "Tensors and JSON; another process needs neither fastai nor this one's classes."
    learn = fit(tiny_learner(tiny_store, tiny_gan()))
    save_model(tmp_path/"net.safetensors", learn.model, dict(recipe="test"))
    code = ("import sys, torch\nfrom paintsr_nb.nets.foreign import load_model\n"
            f"net = load_model({str(tmp_path/'net.safetensors')!r})\ntorch.manual_seed(0)\nx = torch.rand(1, 3, 9, 7)\n"
            "with torch.no_grad(): print(net(x).sum().item(), net.card['recipe'], 'fastai' in sys.modules)")
    total, recipe, fastai = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    torch.manual_seed(0)
    with torch.no_grad(): assert float(total) == pytest.approx(learn.model.eval()(torch.rand(1, 3, 9, 7)).sum().item(), rel=1e-5)
    assert recipe == "test" and fastai == "False"


def test_row_18_workers_get_nothing_that_cannot_be_sent(tiny_store):
    "Where processes are spawned, loaders are pickled: no lambda, no closure; and nobody has workers who did not ask."
    assert inspect.signature(sr_dls).parameters["num_workers"].default == 0
    dls = sr_dls(tiny_store, low_size=8, bs=2, n_iters=2, valid_size=12, device="cpu")
    for loader in dls.loaders:
        again = pickle.loads(pickle.dumps(loader))
        for one, two in zip(loader.create_item(0), again.create_item(0)): assert torch.equal(one, two)


def test_row_18_spawned_workers(tiny_store):
    "As on Windows and macOS: a loader with two spawned workers gives the crops of none."
    code = ("import sys, torch, torch.multiprocessing as mp\nfrom paintsr_nb.data.patches import sr_dls\n"
            "if __name__ == '__main__':\n"
            "    mp.set_start_method('spawn')\n"
            f"    crops = [[low for low, _ in sr_dls({str(tiny_store.path)!r}, low_size=8, bs=2, n_iters=2, valid_size=12, num_workers=n, device='cpu').train] for n in (0, 2)]\n"
            "    print(all(torch.equal(a, b) for a, b in zip(*crops)))\n")
    script = Path(tiny_store.path).parent/"spawned.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, "-W", "ignore", str(script)], capture_output=True, text=True)
    assert done.stdout.split() == ["True"], done.stderr
