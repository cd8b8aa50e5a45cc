"What the page of the generators does not show: equality with spandrel, exact contexts, gradients, copies and wrappers."
import copy

import pytest
import torch
from torch import nn

from paintsr_nb.nets.generators import GENERATORS, Compact, Generator, RRDBNet, SRResNet, WrappedNet, check_generator, make_generator

SMALL = dict(compact=dict(num_filters=8, num_blocks=2), srresnet=dict(num_filters=8, num_blocks=2),
             rrdbnet=dict(num_filters=8, growth=4, num_blocks=2))


def small(name):
    torch.manual_seed(0)
    return make_generator(name, **SMALL[name]).eval()


def loud(net):
    "The same net with weights of a size that lets far pixels matter."
    for module in net.modules():
        if isinstance(module, nn.Conv2d): nn.init.kaiming_normal_(module.weight)
    return net


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("height,width", [(1, 1), (1, 7), (5, 3), (16, 16)])
def test_any_size_becomes_four_times_as_large(name, height, width):
    with torch.no_grad(): assert small(name)(torch.rand(2, 3, height, width)).shape == (2, 3, 4*height, 4*width)


def test_every_small_net_is_tested():
    assert set(SMALL) == set(GENERATORS)


@pytest.mark.parametrize("name,count", [("rrdbnet", 16_697_987), ("srresnet", 1_549_462)])
def test_published_sizes(name, count):
    with torch.device("meta"): net = make_generator(name)
    assert sum(parameter.numel() for parameter in net.parameters()) == count


def test_rrdbnet_has_23_blocks_or_as_many_as_asked_for():
    with torch.device("meta"): nets = [make_generator("rrdbnet"), make_generator("rrdbnet", num_blocks=16)]
    assert [(net.arch, len(net.body), net.arguments["num_blocks"]) for net in nets] == [("rrdbnet", 23, 23), ("rrdbnet", 16, 16)]


@pytest.mark.parametrize("name", GENERATORS)
def test_arguments_make_the_same_net_again(name):
    net = small(name)
    again = make_generator(net.arch, **net.arguments)
    again.load_state_dict(net.state_dict())
    assert (again.arch, again.scale, again.context) == (name, 4, net.context)


@pytest.mark.parametrize("net", [Compact, SRResNet, RRDBNet])
def test_a_net_made_without_the_table_has_a_name_of_the_table(net):
    with torch.device("meta"): assert type(make_generator(net().arch)) is net


@pytest.mark.parametrize("num_blocks", [1, 3])
def test_rrdbnet_equals_spandrel(num_blocks):
    "spandrel fixes the growth at 32; everything else is free."
    from spandrel.architectures.ESRGAN import ESRGANArch
    torch.manual_seed(0)
    net = loud(RRDBNet(num_filters=16, growth=32, num_blocks=num_blocks)).eval()
    for parameter in net.parameters():
        if parameter.ndim == 1: nn.init.normal_(parameter, std=0.1)
    other = ESRGANArch().load(dict(net.state_dict())).model.eval()
    low = torch.rand(2, 3, 9, 13)
    with torch.no_grad(): torch.testing.assert_close(net(low), other(low), rtol=1e-5, atol=1e-5)


def test_rrdbnet_begins_small():
    torch.manual_seed(0)
    net = RRDBNet(num_filters=64, growth=32, num_blocks=1)
    conv = net.body[0].rdb2.conv3
    expected = 0.1*(2/(conv.in_channels*9))**0.5
    assert conv.weight.std().item() == pytest.approx(expected, rel=0.05)
    assert not conv.bias.any()
    assert net.conv_first.weight.std().item() > 0.05   # the layers outside the blocks begin as PyTorch makes them


def test_every_convolution_of_the_blocks_begins_small():
    torch.manual_seed(0)
    for conv in (module for module in RRDBNet(num_blocks=2).body.modules() if isinstance(module, nn.Conv2d)):
        assert conv.weight.std().item() == pytest.approx(0.1*(2/(conv.in_channels*9))**0.5, rel=0.03)
        assert not conv.bias.any()


def test_srresnet_begins_as_pytorch_makes_it():
    "Uniform within 1/sqrt(fan in), whose spread is that by sqrt(3); batch norm at one and zero, PReLU at a quarter."
    torch.manual_seed(0)
    for module in SRResNet(num_blocks=2).modules():
        if isinstance(module, nn.Conv2d):
            bound = module.weight[0].numel()**-0.5
            assert module.weight.abs().max() <= bound and module.weight.std().item() == pytest.approx(bound/3**0.5, rel=0.03)
        if isinstance(module, nn.BatchNorm2d): assert (module.weight == 1).all() and not module.bias.any()
        if isinstance(module, nn.PReLU): assert module.weight.item() == 0.25


