"Perceptual features and the learned distance: the trained network and never a random one, against the package that carries it."
import copy
import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from paintsr_nb.losses import perceptual as page
from paintsr_nb.losses.perceptual import PerceptualDistance, PerceptualLoss, perceptual_distance


def weights():
    path = Path(importlib.util.find_spec("stlpips_pytorch").origin).parent/"weights"/"vST0.0"/"vgg_shift_tolerant.pth"
    return torch.load(path, map_location="cpu", weights_only=True)


@pytest.fixture(scope="module")
def vgg(): return PerceptualLoss("vgg16")


@pytest.fixture(scope="module")
def distance(): return PerceptualDistance()


@pytest.fixture(scope="module")
def theirs():
    "The package's own distance. It imports two modules that it does not use, one of them undeclared, and its file names a CUDA device."
    with pytest.MonkeyPatch.context() as patch:
        for name, attribute in (("torchsummary", "summary"), ("IPython", "embed")):
            stub = types.ModuleType(name)
            setattr(stub, attribute, None)
            patch.setitem(sys.modules, name, stub)
        load = torch.load
        patch.setattr(torch, "load", lambda path, **kwargs: load(path, **(kwargs | dict(map_location="cpu", weights_only=True))))
        from stlpips_pytorch import stlpips
        return stlpips.LPIPS(net="vgg", variant="shift_tolerant", verbose=False)


def scene(height, width, seed=0, batch=2):
    "Smooth blobs and some grain, two altered sides."
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, height//8 + 2, width//8 + 2, generator=generator)
    high = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    grain = torch.rand(batch, 3, height, width, generator=generator)
    return (0.8*high + 0.2*grain.roll(1, -1)).clamp(0, 1), (0.8*high + 0.2*grain).clamp(0, 1)


# --- the trained networks

def test_no_trained_net_is_an_error_that_says_what_to_install(monkeypatch):
    def refused(): raise OSError("no route to the weights")
    monkeypatch.setattr(page, "_vgg19", refused)
    monkeypatch.setattr(page.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"no route to the weights.*paintsr_nb\[perceptual\]"): PerceptualLoss("auto")
    with pytest.raises(ModuleNotFoundError, match="perceptual"): PerceptualLoss("vgg16")
    with pytest.raises(OSError, match="no route"): PerceptualLoss("vgg19")
    with pytest.raises(ModuleNotFoundError, match=r"paintsr_nb\[perceptual\]"): PerceptualDistance()
    with pytest.raises(ModuleNotFoundError, match="pip install lpips"): PerceptualDistance("lpips")


def test_fallback_is_said(monkeypatch):
    def refused(): raise OSError("no route to the weights")
    monkeypatch.setattr(page, "_vgg19", refused)
    with pytest.warns(UserWarning, match="VGG16 of stlpips-pytorch"): assert PerceptualLoss("auto").net == "vgg16"


def test_perceptual_net_has_the_weights_of_the_file(vgg):
    "Every convolution holds what the package's file holds for it, none is left as it was made."
    wanted = {int(key.split(".")[2]): value for key, value in weights().items() if key.startswith("net.slice") and key.endswith("weight")}
    found = {index: layer.weight for index, layer in enumerate(vgg.features) if isinstance(layer, torch.nn.Conv2d)}
    assert len(found) == 13 and set(found) == set(wanted)
    for index, weight in found.items(): assert torch.equal(weight, wanted[index])


@pytest.mark.parametrize("size", [(64, 64), (51, 38), (18, 33)])
def test_features_are_the_packages(theirs, size):
    "Blur, padding and order of the layers, seen after each of the five blocks."
    names = ["relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"]
    ours = PerceptualLoss("vgg16", layers=dict.fromkeys(names, 1.0))
    picture = scene(*size)[0]
    with torch.no_grad(): found, wanted = ours.kept(picture), theirs.net(theirs.scaling_layer(2*picture - 1))
    for name, features in zip(names, wanted):
        assert found[name].shape == features.shape
        torch.testing.assert_close(found[name], features, rtol=1e-4, atol=1e-4*features.abs().max().item())


def test_vgg19_layers_are_where_torchvision_has_them():
    "ESRGAN's and Real-ESRGAN's layers, by the indices that the reference codes use."
    torchvision = pytest.importorskip("torchvision")
    places = page._places(torchvision.models.vgg19(weights=None).features)
    assert {name: places[name] for name in ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4", "relu5_4")} == dict(
        conv1_2=2, conv2_2=7, conv3_4=16, conv4_4=25, conv5_4=34, relu5_4=35)
    assert len(places) == 32


