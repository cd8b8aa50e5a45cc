"What the page of the weights does not show: every dialect in every wrapper, broken files, spandrel's nets loaded and trained, the shared checkpoints."
import copy
import importlib
import json
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from paintsr_nb.nets import generators, weights
from paintsr_nb.nets.foreign import ForeignNet, foreign_net, load_model, rrdb_layout
from paintsr_nb.nets.generators import Generator, RRDBNet, WrappedNet, make_generator
from paintsr_nb.nets.weights import UnsupportedModel, find_model, generator_from, packaged_models, read_safetensors, save_model

DIALECTS = ["BasicSR", "ESRGAN", "first ESRGAN", "ESRGAN-PyTorch"]
HEADS = {"BasicSR": ["conv_first", "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"],
         "ESRGAN": ["conv_first", "trunk_conv", "upconv1", "upconv2", "HRconv", "conv_last"],
         "first ESRGAN": ["model.0", "model.1.sub.{n}", "model.3", "model.6", "model.8", "model.10"],
         "ESRGAN-PyTorch": ["conv1", "conv2", "up1", "up2", "conv3.0", "conv4"]}
DENSE = {"BasicSR": "body.{i}.rdb{j}.conv{k}", "ESRGAN": "RRDB_trunk.{i}.RDB{j}.conv{k}",
         "first ESRGAN": "model.1.sub.{i}.RDB{j}.conv{k}.0", "ESRGAN-PyTorch": "trunk.{i}.RDB{j}.conv{k}.0"}


def rrdb(num_filters=8, growth=4, num_blocks=3):
    torch.manual_seed(0)
    net = RRDBNet(num_filters, growth, num_blocks).eval()
    for parameter in net.parameters(): nn.init.normal_(parameter, std=0.2)
    return net


def in_dialect(net, dialect):
    "The state dict of an RRDBNet as another program would have written it."
    state, n = {}, len(net.body)
    names = dict(zip(HEADS["BasicSR"], HEADS[dialect]))
    for i in range(n):
        for j in (1, 2, 3):
            for k in range(1, 6):
                name = DENSE[dialect].format(i=i, j=j, k=k)
                if dialect == "ESRGAN-PyTorch" and k == 5: name = name.removesuffix(".0")
                names[f"body.{i}.rdb{j}.conv{k}"] = name
    for key, value in net.state_dict().items():
        layer, kind = key.rsplit(".", 1)
        state[f"{names[layer].format(n=n)}.{kind}"] = value.clone()
    return state


def result(net, low=None):
    torch.manual_seed(1)
    low = torch.rand(1, 3, 7, 9) if low is None else low
    with torch.no_grad(): return net(low)


def saved(path, state):
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


# --- our own files ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name,arguments", [
    ("compact", dict(num_filters=8, num_blocks=1)), ("compact", dict(num_filters=6, num_blocks=3, scale=4)),
    ("srresnet", dict(num_filters=8, num_blocks=2)), ("rrdbnet", dict(num_filters=8, growth=4, num_blocks=2)),
    ("rrdbnet", dict(num_filters=8, num_blocks=1))])
def test_round_trip(tmp_path, name, arguments):
    net = make_generator(name, **arguments)
    net(torch.rand(2, 3, 8, 8))   # moves the statistics of batch norm away from their beginning
    save_model(tmp_path/"m.safetensors", net, dict(recipe="l1", scores=[30.5, None]))
    again = load_model(tmp_path/"m.safetensors")
    assert torch.equal(result(again), result(net.eval()))
    assert (type(again), again.arch, again.arguments, again.scale, again.context) == (type(net), name, net.arguments, 4, net.context)
    assert not again.training
    assert again.card["recipe"] == "l1" and again.card["scores"] == [30.5, None] and name in again.card["source"]


def test_a_loaded_net_can_be_saved_and_trained_again(tmp_path):
    save_model(tmp_path/"a.safetensors", make_generator("compact", num_filters=8, num_blocks=1))
    net = load_model(tmp_path/"a.safetensors")
    net.train()(torch.rand(1, 3, 8, 8)).mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    save_model(tmp_path/"b.safetensors", net)
    assert (tmp_path/"a.safetensors").read_bytes() == (tmp_path/"b.safetensors").read_bytes()


