"Losses against references, and the perceptual net that must never be a random one."
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from paintsr_nb.training import losses
from paintsr_nb.training.losses import PerceptualLoss, SRLoss, ssim_loss


def pair(height=40, width=33, seed=0):
    rng = np.random.default_rng(seed)
    high = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    return np.clip(high.astype(int) + rng.integers(-60, 60, high.shape), 0, 255).astype(np.uint8), high


def batch(pixels): return torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float()/255


def test_ssim_is_scikit_images():
    sr, high = pair()
    wanted = structural_similarity(sr, high, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=-1)
    assert 1 - ssim_loss(batch(sr), batch(high)).item() == pytest.approx(wanted, abs=1e-5)


def test_ssim_gradient_is_the_numerical_one():
    torch.manual_seed(0)
    sr, high = torch.rand(1, 1, 12, 12, requires_grad=True), torch.rand(1, 1, 12, 12)
    ssim_loss(sr, high).backward()
    step = torch.zeros_like(high)
    step[0, 0, 5, 6] = 1e-2
    numerical = (ssim_loss(sr.detach() + step, high) - ssim_loss(sr.detach() - step, high))/2e-2
    assert sr.grad[0, 0, 5, 6].item() == pytest.approx(numerical.item(), rel=0.05)


def test_no_trained_net_is_an_error_that_says_what_to_install(monkeypatch):
    def refused(): raise OSError("no route to the weights")
    monkeypatch.setattr(losses, "_vgg19", refused)
    monkeypatch.setattr(losses.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"no route to the weights.*paintsr_nb\[perceptual\]"): PerceptualLoss("auto")
    with pytest.raises(ModuleNotFoundError, match="perceptual"): PerceptualLoss("vgg16")
    with pytest.raises(OSError, match="no route"): PerceptualLoss("vgg19")


def test_fallback_is_said(monkeypatch):
    def refused(): raise OSError("no route to the weights")
    monkeypatch.setattr(losses, "_vgg19", refused)
    with pytest.warns(UserWarning, match="VGG16 of stlpips-pytorch"): assert PerceptualLoss("auto").net == "vgg16"


def test_perceptual_net_has_the_weights_of_the_file():
    "Every convolution holds what the package's file holds for it, none is left as it was made."
    path = Path(importlib.util.find_spec("stlpips_pytorch").origin).parent/"weights"/"vST0.0"/"vgg_shift_tolerant.pth"
    state = torch.load(path, map_location="cpu", weights_only=True)
    wanted = {int(key.split(".")[2]): value for key, value in state.items() if key.startswith("net.slice") and key.endswith("weight")}
    found = {index: layer.weight for index, layer in enumerate(PerceptualLoss("vgg16").features) if isinstance(layer, torch.nn.Conv2d)}
    assert len(found) == 13 and set(found) == set(wanted)
    for index, weight in found.items(): assert torch.equal(weight, wanted[index])


def test_perceptual_minds_structure_more_than_brightness():
    perceptual = PerceptualLoss("vgg16", layers=dict(conv2_2=1.0))
    torch.manual_seed(0)
    high = torch.rand(1, 3, 64, 64)
    blurred = torch.nn.functional.avg_pool2d(high, 3, 1, 1)
    shifted = high + (blurred - high).abs().mean()   # the same L1
    assert perceptual(blurred, high) > 10*perceptual(shifted, high)


def test_perceptual_keeps_features_before_activation():
    perceptual = PerceptualLoss("vgg16", layers=dict(conv1_2=1.0, conv2_2=1.0))
    features = perceptual.kept(torch.rand(1, 3, 32, 32))
    assert len(features) == 2 and all(value.min() < 0 for value in features.values())


def test_parts_sum_and_gradient_reaches_the_picture():
    sr, high = (batch(side) for side in pair())
    sr.requires_grad_()
    loss = SRLoss(pixel=0.5, ssim=0.3, perceptual=0.1, pixel_kind="charbonnier", net="vgg16")
    total = loss(sr, high)
    total.backward()
    assert total.item() == pytest.approx(sum(float(value)*weight for value, weight in loss.parts.values()), rel=1e-6)
    assert set(loss.parts) == {"charbonnier", "ssim_loss", "perceptual"} and sr.grad.abs().sum() > 0