def test_vgg19_names_fall_on_the_same_block():
    with pytest.warns(UserWarning, match="conv3_3 for conv3_4, relu5_3 for relu5_4") as said:
        loss = PerceptualLoss("vgg16", layers=dict(conv2_2=0.1, conv3_4=0.5, conv3_3=0.25, relu5_4=1.0))
    assert len(said) == 1 and loss.layers == dict(conv2_2=0.1, conv3_3=0.75, relu5_3=1.0)
    with pytest.raises(ValueError, match="no layer 'conv2_4'"): PerceptualLoss("vgg16", layers=dict(conv2_4=1.0))


# --- the loss

def test_perceptual_minds_structure_more_than_brightness():
    perceptual = PerceptualLoss("vgg16", layers=dict(conv2_2=1.0))
    torch.manual_seed(0)
    high = torch.rand(1, 3, 64, 64)
    blurred = torch.nn.functional.avg_pool2d(high, 3, 1, 1)
    shifted = high + (blurred - high).abs().mean()   # the same L1
    assert perceptual(blurred, high) > 10*perceptual(shifted, high)


def test_features_before_and_after_activation():
    perceptual = PerceptualLoss("vgg16", layers=dict(conv1_2=1.0, relu1_2=1.0, conv2_2=1.0))
    features = perceptual.kept(torch.rand(1, 3, 32, 32))
    assert set(features) == {"conv1_2", "relu1_2", "conv2_2"} and features["conv1_2"].min() < 0 and features["conv2_2"].min() < 0
    assert torch.equal(features["relu1_2"], features["conv1_2"].clamp_min(0))


@pytest.mark.parametrize("criterion,power", [("l1", 1), ("mse", 2)])
def test_weighted_sum_over_layers(criterion, power):
    layers = dict(conv1_2=0.3, relu2_2=2.0)
    perceptual, (sr, high) = PerceptualLoss("vgg16", layers, criterion), scene(40, 36)
    with torch.no_grad(): found, wanted = perceptual.kept(sr), perceptual.kept(high)
    each = sum(weight*((found[name] - wanted[name]).double().abs()**power).numpy().mean((1, 2, 3)) for name, weight in layers.items())
    np.testing.assert_allclose(perceptual(sr, high, reduction="none").numpy(), each, rtol=1e-5)
    assert perceptual(sr, high).item() == pytest.approx(each.mean(), rel=1e-5)
    with pytest.raises(ValueError, match="no reduction 'sum'"): perceptual(sr, high, reduction="sum")


def test_gradient_reaches_sr_alone(vgg):
    sr, high = (side.requires_grad_() for side in scene(32, 32))
    vgg(sr, high).backward()
    assert sr.grad.abs().sum() > 0 and high.grad is None


def test_convolutions_follow_autocast_and_differences_do_not(vgg):
    sr, high = scene(48, 48)
    exact = vgg(sr, high)
    with torch.autocast("cpu", torch.bfloat16):
        assert vgg.kept(sr)["conv5_3"].dtype == torch.bfloat16
        quick = vgg(sr, high)
    assert exact.dtype == quick.dtype == torch.float32 and quick.item() == pytest.approx(exact.item(), rel=0.05)


def test_one_look_at_the_range(vgg):
    "A GPU is made to wait once for the check, not once a number; a value too far out is still found on either side."
    class Waits(TorchDispatchMode):
        asked = 0
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.asked += func is torch.ops.aten._local_scalar_dense.default
            return func(*args, **(kwargs or {}))
    sr, high = scene(32, 32)
    with Waits() as waits: vgg(sr, high)
    assert waits.asked <= 1
    for wrong in (dict(sr=sr*255), dict(high=high*255), dict(high=high*2 - 1), dict(high=high - 2)):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} runs from .*wants 0-1"): vgg(**(dict(sr=sr, high=high) | wrong))


def test_row_11_a_range_is_refused_and_a_net_that_overshoots_is_not(vgg):
    "users.md table 2 row 11: wrong range. It is told by the target; a net may overshoot, and one that runs away is the guard's business."
    sr, high = scene(32, 32)
    for far in (sr*2.5 - 1, sr*100 - 50): assert vgg(far, high).isfinite()
    assert vgg(sr*float("nan"), high).isnan()
    for both in (lambda side: side*255, lambda side: side*2 - 1, lambda side: (side - 0.45)/0.22):
        with pytest.raises(ValueError, match="undo a Normalize"): vgg(both(sr), both(high))