def test_the_measured_context_travels(tmp_path):
    net = make_generator("compact", num_filters=8, num_blocks=1)
    net.context = 3
    save_model(tmp_path/"m.safetensors", net)
    assert load_model(tmp_path/"m.safetensors").context == 3


def test_any_tool_reads_our_files(tmp_path):
    net = make_generator("compact", num_filters=8, num_blocks=1)
    save_model(tmp_path/"m.safetensors", net)
    assert set(load_file(tmp_path/"m.safetensors")) == set(net.state_dict())


def test_half_precision_nets_come_back_in_float32(tmp_path):
    net = make_generator("compact", num_filters=8, num_blocks=1).to(torch.bfloat16)
    save_model(tmp_path/"m.safetensors", net)
    assert {p.dtype for p in load_model(tmp_path/"m.safetensors").parameters()} == {torch.float32}


def test_the_layout_in_memory_does_not_matter(tmp_path):
    net = make_generator("compact", num_filters=8, num_blocks=1)
    save_model(tmp_path/"a.safetensors", net)
    save_model(tmp_path/"b.safetensors", net.to(memory_format=torch.channels_last))
    assert (tmp_path/"a.safetensors").read_bytes() == (tmp_path/"b.safetensors").read_bytes()


def test_numbers_of_numpy_and_torch_are_plain_in_the_card(tmp_path):
    net = make_generator("compact", num_filters=8, num_blocks=1)
    save_model(tmp_path/"m.safetensors", net, dict(psnr=np.float32(1.5), steps=np.int64(7), loss=torch.tensor(0.5)))
    card = load_model(tmp_path/"m.safetensors").card
    assert (card["psnr"], card["steps"], card["loss"]) == (1.5, 7, 0.5)


def test_a_failed_save_leaves_the_old_file(tmp_path):
    net = make_generator("compact", num_filters=8, num_blocks=1)
    save_model(tmp_path/"m.safetensors", net, dict(n=1))
    with pytest.raises(TypeError, match="give numbers, strings"): save_model(tmp_path/"m.safetensors", net, dict(n=np.zeros(3)))
    assert load_model(tmp_path/"m.safetensors").card["n"] == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_of_another_version_is_answered(tmp_path):
    net = make_generator("compact", num_filters=8, num_blocks=1)
    for arch, arguments, match in [("compact2", {}, "compact2.*upgrade"), ("compact", dict(width=8), "width.*upgrade")]:
        text = json.dumps(dict(arch=arch, arguments=arguments, scale=4, context=5, card={}))
        save_file(net.state_dict(), tmp_path/"m.safetensors", metadata=dict(paintsr_nb=text))
        with pytest.raises(UnsupportedModel, match=f"m.safetensors.*{match}"): load_model(tmp_path/"m.safetensors")


def test_a_left_over_key_in_our_own_file_is_named(tmp_path):
    net = make_generator("compact", num_filters=8, num_blocks=1)
    save_model(tmp_path/"m.safetensors", net)
    with safe_open(tmp_path/"m.safetensors", "pt") as file: header = file.metadata()
    save_file(net.state_dict() | dict(gate=torch.zeros(2)), tmp_path/"m.safetensors", metadata=header)
    with pytest.raises(ValueError, match="m.safetensors does not fit compact.*gate is left over"): load_model(tmp_path/"m.safetensors")


def test_the_packaged_model_says_what_it_is():
    state, header = read_safetensors(packaged_models()["default"])
    net = load_model()
    assert isinstance(net, Generator) and (net.arch, net.scale, net.context, net.step) == ("compact", 4, 15, 1)
    assert set(net.state_dict()) == set(state) and header["card"].items() <= net.card.items()
    assert net.card["file"] == "default.safetensors" and net.card["source"] == "compact, 64 filters, 6 blocks, 4 scale"


def test_our_own_files_need_nothing_of_other_peoples(tmp_path):
    net = make_generator("srresnet", num_filters=8, num_blocks=1).eval()
    save_model(tmp_path/"m.safetensors", net, dict(recipe="l1"))
    state, header = read_safetensors(tmp_path/"m.safetensors")
    again = generator_from(header, state, tmp_path/"m.safetensors")
    assert torch.equal(result(again), result(net)) and not again.training and again.card["recipe"] == "l1"