@pytest.mark.parametrize("name,slack", [("compact", 0), ("srresnet", 0), ("rrdbnet", 16)])
def test_context_is_how_far_a_pixel_looks(name, slack):
    "Exactly, but for RRDBNet: the last pixels of its reach come through thirty small factors and drown in rounding."
    net = loud(small(name)).double()
    side = 2*net.context + 33
    low = torch.rand(1, 3, 1, side, dtype=torch.double)
    moved = low.clone()
    moved[..., side//2] += 1
    with torch.no_grad(): change = (net(moved) - net(low)).abs().amax((0, 1, 2))
    reached = (change > 1e-14*change.max()).reshape(side, 4).any(1).nonzero().flatten() - side//2
    reach = reached.abs().max().item()
    assert net.context - slack <= reach <= net.context


@pytest.mark.parametrize("name", GENERATORS)
def test_a_crop_with_its_context_equals_the_whole(name):
    net, half = small(name), 4
    c = net.context
    low = torch.rand(1, 3, 2*c + 20, 2*c + 20)
    with torch.no_grad(): whole, part = net(low), net(low[..., 3:3 + 2*c + 2*half, 5:5 + 2*c + 2*half])
    inner = part[..., 4*c:-4*c, 4*c:-4*c]
    top, left = 4*(3 + c), 4*(5 + c)
    torch.testing.assert_close(inner, whole[..., top:top + 8*half, left:left + 8*half], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", GENERATORS)
def test_every_parameter_gets_a_gradient(name):
    net = small(name).train()
    net(torch.rand(2, 3, 8, 8)).square().mean().backward()
    assert [key for key, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()] == []


@pytest.mark.parametrize("name", GENERATORS)
def test_nothing_is_clamped(name):
    net = small(name)
    nn.init.constant_(net.conv_last.bias, 9)
    with torch.no_grad(): assert net(torch.rand(1, 3, 8, 8)).max() > 2


def test_compact_begins_as_a_bilinear_enlargement_and_learns_the_rest():
    net = small("compact")
    nn.init.zeros_(net.conv_last.weight)
    nn.init.zeros_(net.conv_last.bias)
    low = torch.rand(1, 3, 6, 7)
    expected = nn.functional.interpolate(low, scale_factor=4, mode="bilinear", align_corners=False)
    with torch.no_grad(): assert torch.equal(net(low), expected)


def test_wrong_names_and_arguments_are_answered():
    with pytest.raises(ValueError, match="choose one of compact"): make_generator("rrdb")
    with pytest.raises(TypeError, match="nf"): make_generator("rrdbnet", nf=64)


@pytest.mark.parametrize("name", GENERATORS)
def test_copies_and_processes_leave_the_promise_and_the_keys_alone(name):
    net = small(name)
    net.context, net.card = 3, dict(source="here")
    twin = copy.deepcopy(net)
    assert (type(twin), twin.arch, twin.scale, twin.context, twin.step, twin.card) == (type(net), name, 4, 3, 1, dict(source="here"))
    twin.card["source"] = "there"
    assert net.card == dict(source="here")
    other = small(name)
    other.card["source"] = "there"
    assert small(name).card == {}   # no two nets share a dict
    assert list(twin.state_dict()) == list(net.weights())
    assert set(net.state_dict()) == {key for key, _ in [*net.named_parameters(), *net.named_buffers()]}


def test_several_processes_wrap_a_generator(tmp_path):
    "As one process of one: the keys get the usual prefix, the gradient arrives, and what is inside is the generator."
    import torch.distributed as dist
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        net = small("compact").train()
        wrapped = nn.parallel.DistributedDataParallel(net)
        wrapped(torch.rand(2, 3, 8, 8)).mean().backward()
        assert list(wrapped.state_dict()) == [f"module.{key}" for key in net.state_dict()] and net.conv_last.weight.grad.any()
        assert check_generator(wrapped.module) is net
        with pytest.raises(TypeError, match="a DistributedDataParallel around a generator is no Generator: give what is inside, `net.module`"):
            check_generator(wrapped)
    finally: dist.destroy_process_group()


@pytest.mark.parametrize("sizes", (dict(scale=0), dict(scale=2.0), dict(context=-1), dict(context=None), dict(step=0)))
def test_a_promise_that_cannot_be_kept_is_answered(sizes):
    (name, value), = sizes.items()
    with pytest.raises(ValueError, match=f"{name}={value}, expected a whole number of {0 if name == 'context' else 1} or more"):
        WrappedNet(nn.Identity(), **dict(scale=4, context=0) | sizes)


def test_a_module_with_the_right_attributes_is_no_generator_yet():
    module = nn.Conv2d(3, 48, 3)
    module.scale, module.context, module.arch = 4, 1, "compact"
    with pytest.raises(TypeError, match=r"a Conv2d is no Generator: wrap it, `WrappedNet\(net, scale=4, context=64\)`"): check_generator(module)
    assert isinstance(check_generator(WrappedNet(module, scale=4, context=1)), Generator)
