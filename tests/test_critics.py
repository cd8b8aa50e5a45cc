"What the page of the critics does not show: any size, equality with PyTorch's spectral norm, gradients, buffers."
import copy

import pytest
import torch
from torch import nn

from paintsr_nb.nets.critics import CRITICS, SpectralConv2d, UNetCritic, VGGCritic, make_critic

SIZES = [(32, 32), (33, 64), (40, 57), (63, 100), (96, 128), (127, 32), (200, 32), (128, 200)]


@pytest.fixture(scope="module")
def critics():
    torch.manual_seed(0)
    return {name: make_critic(name, num_filters=4) for name in CRITICS}


def keys(net): return {key for key in net.state_dict() if not key.endswith("num_batches_tracked")}


def count(net): return sum(parameter.numel() for parameter in net.parameters())


def test_published_sizes():
    with torch.device("meta"): assert count(VGGCritic()) == 14_499_401
    assert count(UNetCritic()) == 4_376_897


def test_vgg_keys_are_the_published_ones(critics):
    convs = [f"conv{stage}_{half}" for stage in range(5) for half in (0, 1)]
    norms = [name.replace("conv", "bn") for name in convs[1:]]
    expected = {f"{name}.weight" for name in convs} | {"conv0_0.bias"}
    expected |= {f"{name}.{kind}" for name in norms for kind in ("weight", "bias", "running_mean", "running_var")}
    expected |= {f"linear{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")}
    assert keys(critics["vgg"]) == expected


def test_unet_keys_are_the_published_ones(critics):
    expected = {f"conv{n}.{kind}" for n in range(1, 9) for kind in ("weight_orig", "weight_u", "weight_v")}
    assert keys(critics["unet"]) == expected | {f"conv{n}.{kind}" for n in (0, 9) for kind in ("weight", "bias")}


@pytest.mark.parametrize("height,width", SIZES)
@pytest.mark.parametrize("training", [True, False])
def test_any_size(critics, height, width, training):
    pictures = torch.rand(2, 3, height, width)
    with torch.no_grad():
        assert critics["vgg"].train(training)(pictures).shape == (2, 1)
        assert critics["unet"].train(training)(pictures).shape == (2, 1, height, width)


def test_vgg_at_128_is_the_published_net():
    "The pool changes nothing there: with it and without it the result is the same."
    torch.manual_seed(0)
    critic = make_critic("vgg", num_filters=4).eval()
    pictures = torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        pooled = critic(pictures)
        critic.pool = nn.Identity()
        assert torch.equal(critic(pictures), pooled)


def test_the_filling_up_repeats_the_edge(critics):
    critic, picture = critics["unet"].eval(), torch.rand(1, 3, 12, 21)
    filled = torch.nn.functional.pad(picture, (0, 3, 0, 4), mode="replicate")
    with torch.no_grad(): assert torch.equal(critic(picture), critic(filled)[..., :12, :21])


@pytest.mark.parametrize("name", CRITICS)
def test_gradients_reach_the_picture_and_every_parameter(name):
    torch.manual_seed(0)
    critic, picture = make_critic(name, num_filters=4), torch.rand(2, 3, 64, 64, requires_grad=True)
    nn.functional.softplus(-critic(picture)).mean().backward()
    assert picture.grad.abs().amax(1).count_nonzero() > 0.9*picture[:, 0].numel()
    assert [key for key, parameter in critic.named_parameters() if parameter.grad is None or not parameter.grad.any()] == []


@pytest.mark.parametrize("name", CRITICS)
def test_eval_mode_moves_no_buffer_and_train_mode_does(name):
    torch.manual_seed(0)
    critic, pictures = make_critic(name, num_filters=4), torch.rand(2, 3, 64, 64)
    before = copy.deepcopy(critic.state_dict())
    critic.eval()(pictures).mean().backward()
    assert all(torch.equal(before[key], value) for key, value in critic.state_dict().items())
    critic.train()(pictures)
    assert any(not torch.equal(before[key], value) for key, value in critic.state_dict().items())


@pytest.mark.parametrize("kernel,stride", [(3, 1), (4, 2)])
def test_spectral_convolution_equals_the_one_of_pytorch(kernel, stride):
    torch.manual_seed(0)
    ours = SpectralConv2d(5, 7, kernel=kernel, stride=stride)
    theirs = nn.utils.spectral_norm(nn.Conv2d(5, 7, kernel, stride, 1, bias=False))
    theirs.load_state_dict(ours.state_dict())
    for training in (True, True, False):
        x = torch.rand(2, 5, 12, 12)
        a, b = ours.train(training)(x), theirs.train(training)(x)
        torch.testing.assert_close(a, b)
        ours.zero_grad(), theirs.zero_grad()
        a.square().mean().backward(), b.square().mean().backward()
        torch.testing.assert_close(ours.weight_orig.grad, theirs.weight_orig.grad)
        torch.testing.assert_close(ours.weight_u, theirs.weight_u)


def test_a_fresh_spectral_convolution_is_already_calm():
    "Without the iterations at the beginning a random pair of vectors gives a singular value near zero, and answers of any size."
    torch.manual_seed(0)
    layer = SpectralConv2d(32, 32, kernel=3)
    sigma = layer.weight_u @ layer.weight_orig.flatten(1) @ layer.weight_v
    assert sigma.item() == pytest.approx(torch.linalg.matrix_norm(layer.weight_orig.flatten(1), ord=2).item(), rel=0.1)


def test_two_batches_before_one_backward(critics):
    "Real and fake go through before the critic steps; the second must not spoil the gradient of the first."
    critic = critics["unet"].train()
    (critic(torch.rand(1, 3, 32, 32)).mean() + critic(torch.rand(1, 3, 32, 32)).mean()).backward()
    first = critic.eval()(torch.rand(1, 3, 32, 32)).mean()
    critic.train()(torch.rand(1, 3, 32, 32))
    first.backward()


@pytest.mark.parametrize("name", CRITICS)
def test_a_used_critic_can_be_copied(name):
    critic = make_critic(name, num_filters=4)
    critic(torch.rand(2, 3, 64, 64)).mean().backward()
    twin, pictures = copy.deepcopy(critic).eval(), torch.rand(1, 3, 64, 64)
    with torch.no_grad(): assert torch.equal(twin(pictures), critic.eval()(pictures))


def test_bf16_leaves_the_singular_value_in_float32(critics):
    critic, pictures = critics["unet"].eval(), torch.rand(1, 3, 32, 32)
    with torch.no_grad(): exact = critic(pictures)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16): rough = critic(pictures)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, rtol=0.05, atol=0.02)


def test_a_single_small_crop_is_answered(critics):
    with pytest.raises(ValueError, match="at least 2 crops"): critics["vgg"].train()(torch.rand(1, 3, 63, 50))
    critics["vgg"].train()(torch.rand(1, 3, 64, 32))
    with pytest.raises(ValueError, match="vgg, unet"): make_critic("patch")