def test_what_is_no_generator_of_ours_is_not_saved(tmp_path):
    class Mine(Generator):
        def __init__(self): super().__init__(scale=4, context=0)

    stranger = nn.Conv2d(3, 3, 1)
    for net in (Mine(), stranger):
        with pytest.raises(ValueError, match=rf"a {type(net).__name__} is none of our generators \(compact, srresnet, rrdbnet\)"):
            save_model(tmp_path/"m.safetensors", net)
    stranger.arch = "compact"
    with pytest.raises(TypeError, match="a Conv2d is no Generator"): save_model(tmp_path/"m.safetensors", stranger)
    assert not list(tmp_path.iterdir())


def test_a_generator_of_ones_own_is_saved_once_it_has_a_name(tmp_path, monkeypatch):
    class Mine(Generator):
        arch = "mine"
        def __init__(self, width=4):
            super().__init__(scale=2, context=1, step=2, arguments=dict(width=width))
            self.net = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 12, 1), nn.PixelShuffle(2))

        def forward(self, x): return self.net(x)

    monkeypatch.setitem(generators.GENERATORS, "mine", Mine)
    net = Mine(width=5)
    save_model(tmp_path/"m.safetensors", net)
    again = load_model(tmp_path/"m.safetensors")
    assert torch.equal(result(again), result(net))
    assert (type(again), again.scale, again.context, again.step, again.arguments) == (Mine, 2, 1, 2, dict(width=5))


# --- names --------------------------------------------------------------------------------------------------------

def test_run_folders_and_packaged_names(tmp_path, monkeypatch):
    net = make_generator("compact", num_filters=8, num_blocks=1)
    save_model(tmp_path/"run"/"model.safetensors", net)
    assert torch.equal(result(load_model(tmp_path/"run")), result(net))
    assert torch.equal(result(load_model(str(tmp_path/"run"))), result(net))
    monkeypatch.setattr(weights, "packaged_models", lambda: dict(tiny=tmp_path/"run"/"model.safetensors"))
    assert load_model("tiny").card["file"] == "model.safetensors"
    with pytest.raises(FileNotFoundError, match="packaged models are tiny"): load_model("tinny")


def test_wrong_names_are_answered(tmp_path):
    (tmp_path/"boat.png").touch()
    with pytest.raises(FileNotFoundError, match="no model 'x.pth'"): find_model("x.pth")
    with pytest.raises(FileNotFoundError, match="no model.safetensors in the folder"): find_model(tmp_path)
    with pytest.raises(ValueError, match="boat.png is no weight file"): find_model(tmp_path/"boat.png")


def test_packaged_models_load():
    for name, path in packaged_models().items():
        assert path.stat().st_size <= 3e6
        assert result(load_model(name)).shape == (1, 3, 28, 36)


# --- RRDBNet in other programs' files -------------------------------------------------------------------------------

@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_every_dialect_gives_the_same_picture(tmp_path, dialect, suffix):
    net = rrdb()
    loaded = load_model(saved(tmp_path/f"m{suffix}", in_dialect(net, dialect)))
    assert torch.equal(result(loaded), result(net))
    assert loaded.arguments == dict(num_filters=8, growth=4, num_blocks=3)
    assert "3 blocks" in loaded.card["source"] and dialect in loaded.card["source"]


@pytest.mark.parametrize("dialect", DIALECTS[:3])
def test_the_dialects_are_those_of_spandrel(dialect):
    "The test's own translation is right: spandrel reads it too."
    from spandrel.architectures.ESRGAN import ESRGANArch
    net = rrdb(num_filters=8, growth=32, num_blocks=2)
    low = torch.rand(1, 3, 7, 9, dtype=torch.float64)   # weights as wild as these cancel each other in float32
    theirs, ours = ESRGANArch().load(in_dialect(net, dialect)).model.eval().double(), net.double()
    torch.testing.assert_close(result(theirs, low), result(ours, low), rtol=1e-9, atol=1e-9)


def test_the_full_net_in_every_dialect_without_building_it():
    with torch.device("meta"): net = RRDBNet()
    for dialect in DIALECTS:
        named, arguments, recognised = rrdb_layout(in_dialect(net, dialect))
        assert (set(named), arguments, recognised) == (set(net.state_dict()), net.arguments, dialect)


