"What the page of the critics does not show: any size, equality with PyTorch's spectral norm, gradients, buffers, features."
import copy

import pytest
import torch
from torch import nn

from paintsr_nb.nets.critics import CRITICS, PatchCritic, SpectralConv2d, UNetCritic, VGGCritic, make_critic

VARIANTS = [("vgg", "batch"), ("vgg", "none"), ("unet", None), ("patch", "spectral"), ("patch", "batch"), ("patch", "none")]
SIZES = [(32, 32), (33, 64), (40, 57), (63, 100), (96, 128), (127, 32), (200, 32), (128, 200)]


@pytest.fixture(scope="module")
def critics():
    torch.manual_seed(0)
    return {name: make_critic(name, num_filters=4) for name in CRITICS}


def variant(name, norm):
    torch.manual_seed(0)
    return make_critic(name, num_filters=4, **(dict(norm=norm) if norm else {}))


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
        assert critics["patch"].train(training)(pictures).shape == (2, 1, height//8 - 2, width//8 - 2)


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


def sharp(layer, x, stride=1):
    "The layer's convolution with its weights divided by the singular value that its vectors stand for."
    weight = layer.weight_orig
    return nn.functional.conv2d(x, weight/torch.einsum("o,oikl,ikl->", layer.weight_u, weight, layer.weight_v.view(weight.shape[1:])), None, stride, 1)


def test_unet_joins_as_published(critics):
    "Written out: three halvings, three bilinear doublings, after each the finer map is added."
    c, x = critics["unet"].eval(), torch.rand(2, 3, 24, 40)
    act = lambda y: nn.functional.leaky_relu(y, 0.2)
    up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    with torch.no_grad():
        x0 = act(c.conv0(x))
        x1 = act(sharp(c.conv1, x0, 2))
        x2 = act(sharp(c.conv2, x1, 2))
        x3 = act(sharp(c.conv3, x2, 2))
        x4 = act(sharp(c.conv4, up(x3))) + x2
        x5 = act(sharp(c.conv5, up(x4))) + x1
        x6 = act(sharp(c.conv6, up(x5))) + x0
        expected = c.conv9(act(sharp(c.conv8, act(sharp(c.conv7, x6)))))
        torch.testing.assert_close(c(x), expected, rtol=1e-4, atol=1e-5)


def test_vgg_layers_follow_as_published(critics):
    "Written out: each convolution but the first has batch norm, each has a leaky ReLU of 0.2."
    c, x = critics["vgg"].eval(), torch.rand(2, 3, 128, 128)
    act = lambda y: nn.functional.leaky_relu(y, 0.2)
    with torch.no_grad():
        y = act(c.bn0_1(c.conv0_1(act(c.conv0_0(x)))))
        y = act(c.bn1_1(c.conv1_1(act(c.bn1_0(c.conv1_0(y))))))
        y = act(c.bn2_1(c.conv2_1(act(c.bn2_0(c.conv2_0(y))))))
        y = act(c.bn3_1(c.conv3_1(act(c.bn3_0(c.conv3_0(y))))))
        y = act(c.bn4_1(c.conv4_1(act(c.bn4_0(c.conv4_0(y))))))
        torch.testing.assert_close(c(x), c.linear2(act(c.linear1(y.flatten(1)))), rtol=1e-4, atol=1e-6)


# --- without batch norm -------------------------------------------------------------------------------------------

def test_vgg_without_norm_has_the_published_convolutions_with_a_bias_each():
    convs = [f"conv{stage}_{half}" for stage in range(5) for half in (0, 1)]
    layers = [*convs, "linear1", "linear2"]
    assert list(variant("vgg", "none").state_dict()) == [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]


@pytest.mark.parametrize("name,norm", [("vgg", "none"), ("patch", "spectral"), ("patch", "none")])
def test_without_batch_norm_each_crop_is_judged_alone(name, norm):
    "A batch of one works in train mode, and the company of a crop changes nothing."
    critic, crops = variant(name, norm), torch.rand(3, 3, 32, 32)
    if norm == "spectral":
        for layer in critic.children(): layer._iterate = lambda: None   # else every call moves the vectors a little
    together = critic.train()(crops)
    torch.testing.assert_close(critic(crops[1:2]), together[1:2], rtol=1e-4, atol=1e-5)


def test_with_batch_norm_the_company_counts():
    critic, crops = variant("patch", "batch").train(), torch.rand(3, 3, 32, 32)
    assert (critic(crops[1:2]) - critic(crops)[1:2]).abs().max() > 1e-3


@pytest.mark.parametrize("name,known", [("vgg", "batch, none"), ("patch", "spectral, batch, none")])
def test_unknown_norms_are_answered(name, known):
    with pytest.raises(ValueError, match=f"no norm 'instance': choose one of {known}"): make_critic(name, norm="instance")


# --- the critic of patches ----------------------------------------------------------------------------------------

def test_patch_keys():
    plain = {f"conv{n}.{kind}" for n in (0, 4) for kind in ("weight", "bias")}
    spectral = {f"conv{n}.{kind}" for n in (1, 2, 3) for kind in ("weight_orig", "weight_u", "weight_v")}
    normed = {f"bn{n}.{kind}" for n in (1, 2, 3) for kind in ("weight", "bias", "running_mean", "running_var")}
    assert keys(variant("patch", "spectral")) == plain | spectral
    assert keys(variant("patch", "batch")) == plain | normed | {f"conv{n}.weight" for n in (1, 2, 3)}
    assert keys(variant("patch", "none")) == plain | {f"conv{n}.{kind}" for n in (1, 2, 3) for kind in ("weight", "bias")}


def test_patch_layers_follow_as_published():
    "pix2pix's `NLayerDiscriminator` with three layers, written out as one sequence."
    c, x = variant("patch", "batch").train(), torch.rand(2, 3, 48, 72)
    def layers(width_in, width, stride, norm=True):
        norm = [nn.BatchNorm2d(width)] if norm else []
        return [nn.Conv2d(width_in, width, 4, stride, 1, bias=not norm), *norm, nn.LeakyReLU(0.2)]

    other = nn.Sequential(*layers(3, 4, 2, norm=False), *layers(4, 8, 2), *layers(8, 16, 2), *layers(16, 32, 1), nn.Conv2d(32, 1, 4, 1, 1))
    theirs, ours = other.state_dict(), c.state_dict()
    other.load_state_dict(dict(zip(theirs, (ours[key] for n in range(5) for key in ours if key.split(".")[0] in (f"conv{n}", f"bn{n}")))))
    torch.testing.assert_close(c(x), other(x), rtol=1e-4, atol=1e-5)


def test_patch_spectral_layers_are_divided_by_their_singular_value():
    c, x = variant("patch", "spectral").eval(), torch.rand(2, 3, 40, 64)
    act = lambda y: nn.functional.leaky_relu(y, 0.2)
    with torch.no_grad():
        y = act(sharp(c.conv2, act(sharp(c.conv1, act(c.conv0(x)), 2)), 2))
        torch.testing.assert_close(c(x), c.conv4(act(sharp(c.conv3, y))), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("height,width", [(1, 1), (5, 23), (24, 31), (25, 200)])
def test_small_pictures_have_one_patch_at_least(height, width):
    assert PatchCritic(num_filters=4)(torch.rand(1, 3, height, width)).shape == (1, 1, max(height//8 - 2, 1), max(width//8 - 2, 1))


# --- features -----------------------------------------------------------------------------------------------------

SHAPES = dict(vgg=[(4, 24, 32), (8, 12, 16), (16, 6, 8), (32, 3, 4), (32, 1, 2)],
              unet=[(4, 48, 64), (8, 24, 32), (16, 12, 16), (32, 6, 8), (16, 12, 16), (8, 24, 32), (4, 48, 64)],
              patch=[(4, 24, 32), (8, 12, 16), (16, 6, 8), (32, 5, 7)])


def test_every_critic_has_its_shapes_here(): assert set(SHAPES) == set(CRITICS) == {name for name, _ in VARIANTS}


@pytest.mark.parametrize("name,norm", VARIANTS)
def test_features_come_beside_the_same_logits(name, norm):
    critic, pictures = variant(name, norm).eval(), torch.rand(2, 3, 48, 64)
    logits, maps = critic(pictures, features=True)
    assert torch.equal(critic(pictures), logits)
    assert [tuple(one.shape) for one in maps] == [(2, *shape) for shape in SHAPES[name]]


@pytest.mark.parametrize("name,norm", VARIANTS)
def test_features_are_what_the_logits_are_made_of(name, norm):
    "A gradient of the logits reaches every map: none is a copy beside the way."
    critic, pictures = variant(name, norm).train(), torch.rand(2, 3, 48, 64)
    logits, maps = critic(pictures, features=True)
    assert all(gradient.any() for gradient in torch.autograd.grad(logits.square().sum(), maps, retain_graph=True))
    sum(one.abs().mean() for one in maps).backward()
    assert critic.conv0_0.weight.grad.any() if name == "vgg" else critic.conv0.weight.grad.any()


@pytest.mark.parametrize("name,norm", VARIANTS)
def test_features_under_a_functional_call_leave_the_critic_alone(name, norm):
    "As the generator's step asks: detached weights, cloned buffers, a gradient for the pictures only."
    critic, pictures = variant(name, norm).train(), torch.rand(2, 3, 48, 64, requires_grad=True)
    before = copy.deepcopy(critic.state_dict())
    tensors = {key: parameter.detach() for key, parameter in critic.named_parameters()}
    tensors |= {key: buffer.clone() for key, buffer in critic.named_buffers()}
    logits, maps = torch.func.functional_call(critic, tensors, (pictures, True))
    (logits.mean() + sum(one.mean() for one in maps)).backward()
    assert pictures.grad.any()
    assert all(parameter.grad is None for parameter in critic.parameters())
    assert all(torch.equal(before[key], value) for key, value in critic.state_dict().items())


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


def test_bf16_leaves_the_singular_value_in_float32(monkeypatch):
    "Mixed precision may round the convolution, not what its weights are divided by, nor the vectors that follow it."
    torch.manual_seed(0)
    layer, picture = SpectralConv2d(8, 8, kernel=3), torch.rand(1, 8, 16, 16)
    twin, used = copy.deepcopy(layer), []
    convolve = nn.functional.conv2d
    monkeypatch.setattr(nn.functional, "conv2d", lambda x, weight, **rest: used.append(weight.detach()) or convolve(x, weight, **rest))
    layer(picture)
    with torch.autocast("cpu", torch.bfloat16): rough = twin(picture)
    assert rough.dtype == torch.bfloat16
    assert torch.equal(used[0], used[1])
    assert torch.equal(layer.weight_u, twin.weight_u)


def test_a_single_small_crop_is_answered(critics):
    with pytest.raises(ValueError, match="at least 2 crops"): critics["vgg"].train()(torch.rand(1, 3, 63, 50))
    critics["vgg"].train()(torch.rand(1, 3, 64, 32))
    with pytest.raises(ValueError, match="vgg, unet, patch"): make_critic("pitch")
