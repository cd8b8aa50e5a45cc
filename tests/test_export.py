"Nets for other programs, and lists of weight files: what reads them must agree, and what cannot be done is said."
import hashlib
import importlib
import json
import sys

import numpy as np
import pytest
import spandrel
import torch
from safetensors import safe_open
from torch import nn

from paintsr_nb.nets.export import export_onnx, export_safetensors
from paintsr_nb.nets.foreign import foreign_net, load_model
from paintsr_nb.nets.generators import Generator, make_generator
from paintsr_nb.nets.listing import list_models, model_facts
from paintsr_nb.nets.weights import save_model
from paintsr_nb.nets.zoo import ZOO, ZooModel
from paintsr_nb.upscaling.engine import Upscaler
from paintsr_nb.upscaling.refine import Ensemble, Rescaled

pytestmark = pytest.mark.usefixtures("one_thread")


def spread(net):
    "Weights that matter everywhere, and a result within 0-1 for the most part."
    torch.manual_seed(0)
    for name, parameter in net.named_parameters():
        if parameter.ndim > 1: nn.init.normal_(parameter, std=0.3/parameter[0].numel()**0.5)
    return net.eval()


def ours(name, **arguments): return lambda: spread(make_generator(name, **arguments))


def spandrels(name, **arguments):
    return lambda: spread(foreign_net(getattr(importlib.import_module(f"spandrel.architectures.{name}"), name)(**arguments)))


NETS = {
    "compact": ours("compact", num_filters=8, num_blocks=2), "compact_2x": ours("compact", num_filters=8, num_blocks=1, scale=2),
    "srresnet": ours("srresnet", num_filters=8, num_blocks=2), "rrdbnet": ours("rrdbnet", num_filters=8, growth=4, num_blocks=1),
    "foreign": spandrels("Compact", num_feat=8, num_conv=2),
    "ensemble": lambda: Ensemble(ours("compact", num_filters=8, num_blocks=1)()),
    "rescaled": lambda: Rescaled(ours("compact", num_filters=8, num_blocks=1)(), 3)}


# --- ONNX ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", NETS)
def test_onnxruntime_paints_the_same_picture_at_any_size(tmp_path, name):
    for module in ("onnx", "onnxscript", "onnxruntime"): pytest.importorskip(module)
    import onnxruntime
    net = NETS[name]()
    export_onnx(tmp_path/"m.onnx", net)
    session = onnxruntime.InferenceSession(str(tmp_path/"m.onnx"), providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 1, 1), (1, 3, 31, 7), (3, 3, 12, 40)):
        low = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad(): expected = net(low).clamp(0, 1)*255
        found = torch.tensor(session.run(["sr"], dict(low=low.numpy()))[0]).clamp(0, 1)*255
        assert found.shape == expected.shape and (found - expected).abs().max() < 0.1
    facts = session.get_modelmeta().custom_metadata_map
    assert (facts["scale"], facts["context"]) == (str(net.scale), str(net.context))
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_an_export_leaves_the_net_as_it_is(tmp_path):
    pytest.importorskip("onnxscript")
    net = ours("compact", num_filters=8, num_blocks=1)().train()
    export_onnx(tmp_path/"m.onnx", net)
    assert net.training and all(parameter.requires_grad for parameter in net.parameters())