WRAPPERS = {
    "params": lambda good, bad: dict(params=good), "params_ema": lambda good, bad: dict(params=bad, params_ema=good),
    "state_dict": lambda good, bad: dict(epoch=3, optimizer=dict(state={}, param_groups=[dict(lr=1e-4)]), state_dict=good),
    "module": lambda good, bad: {f"module.{key}": value for key, value in good.items()},
    "nested": lambda good, bad: dict(state_dict=dict(params_ema={f"module.{key}": value for key, value in good.items()})),
    "ema without": lambda good, bad: dict(params=good, params_ema=None),
    "averaged": lambda good, bad: {f"module.{key}": value for key, value in good.items()} | dict(n_averaged=torch.tensor(5)),
    "half": lambda good, bad: {key: value.half() for key, value in good.items()},
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers(tmp_path, dialect, wrapper):
    net, other = rrdb(), rrdb()
    if wrapper == "half": net = net.half().float()
    for parameter in other.parameters(): nn.init.zeros_(parameter)
    path = saved(tmp_path/"m.pth", WRAPPERS[wrapper](in_dialect(net, dialect), in_dialect(other, dialect)))
    loaded = load_model(path)
    assert torch.equal(result(loaded), result(net))
    assert ("EMA" in loaded.card["source"]) == (wrapper in ("params_ema", "nested"))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("key", ["conv_first.weight", "conv_hr.bias", "conv_up2.weight", "body.0.rdb1.conv1.weight",
                                 "body.1.rdb2.conv5.bias", "conv_last.weight"])
def test_a_missing_key_is_named(tmp_path, dialect, key):
    net = rrdb()
    position = list(net.state_dict()).index(key)
    state = in_dialect(net, dialect)
    state.pop(list(state)[position])
    with pytest.raises(ValueError, match=rf"m.pth.*{key} is missing"): load_model(saved(tmp_path/"m.pth", state))


@pytest.mark.parametrize("key", ["conv_first.weight", "body.1.rdb2.conv3.weight", "conv_hr.bias"])
def test_a_wrong_shape_is_named(tmp_path, key):
    state = rrdb().state_dict()
    state[key] = torch.zeros(5, *state[key].shape[1:])
    with pytest.raises(ValueError, match=rf"{key} is 5.*expected"): load_model(saved(tmp_path/"m.pth", state))


def test_broken_numbers_are_named(tmp_path):
    state = rrdb().state_dict()
    state["body.1.rdb2.conv3.weight"][0, 0, 0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"no finite numbers in body.1.rdb2.conv3.weight"): load_model(saved(tmp_path/"m.pth", state))


def test_a_net_with_more_layers_is_not_taken_for_an_rrdbnet(tmp_path):
    state = rrdb(growth=32).state_dict() | {"body.0.attention.weight": torch.zeros(8)}
    with pytest.raises(UnsupportedModel, match="1 tensors that it has no place for"): load_model(saved(tmp_path/"m.pth", state))


# --- everybody else's ---------------------------------------------------------------------------------------------

def unshuffled(factor):
    "BasicSR's RRDBNet for smaller scales: the picture is unshuffled before the first convolution."
    net = rrdb(growth=32, num_blocks=1)
    net.conv_first = nn.Conv2d(3*factor*factor, 8, 3, padding=1)
    return net


@pytest.mark.parametrize("factor,scale", [(2, 2), (4, 1)])
def test_relatives_of_rrdbnet_go_to_spandrel(tmp_path, factor, scale):
    net = unshuffled(factor).eval()
    loaded = load_model(saved(tmp_path/"m.pth", net.state_dict()))
    low = torch.rand(1, 3, 8, 12)
    assert (loaded.scale, loaded.context) == (scale, 64*factor)
    exact = low.double()   # weights as wild as these cancel each other in float32
    torch.testing.assert_close(result(loaded.double(), exact), result(net.double(), nn.functional.pixel_unshuffle(exact, factor)), rtol=1e-9, atol=1e-9)
    loaded.float()
    assert result(loaded, low[..., :7, :5]).shape == (1, 3, 7*scale, 5*scale)


def test_esrgan_for_2x_in_the_first_layout_goes_to_spandrel(tmp_path):
    state = in_dialect(rrdb(growth=32, num_blocks=1), "first ESRGAN")
    for old, new in (("model.6", None), ("model.8", "model.5"), ("model.10", "model.7")):
        for kind in ("weight", "bias"):
            value = state.pop(f"{old}.{kind}")
            if new: state[f"{new}.{kind}"] = value
    assert load_model(saved(tmp_path/"m.pth", state)).scale == 2


def test_esrgan_for_2x_without_the_second_doubling_goes_to_spandrel(tmp_path):
    state = in_dialect(rrdb(growth=32, num_blocks=1), "ESRGAN")
    for kind in ("weight", "bias"): del state[f"upconv2.{kind}"]
    assert load_model(saved(tmp_path/"m.pth", state)).scale == 2


def srvgg(scale=4, convs=2, filters=8, channels=3):
    layers = [nn.Conv2d(channels, filters, 3, padding=1), nn.PReLU(filters)]
    for _ in range(convs): layers += [nn.Conv2d(filters, filters, 3, padding=1), nn.PReLU(filters)]
    net = nn.Sequential(*layers, nn.Conv2d(filters, channels*scale*scale, 3, padding=1))
    return {f"body.{key}": value for key, value in net.state_dict().items()}


def test_a_foreign_net_keeps_our_promise(tmp_path):
    torch.manual_seed(0)
    state = srvgg()
    state["body.6.bias"] += 3
    net = load_model(saved(tmp_path/"m.pth", dict(params=state)))
    assert (net.scale, net.context, net.training) == (4, 4, False)
    assert "Compact" in net.card["source"] and net.card["file"] == "m.pth"
    low = torch.rand(2, 3, 5, 1, requires_grad=True)
    sr = net(low)
    assert sr.shape == (2, 3, 20, 4) and sr.max() > 1.5    # any size, not clamped
    sr.mean().backward()                                   # and it can be trained further
    assert low.grad.any()


def test_foreign_nets_equal_spandrel_but_for_the_clamp(tmp_path):
    import spandrel
    torch.manual_seed(0)
    state = srvgg()
    low = torch.rand(1, 3, 6, 6)
    expected = spandrel.MAIN_REGISTRY.load(dict(state))(low)
    assert torch.equal(result(load_model(saved(tmp_path/"m.pth", state)), low).clamp(0, 1), expected)


def test_sizes_that_a_foreign_net_refuses_are_filled_up():
    "A stand-in that insists on sides of 8 and doubles its input."
    from types import SimpleNamespace
    from spandrel import SizeRequirements

    class Picky(nn.Module):
        def forward(self, x):
            if x.shape[-1] % 8 or x.shape[-2] % 8: raise RuntimeError("sides must divide by 8")
            return x.repeat_interleave(2, -1).repeat_interleave(2, -2)

    found = SimpleNamespace(model=Picky(), scale=2, size_requirements=SizeRequirements(multiple_of=8),
                            architecture=SimpleNamespace(id="Picky"), _call_fn=lambda model, image: model(image))
    low = torch.rand(1, 3, 13, 1)
    assert ForeignNet(found).step == 8   # the tiles of the engine begin at its multiples
    assert torch.equal(ForeignNet(found)(low), low.repeat_interleave(2, -1).repeat_interleave(2, -2))


def test_grey_nets_are_answered(tmp_path):
    with pytest.raises(UnsupportedModel, match="from 1 to 1 channels, expected a net from RGB to RGB"):
        load_model(saved(tmp_path/"m.pth", srvgg(channels=1)))


def test_a_net_that_spandrel_mistakes_is_answered(tmp_path):
    state = srvgg()
    state["body.2.weight"] = torch.zeros(3, 8, 3, 3)
    with pytest.raises(UnsupportedModel, match="looks like a network that spandrel knows"): load_model(saved(tmp_path/"m.pth", state))


@pytest.mark.shared
@pytest.mark.parametrize("name,context", [("realesr_general_x4v3", 34), ("realesr_animevideov3", 18)])
def test_shared_checkpoints_upscale(data, name, context):
    "They were trained on pictures: a smooth ramp stays a smooth ramp."
    net = load_model(data.parent/"weights"/f"{name}.safetensors")
    assert (net.scale, net.context) == (4, context)
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    low = torch.linspace(0.2, 0.8, 24).expand(1, 3, 20, 24)
    expected = nn.functional.interpolate(low, scale_factor=4, mode="bilinear")
    assert (result(net, low) - expected).abs().mean() < 0.03


@pytest.mark.shared
@pytest.mark.parametrize("name,key", [("RFDN_AIM_x4", "fea_conv.weight"), ("SPAN_x4_team00", "conv_1.eval_conv.weight"),
                                      ("IMDN_x4", "IMDB1.c1.weight")])
def test_shared_checkpoints_that_nobody_knows(data, name, key):
    with pytest.raises(UnsupportedModel) as caught: load_model(data.parent/"weights"/f"{name}.pth")
    message = str(caught.value)
    assert f"{name}.pth" in message and key in message and "Supported are" in message and "SwinIR" in message
    assert len(message) < 700


# --- foreign nets that we train -----------------------------------------------------------------------------------

FRESH = dict(
    Compact=dict(num_feat=8, num_conv=1), SPAN=dict(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=4),
    OmniSR=dict(num_feat=16, res_num=1, up_scale=4), RCAN=dict(n_resgroups=1, n_resblocks=1, n_feats=16, scale=4),
    SwinIR=dict(upscale=4, img_size=64, window_size=8, depths=[2], embed_dim=12, num_heads=[2], upsampler="pixelshuffle"))


def fresh(name, **changes):
    torch.manual_seed(0)
    return getattr(importlib.import_module(f"spandrel.architectures.{name}"), name)(**(FRESH[name] | changes))


def spread(net):
    "A copy with every weight moved a little, so that nothing is left at a neutral beginning."
    net = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in net.parameters(): parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return net


@pytest.mark.parametrize("name", FRESH)
def test_foreign_nets_train_in_a_learner_and_are_kept(tmp_path, name):
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner
    module = fresh(name)
    net = foreign_net(module)
    assert net.net is module and net.training and "4x through spandrel" in net.card["source"]
    pairs = [(torch.rand(3, 12, 16)*0.2 + 0.7, torch.full((3, 48, 64), 0.4))]*4
    with torch.no_grad(): before = nn.functional.l1_loss(copy.deepcopy(net)(pairs[0][0][None]), pairs[0][1][None])
    learn = Learner(DataLoaders(DataLoader(pairs, bs=2), DataLoader(pairs, bs=2)), net, loss_func=nn.functional.l1_loss, lr=1e-3)
    with learn.no_logging(): learn.fit(3)
    with torch.no_grad(): assert nn.functional.l1_loss(copy.deepcopy(net).train()(pairs[0][0][None]), pairs[0][1][None]) < 0.98*before
    twin = copy.deepcopy(learn.model)
    twin.load_state_dict(learn.model.state_dict())
    save_model(tmp_path/"m.safetensors", twin, dict(recipe="l1", step=4))
    again = load_model(tmp_path/"m.safetensors")
    assert torch.equal(result(again), result(twin.eval())) and torch.equal(result(again), result(net.eval()))
    assert (type(again), again.training, again.scale, again.context, again.step) == (ForeignNet, False, net.scale, net.context, net.step)
    assert again.card == dict(recipe="l1", step=4, file="m.safetensors", source=net.card["source"])
    save_model(tmp_path/"n.safetensors", again, dict(recipe="l1", step=4))
    assert torch.equal(result(load_model(tmp_path/"n.safetensors")), result(again))


@pytest.mark.parametrize("name", FRESH)
def test_a_loaded_foreign_net_gives_every_layer_a_gradient(tmp_path, name):
    net = load_model(saved(tmp_path/"m.pth", spread(fresh(name)).state_dict())).train()
    net(torch.rand(2, 3, 9, 11)).square().mean().backward()
    without = [key for key, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert all("eval_conv" in key for key in without) and (not without or name == "SPAN")   # SPAN computes those from the others


@pytest.mark.parametrize("name", FRESH)
def test_a_file_of_a_foreign_net_is_anybodys(tmp_path, name):
    "Bare keys, and spandrel's own loader opens it."
    import spandrel
    net = spread(foreign_net(fresh(name)))
    save_model(tmp_path/"m.safetensors", net)
    assert set(load_file(tmp_path/"m.safetensors")) == set(net.net.state_dict())
    low = torch.rand(1, 3, 16, 16)
    expected = spandrel.ModelLoader().load_from_file(tmp_path/"m.safetensors")(low.clone())
    torch.testing.assert_close(result(net.eval(), low).clamp(0, 1), expected)


@pytest.mark.parametrize("name", FRESH)
def test_wrapping_and_saving_disturb_nothing(tmp_path, name):
    module = fresh(name)
    next(module.children()).eval()   # as where a part is frozen
    state, numbers = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    modes = [part.training for part in module.modules()]
    net = foreign_net(module)
    save_model(tmp_path/"m.safetensors", net)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert [part.training for part in module.modules()] == modes
    assert all(torch.equal(state[key], value) for key, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_a_net_that_writes_into_its_input_gets_a_copy(training):
    "spandrel's RCAN multiplies what it is given by 255, in place."
    net, low = foreign_net(fresh("RCAN")).train(training), torch.rand(1, 3, 8, 8)
    before = low.clone()
    net(low).mean().backward()
    assert torch.equal(low, before)
    net(low.requires_grad_()).mean().backward()
    assert low.grad.any()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_shared_and_scattered_tensors_of_a_foreign_net_are_kept(tmp_path, layout):
    module = fresh("Compact", num_conv=3)
    module.body[4].weight = module.body[2].weight
    module.body[6].weight.data = module.body[6].weight.data.transpose(0, 1)
    module.to(memory_format=layout)
    net = foreign_net(module)
    save_model(tmp_path/"m.safetensors", net)
    assert torch.equal(result(load_model(tmp_path/"m.safetensors")), result(net.to(memory_format=torch.contiguous_format).eval()))


def test_half_precision_foreign_nets_become_float32(tmp_path):
    net = foreign_net(fresh("Compact").half())
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    save_model(tmp_path/"m.safetensors", copy.deepcopy(net).to(torch.bfloat16))
    assert torch.equal(result(load_model(tmp_path/"m.safetensors")), result(net.to(torch.bfloat16).float()))


def test_a_wrapped_net_is_not_wrapped_twice():
    net = foreign_net(fresh("Compact"))
    assert foreign_net(net) is net


def test_the_context_of_a_foreign_net_travels(tmp_path):
    net = foreign_net(fresh("SPAN"))
    net.context = 21
    save_model(tmp_path/"m.safetensors", net)
    assert load_model(tmp_path/"m.safetensors").context == 21


def test_nets_that_are_none_of_spandrels_are_answered():
    with pytest.raises(UnsupportedModel, match="this Conv2d holds a network that is not known.*weight, bias"): foreign_net(nn.Conv2d(3, 3, 1))
    with pytest.raises(UnsupportedModel, match="this SRVGGNetCompact holds .* from 1 to 1 channels, expected a net from RGB to RGB"):
        foreign_net(fresh("Compact", num_in_ch=1, num_out_ch=1))
    with pytest.raises(UnsupportedModel, match="img_range=1.0 is not 255.0.*takes for granted"): foreign_net(fresh("SPAN", img_range=1.0))
    with pytest.raises(UnsupportedModel, match="paints another picture"):
        foreign_net(Lookalike(fresh("Compact").body))


class Lookalike(nn.Module):
    "The keys of a Compact, and another way to use them: without the enlarged input below."
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        for layer in self.body: x = layer(x)
        return nn.functional.pixel_shuffle(x, 4)


def test_wrapped_foreign_nets_are_answered(tmp_path):
    module = fresh("Compact")
    with pytest.raises(UnsupportedModel, match=r"this DataParallel names its weights otherwise \(module.body.0.weight.*bare net"):
        foreign_net(nn.DataParallel(module))
    with pytest.raises(UnsupportedModel, match="names its weights otherwise.*bare net"):
        foreign_net(make_generator("rrdbnet", num_filters=8, num_blocks=1))
    for net in (nn.DataParallel(foreign_net(module)), module, WrappedNet(module, scale=4, context=3)):
        with pytest.raises(ValueError, match="none of our generators.*`foreign_net` made, unwrapped"): save_model(tmp_path/"m.safetensors", net)
    assert not list(tmp_path.iterdir())


def test_a_foreign_net_that_could_not_be_brought_back_is_not_saved(tmp_path):
    net = foreign_net(fresh("SPAN"))
    net.net.img_range = 1.0
    with pytest.raises(UnsupportedModel, match="this SPAN paints another picture"): save_model(tmp_path/"m.safetensors", net)
    net = foreign_net(fresh("Compact"))
    net.net.gate = nn.Conv2d(3, 3, 1)
    with pytest.raises(UnsupportedModel, match="looks like a network that spandrel knows, but does not load"):
        save_model(tmp_path/"m.safetensors", net)
    net = foreign_net(fresh("Compact"))
    net.net = nn.Conv2d(3, 3, 1)
    with pytest.raises(UnsupportedModel, match="not known"): save_model(tmp_path/"m.safetensors", net)
    assert not list(tmp_path.iterdir())


def test_a_foreign_file_with_lost_tensors_is_answered(tmp_path):
    save_model(tmp_path/"m.safetensors", foreign_net(fresh("Compact")))
    with safe_open(tmp_path/"m.safetensors", "pt") as file: header = file.metadata()
    assert json.loads(header["paintsr_nb"])["arguments"] == dict(architecture="Compact")
    save_file(dict(list(load_file(tmp_path/"m.safetensors").items())[:2]), tmp_path/"m.safetensors", metadata=header)
    with pytest.raises(UnsupportedModel, match="m.safetensors (holds|looks)"): load_model(tmp_path/"m.safetensors")


# --- files that are no weights ------------------------------------------------------------------------------------

class Trap:
    def __reduce__(self): return os.system, ("touch trapped",)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("boxed", [True, False])
def test_pickles_with_code_are_refused(tmp_path, monkeypatch, protocol, boxed):
    monkeypatch.chdir(tmp_path)
    value = dict(params=dict(weight=Trap())) if boxed else Trap()
    torch.save(value, tmp_path/"m.pth", pickle_protocol=protocol)
    (tmp_path/"n.pt").write_bytes(pickle.dumps(value, protocol=protocol))
    for name in ("m.pth", "n.pt"):
        with pytest.raises(ValueError, match="refused|damaged") as caught: load_model(tmp_path/name)
        assert "weights_only" not in str(caught.value)    # PyTorch's advice to read it unsafely is not passed on
        assert caught.value.__suppress_context__
    assert not (tmp_path/"trapped").exists()


def test_a_refused_file_names_what_it_asked_for(tmp_path):
    torch.save(dict(params=Trap()), tmp_path/"m.pth")
    with pytest.raises(ValueError, match=r"m.pth asks for \w+.system to be called"): load_model(tmp_path/"m.pth")


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("content", ["empty", "text", "zeros", "half", "picture"])
def test_broken_files(tmp_path, suffix, content):
    path = saved(tmp_path/f"m{suffix}", rrdb(num_blocks=1).state_dict())
    whole = path.read_bytes()
    contents = dict(empty=b"", text=b"hello, here is no network", zeros=bytes(1000), half=whole[:len(whole)//2],
                    picture=b"\x89PNG\r\n\x1a\n" + bytes(99))
    path.write_bytes(contents[content])
    with pytest.raises(ValueError, match=rf"m{suffix} is damaged, or no .* file.*again"): load_model(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_flipped_bytes_are_an_answer_or_a_net(tmp_path, suffix):
    whole = saved(tmp_path/f"m{suffix}", srvgg()).read_bytes()
    draw = np.random.default_rng(0)
    for _ in range(40):
        broken = bytearray(whole)
        for place in draw.integers(0, min(len(whole), 700), size=6): broken[place] = draw.integers(256)
        (tmp_path/f"m{suffix}").write_bytes(broken)
        try: load_model(tmp_path/f"m{suffix}")
        except ValueError as error: assert f"m{suffix}" in str(error)


@pytest.mark.parametrize("start,match", [("version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
                                         ("<!DOCTYPE html><html>", "is a web page"), ("\n<html>", "is a web page")])
def test_what_comes_instead_of_a_download(tmp_path, start, match):
    (tmp_path/"m.pth").write_text(start)
    with pytest.raises(ValueError, match=match): load_model(tmp_path/"m.pth")


@pytest.mark.parametrize("value", [[1, 2], torch.zeros(3), {}, dict(epoch=3), dict(state_dict={}), {0: torch.zeros(3)}])
def test_files_without_a_state_dict(tmp_path, value):
    torch.save(value, tmp_path/"m.pth")
    with pytest.raises(UnsupportedModel, match="m.pth holds"): load_model(tmp_path/"m.pth")


def test_torchscript_is_refused(tmp_path):
    with pytest.warns(FutureWarning): torch.jit.script(nn.Linear(2, 2)).save(tmp_path/"m.pt")
    with pytest.raises(ValueError, match="is a TorchScript program, and is refused"): load_model(tmp_path/"m.pt")