@pytest.mark.parametrize("make", [lambda: PerceptualLoss("vgg16", layers=dict(conv1_2=1.0)), PerceptualDistance], ids=["loss", "distance"])
def test_a_judge_is_nobodys_state(make):
    owner = torch.nn.Module()
    owner.judge = make()
    assert not owner.state_dict() and not list(owner.parameters())
    owner.load_state_dict({})
    owner.train()
    assert not owner.judge.training and not owner.judge.features.training
    assert not any(parameter.requires_grad for parameter in owner.judge.features.parameters())
    owner.to(torch.float64)
    assert owner.judge.features[0].weight.dtype == owner.judge.mean.dtype == torch.float64
    copied = copy.deepcopy(owner).float()
    assert copied.judge.features[0].weight.dtype == torch.float32 and owner.judge.features[0].weight.dtype == torch.float64


# --- the distance

@pytest.mark.parametrize("size", [(64, 64), (97, 50), (18, 18)])
def test_distance_is_the_packages(theirs, distance, size):
    sr, high = scene(*size)
    for first, second in ((sr, high), (high, sr), (torch.rand_like(sr), high)):
        with torch.no_grad(): wanted = theirs(first, second, normalize=True).flatten()
        torch.testing.assert_close(distance(first, second).detach(), wanted, rtol=0, atol=1e-5)
    assert distance(high, high).abs().max() == 0


@pytest.mark.parametrize("height", [128, 305, 431])
def test_bands_change_nothing(monkeypatch, height):
    "In double precision, where the faint influence of a far row would be seen."
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    sr, high = scene(height, 20, batch=1)
    with torch.no_grad():
        whole = PerceptualDistance(rows=512).double()(sr, high)
        for rows in (16, 128): torch.testing.assert_close(PerceptualDistance(rows=rows).double()(sr, high), whole, rtol=1e-13, atol=0)


def test_distance_has_a_finite_gradient(distance):
    "Also where all features of a place are zero."
    dead = torch.zeros(1, 4, 2, 2, requires_grad=True)
    page._unit(dead).sum().backward()
    assert torch.isfinite(dead.grad).all()
    sr = torch.zeros(1, 3, 32, 32, requires_grad=True)
    distance(sr, scene(32, 32, batch=1)[1]).sum().backward()
    assert torch.isfinite(sr.grad).all() and sr.grad.abs().sum() > 0


def test_distance_is_not_touched_by_autocast(distance):
    sr, high = scene(32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16): quick = distance(sr, high)
    with torch.no_grad(): torch.testing.assert_close(quick, distance(sr, high), rtol=0, atol=0)


def test_pictures(distance):
    sr, high = ((side[0].permute(1, 2, 0)*255).byte().numpy() for side in scene(40, 48))
    tensor = lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1)[None].float()/255
    found = perceptual_distance(sr, high, device="cpu")
    assert isinstance(found, float) and found == pytest.approx(distance(tensor(sr), tensor(high)).item(), abs=1e-6)
    assert perceptual_distance(high, high, device="cpu") == 0
    for wrong in (sr[..., 0], sr/255, tensor(sr), np.zeros((40, 48, 4), np.uint8)):
        with pytest.raises(TypeError, match=r"expected a uint8 array \(H,W,3\)"): perceptual_distance(wrong, high)
    with pytest.raises(ValueError, match="must agree"): perceptual_distance(sr[:30], high, device="cpu")


def test_lpips_is_lpips(monkeypatch):
    "The formula of the package lpips on torchvision's layout, with weights drawn here in place of the two downloads."
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    features = torchvision.models.vgg16(weights=None).features
    heads = {f"lin{block}.model.1.weight": torch.rand(1, width, 1, 1) for block, width in enumerate((64, 128, 256, 512, 512))}
    monkeypatch.setattr(page, "_weight_file", lambda *_: heads)
    monkeypatch.setattr(torchvision.models, "vgg16", lambda weights: types.SimpleNamespace(features=copy.deepcopy(features)))
    sr, high = scene(50, 64)
    wanted = torch.zeros(2)
    with torch.no_grad():
        sides = [(2*side - 1 - torch.tensor([-.030, -.088, -.188]).view(3, 1, 1))/torch.tensor([.458, .448, .450]).view(3, 1, 1) for side in (sr, high)]
        for head, (first, end) in zip(heads.values(), ((0, 4), (4, 9), (9, 16), (16, 23), (23, 30))):
            sides = [features[first:end](side) for side in sides]
            one, two = (side/((side**2).sum(1, keepdim=True).sqrt() + 1e-10) for side in sides)
            wanted += ((one - two)**2*head).sum(1).mean((1, 2))
        torch.testing.assert_close(PerceptualDistance("lpips")(sr, high), wanted, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(PerceptualDistance("lpips", rows=16)(sr, high), wanted, rtol=1e-5, atol=1e-6)