def test_what_onnxruntime_paints_otherwise_is_not_kept(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    from paintsr_nb.nets import export

    class Wrong(Generator):
        "Doubles what a fixed size allows: right at the size of the export only."
        def __init__(self): super().__init__(scale=1, context=0)
        def forward(self, x): return x*(1 + torch.arange(x.shape[-1])[-1]*0 + (x.shape[-1] == 22))

    with pytest.raises(ValueError, match="cannot be written as ONNX for any size|onnxruntime paints"): export.export_onnx(tmp_path/"m.onnx", Wrong())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_extra_it_is_named(tmp_path, monkeypatch, missing):
    for name in ("onnx", "onnxscript", "onnxruntime"): monkeypatch.setitem(sys.modules, name, None if name == missing else sys)
    with pytest.raises(ImportError, match=rf"needs {missing}: pip install paintsr_nb\[onnx\]"): export_onnx(tmp_path/"m.onnx", NETS["compact"]())


# --- safetensors for spandrel -------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments", [dict(num_filters=8, growth=32, num_blocks=2), dict(num_filters=16, growth=32, num_blocks=1)])
def test_spandrel_loads_our_rrdbnet(tmp_path, arguments):
    net = ours("rrdbnet", **arguments)()
    export_safetensors(tmp_path/"m.safetensors", net)
    found = spandrel.ModelLoader().load_from_file(tmp_path/"m.safetensors")
    low = torch.rand(1, 3, 16, 24)
    with torch.no_grad(): torch.testing.assert_close(found(low), net(low).clamp(0, 1), rtol=1e-4, atol=1e-5)
    assert found.architecture.id == "ESRGAN" and found.scale == 4
    with safe_open(tmp_path/"m.safetensors", "pt") as file: assert "paintsr_nb" not in file.metadata()
    assert load_model(tmp_path/"m.safetensors").arguments == net.arguments   # and it comes home again


@pytest.mark.parametrize("name,arguments", [
    ("SPAN", dict(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=4)), ("Compact", dict(num_feat=8, num_conv=1)),
    ("SwinIR", dict(upscale=4, img_size=64, window_size=8, depths=[2], embed_dim=12, num_heads=[2], upsampler="pixelshuffle"))])
def test_foreign_nets_go_back_to_where_they_came_from(tmp_path, name, arguments):
    net = spandrels(name, **arguments)()
    export_safetensors(tmp_path/"m.safetensors", net)
    assert spandrel.ModelLoader().load_from_file(tmp_path/"m.safetensors").architecture.id == name


@pytest.mark.parametrize("name", ["compact", "srresnet", "ensemble", "rrdbnet"])   # this rrdbnet has growth=4
def test_what_spandrel_does_not_know_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="has no place for a .* export it as .onnx, or train an rrdbnet"): export_safetensors(tmp_path/"m.safetensors", NETS[name]())
    assert not list(tmp_path.iterdir())


# --- any scale, any suffix ----------------------------------------------------------------------------------------

def chain(scale):
    layers = [nn.Conv2d(3, 8, 3), nn.PReLU(8), nn.Conv2d(8, 8, 3), nn.PReLU(8), nn.Conv2d(8, 3*scale*scale, 3)]
    return {f"body.{key}": value for key, value in nn.Sequential(*layers).state_dict().items()}


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".ckpt"])
def test_community_nets_of_any_scale_upscale_in_tiles(tmp_path, scale, suffix):
    from safetensors.torch import save_file
    path = tmp_path/f"m{suffix}"
    save_file(chain(scale), path) if suffix == ".safetensors" else torch.save(dict(params=chain(scale)), path)
    low = np.random.default_rng(0).integers(256, size=(19, 26, 3), dtype=np.uint8)
    whole, tiled = (Upscaler(path, tile=tile, precise=True)(low).astype(int) for tile in (100, 9))
    assert whole.shape == (19*scale, 26*scale, 3) and np.abs(whole - tiled).max() <= 1
    assert model_facts(path)["scale"] == scale


# --- lists --------------------------------------------------------------------------------------------------------

def test_the_licence_is_known_by_the_bytes(tmp_path, monkeypatch):
    save_model(tmp_path/"renamed.safetensors", make_generator("compact", num_filters=8, num_blocks=1))
    content = (tmp_path/"renamed.safetensors").read_bytes()
    monkeypatch.setitem(ZOO, "x", ZooModel("http://x/y", hashlib.sha256(content).hexdigest(), len(content), "MIT", ""))
    assert model_facts(tmp_path/"renamed.safetensors")["licence"] == "MIT"
    monkeypatch.setitem(ZOO, "x", ZooModel("http://x/y", "0"*64, len(content), "MIT", ""))
    assert model_facts(tmp_path/"renamed.safetensors")["licence"] == ""


def test_a_run_counts_once_and_what_is_broken_has_a_reason(tmp_path):
    save_model(tmp_path/"run"/"model.safetensors", make_generator("compact", num_filters=8, num_blocks=1))
    (tmp_path/"run"/"checkpoint.pth").write_bytes(b"x")
    assert len(list_models([tmp_path/"run"])) == 1
    table = list_models([tmp_path])   # the folder above is no run
    assert table.problem.ne("").tolist() == [True, False] and "checkpoint.pth" in table.problem[0]
    json.dumps(table.to_dict("records"))


@pytest.mark.shared
def test_shared_checkpoints_have_their_facts(data):
    table = list_models([data.parent/"weights"]).set_index("model")
    row = table[[str(name).endswith("realesr_general_x4v3.safetensors") for name in table.index]].iloc[0]
    assert (row.scale, row.parameters, row.context) == (4, 1_213_296, 34)
    assert sum("not known" in problem for problem in table.problem) == 3
