"""The engine: products of sizes, nets that fail, what it leaves alone.

Tests named `row_NN` are rows of `users.md`, table 1; 17 to 22 are in test_gigapixel.py, too."""
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from paintsr_nb.core import list_pictures
from paintsr_nb.nets.generators import Generator, make_generator
from paintsr_nb.nets import modes
from paintsr_nb.nets.modes import MODES, PRECISE, Mode, ModeCost, best_mode, measure_modes
from paintsr_nb.nets.weights import save_model
from paintsr_nb.picture import read_rgb8
from paintsr_nb.resize import enlarge, shrink
from paintsr_nb.samples import samples
from paintsr_nb.upscaling import engine
from paintsr_nb.upscaling.engine import Upscaler, measure_context, upscale

pytestmark = pytest.mark.usefixtures("one_thread")   # pictures this small are slower on two
BF16 = Mode("bf16")


def cost(mode): return ModeCost(mode, seconds=1.0, db=60.0, levels=1.0)


class Repeat(Generator):
    def __init__(self, scale=4):
        super().__init__(scale, context=0)
        self.seen = []

    def forward(self, low):
        self.seen.append(tuple(low.shape[-2:]))
        return F.interpolate(low, scale_factor=float(self.scale), mode="nearest")


def noise(height, width, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(np.iinfo(dtype).max, size=(height, width, 3), dtype=dtype, endpoint=True)


def repeat(pixels, scale=4): return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def small_net(seed=0):
    "Random weights, large enough that every convolution shows at the seams."
    torch.manual_seed(seed)
    return make_generator("compact", num_filters=8, num_blocks=1).eval()


@pytest.mark.parametrize("scale", (1, 2, 3, 4))
def test_a_net_that_repeats_pixels_is_bit_exact(scale):
    for height, width, tile, dtype in itertools.product((1, 2, 17), (1, 5, 40), (1, 6, None), (np.uint8, np.uint16)):
        pixels = noise(height, width, dtype)
        sr = Upscaler(Repeat(scale), device="cpu", tile=tile, precise=True)(pixels)
        assert sr.dtype == dtype and np.array_equal(sr, repeat(pixels, scale)), (height, width, tile)


def test_row_10_tiled_equals_whole_and_less_context_does_not():
    net = small_net()
    for height, width in ((1, 1), (3, 60), (41, 33)):
        pixels = noise(height, width)
        whole = Upscaler(net, device="cpu", tile=1000, precise=True)(pixels).astype(int)
        for tile in (5, 16, 40):
            assert np.abs(Upscaler(net, device="cpu", tile=tile, precise=True)(pixels) - whole).max() <= 1, (height, width, tile)
    up = Upscaler(net, device="cpu", tile=16, precise=True)
    up.context = 0
    assert np.abs(up(pixels) - whole).max() > 1


def test_tiles_begin_at_the_blocks_of_a_net():
    class Blocks(Generator):
        "Every block of 4x4 pixels becomes one colour, so a tile that began elsewhere would show."
        def __init__(self): super().__init__(scale=4, context=0, step=4)
        def forward(self, low): return F.interpolate(F.avg_pool2d(low, 4), scale_factor=16.0, mode="nearest")

    pixels = noise(32, 44)
    whole = Upscaler(Blocks(), device="cpu", tile=1000, precise=True)(pixels)
    for tile in (5, 10, 23): assert np.array_equal(Upscaler(Blocks(), device="cpu", tile=tile, precise=True)(pixels), whole), tile


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_every_mode_gives_the_picture(mode):
    net, pixels = small_net(), noise(20, 30)
    up = Upscaler(net, device="cpu")
    up._known[up.device] = cost(mode)
    off = np.abs(up(pixels).astype(int) - Upscaler(net, device="cpu", precise=True)(pixels))
    assert off.max() <= (1 if mode.precision == "fp32" else 6) and off.mean() < 0.5


def test_row_15_only_a_tile_and_its_context_reach_the_net():
    up = Upscaler(Repeat(), device="cpu", tile=10, precise=True)
    up.context = 3
    up.net.seen.clear()
    up(noise(100, 70))
    assert len(up.net.seen) == 70 + 1   # and one run of the prediction of memory, on 64 x 4
    assert {max(shape) for shape in up.net.seen[1:]} == {13, 16} and up.net.seen[0] == (64, 4)


def test_a_module_is_left_as_it_is():
    net = small_net().train()
    net.conv_first.weight.requires_grad_(False)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    Upscaler(net, device="cpu")(noise(12, 12))
    assert net.training and net.conv_last.weight.requires_grad and not net.conv_first.weight.requires_grad
    assert not any(module._forward_hooks or "forward" in vars(module) for module in net.modules())
    assert all(torch.equal(value, before[key]) and value.is_contiguous() for key, value in net.state_dict().items())


@pytest.mark.filterwarnings("error")   # PyTorch warns of arrays that it may not write to
def test_arrays_of_any_kind_are_taken_and_never_changed():
    pixels = noise(9, 8)
    for given, tile in itertools.product((noise(9, 8), pixels[::-1, ::-1], pixels[:, :5], np.asfortranarray(pixels)), (4, 100)):
        given.setflags(write=False)
        kept = given.copy()
        assert np.array_equal(Upscaler(Repeat(), device="cpu", tile=tile, precise=True)(given), repeat(given))
        assert np.array_equal(given, kept)


@pytest.mark.parametrize("bad, error, message", (
    (np.zeros((4, 4), np.uint8), ValueError, r"shape \(4, 4\)"), (np.zeros((4, 4, 4), np.uint8), ValueError, "keep alpha apart"),
    (np.zeros((0, 4, 3), np.uint8), ValueError, "at least one pixel"), (np.zeros((4, 4, 3)), TypeError, "to_uint8"),
    (torch.zeros(4, 4, 3), TypeError, "a Tensor"), ("a.png", TypeError, "read_picture")))
def test_what_is_no_picture_is_named(bad, error, message):
    with pytest.raises(error, match=message): Upscaler(Repeat(), device="cpu")(bad)


class NaNInBF16(Repeat):
    "Overflows in half precision, and only where the picture is bright."
    def forward(self, low):
        bad = torch.is_autocast_enabled("cpu") and low.amax() > 0.99
        return super().forward(low)*(float("inf") if bad else 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="device='cuda:1': PyTorch .* can use no NVIDIA GPU here, choose 'cpu'"): Upscaler(Repeat(), "cuda:1")


def test_row_25_a_tile_that_overflows_is_computed_again_alone():
    pixels = np.full((30, 30, 3), 100, np.uint8)
    pixels[25, 25] = 255
    up = Upscaler(NaNInBF16(), device="cpu", tile=10)
    up._known[up.device] = cost(BF16)
    with pytest.warns(UserWarning, match="computed again in float32") as told: sr = up(pixels)
    assert np.array_equal(sr, repeat(pixels)) and len(told) == 1


class NaNAtTheEnd(Repeat):
    def forward(self, low): return super().forward(low)*(float("nan") if low.amax() > 0.99 else 1)


def test_row_25_a_net_that_gives_nan_gives_no_picture():
    pixels = np.full((30, 30, 3), 100, np.uint8)
    up = Upscaler(NaNAtTheEnd(), device="cpu", tile=10, precise=True)
    up(pixels)
    pixels[29, 29] = 255
    with pytest.raises(RuntimeError, match="NaNAtTheEnd gives NaN or infinity here, in float32 too"): up(pixels)


def test_16_bit_pictures_never_go_through_bfloat16():
    class Coarse(Repeat):
        def forward(self, low): return super().forward(low)*(0.9 if torch.is_autocast_enabled("cpu") else 1)

    up = Upscaler(Coarse(), device="cpu")
    up._known[up.device] = cost(BF16)
    assert np.array_equal(up(noise(10, 10, np.uint16)), repeat(noise(10, 10, np.uint16)))
    assert not np.array_equal(up(noise(10, 10)), repeat(noise(10, 10)))


class Hungry(Repeat):
    room, error = 100, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    def forward(self, low):
        if low[0, 0].numel() > self.room and low.shape[-1] != 4: raise self.error
        return super().forward(low)


@pytest.mark.filterwarnings("ignore:out of memory")
@pytest.mark.parametrize("error", (Hungry.error, MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")))
def test_row_22_tiles_are_halved_until_they_fit(error):
    pixels, net = noise(70, 70), Hungry()
    net.error, net.room = error, 400
    up = Upscaler(net, device="cpu", precise=True)
    with pytest.warns(UserWarning, match="out of memory on cpu with tiles of 70 px: going on with 35 px"): sr = up(pixels)
    assert np.array_equal(sr, repeat(pixels)) and up.tile == 17


def test_no_memory_at_all_is_one_sentence_and_other_errors_stay():
    net = Hungry()
    net.room = 0
    with pytest.warns(UserWarning), pytest.raises(RuntimeError, match="even with tiles of 14 px: close other programs"):
        Upscaler(net, device="cpu", precise=True)(noise(43, 43))
    net.error = RuntimeError("shapes do not match")
    with pytest.raises(RuntimeError, match="shapes do not match"): Upscaler(net, device="cpu", precise=True)(noise(43, 43))


def test_a_mode_that_the_net_does_not_know_is_left_out_and_one_that_is_wrong_not_taken():
    class NoBF16(Repeat):
        def forward(self, low):
            if torch.is_autocast_enabled("cpu"): raise RuntimeError("not implemented for 'BFloat16'")
            return super().forward(low)

    assert {cost.mode.precision for cost in measure_modes(NoBF16())} == {"fp32"}
    class NaN(Repeat):
        def forward(self, low): return super().forward(low)*(float("nan") if torch.is_autocast_enabled("cpu") else 1)
    wrong = measure_modes(NaN())
    assert next(cost for cost in wrong if cost.mode == BF16).levels == float("inf") and best_mode(wrong).mode.precision == "fp32"


@pytest.fixture
def measured(monkeypatch, tmp_path):
    "How often modes were measured, with a cache of its own."
    calls, real = [], modes.measure_modes
    for room in (engine, modes): monkeypatch.setattr(room, "measure_modes", lambda *given: calls.append(1) or real(*given))
    monkeypatch.setenv("PAINTSR_CACHE", str(tmp_path/"cache"))
    return calls


def forget():
    "As if the process had just begun."
    engine._of_files.clear()


def test_modes_are_measured_once_for_a_net(measured, tmp_path):
    calls = measured
    net = small_net()
    for _ in range(3): Upscaler(net, device="cpu")(noise(5, 5))
    assert len(calls) == 1
    save_model(tmp_path/"net.safetensors", net)
    for _ in range(3): Upscaler(tmp_path/"net.safetensors", device="cpu")(noise(5, 5))
    assert len(calls) == 2
    Upscaler(net, device="cpu", precise=True)(noise(5, 5))
    assert len(calls) == 2


def test_upscale_sees_that_a_file_was_written_anew(tmp_path):
    path, pixels = tmp_path/"net.safetensors", noise(8, 8)
    for seed in (0, 1):
        save_model(path, small_net(seed))
        os.utime(path, (seed, seed))
        assert np.abs(upscale(pixels, path).astype(int) - Upscaler(small_net(seed), precise=True)(pixels)).max() <= 6


def test_the_bar_and_the_caller_hear_of_every_tile(capsys):
    heard, up = [], Upscaler(Repeat(), device="cpu", tile=5, precise=True)
    up(noise(10, 15), show_progress=True, on_tile=lambda done, total: heard.append((done, total)))
    assert heard == [(n, 6) for n in range(1, 7)]
    assert "6/6" in capsys.readouterr().err


def test_context_is_measured_where_it_is_known():
    class Blur(Repeat):
        def forward(self, low): return super().forward(F.avg_pool2d(low, 7, stride=1, padding=3))

    assert measure_context(Blur(), noise(40, 40)) == 3
    with pytest.raises(ValueError, match="even 2 px of context are too few, and a picture of 6x6"): measure_context(Blur(), noise(6, 6))


@pytest.mark.parametrize("precision", ("fp32", "bf16"))
def test_the_packaged_model_shows_no_seam(precision):
    low = samples("pagoda")[0].low[200:290, 240:340]
    tiled, whole = (Upscaler("default", "cpu", tile) for tile in (33, 1000))
    for up in (tiled, whole): up._known = {up.device: cost(Mode(precision))}
    assert np.abs(tiled(low).astype(int) - whole(low)).max() <= 1


@pytest.mark.shared
def test_bfloat16_costs_the_packaged_model_two_levels_at_most(data):
    exact, fast = (Upscaler("default", "cpu") for _ in range(2))
    exact._known, fast._known = {exact.device: cost(PRECISE)}, {fast.device: cost(BF16)}
    for path in list_pictures(data/"lr600")[:6]:
        low = read_rgb8(path)[100:180, 100:180]
        off = np.abs(exact(low).astype(int) - fast(low))
        assert off.max() <= 2 and off.mean() < 0.1, path.name


@pytest.mark.shared
@pytest.mark.parametrize("name", ("general_x4v3", "animevideov3"))
def test_community_files_upscale_a_picture(data, name):
    low = read_rgb8(data/"bench"/"Set14"/"LR"/"img_013.png")[:48, :60]
    sr = upscale(low, data.parent/"weights"/f"realesr_{name}.safetensors")
    assert sr.shape == (192, 240, 3)
    again, blurred = shrink(sr).astype(float), enlarge(low[::2, ::2], 2)[:48, :60].astype(float)
    assert np.square(again - low).mean() < np.square(blurred - low).mean()/2   # the same picture, not any other


def test_upscaling_loads_neither_fastai_nor_torchvision():
    code = ("import sys, torch, numpy as np\n"
            "from paintsr_nb.nets.generators import make_generator\n"
            "from paintsr_nb.upscaling.engine import upscale\n"
            "import paintsr_nb.upscaling.folder\n"
            "upscale(np.zeros((4, 4, 3), np.uint8), make_generator('compact', num_filters=4, num_blocks=1))\n"
            "print([name for name in ('fastai', 'torchvision', 'IPython', 'matplotlib') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | dict(OMP_NUM_THREADS="1"))
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_an_autocast_around_the_engine_changes_nothing():
    "As where a run shows a preview in the middle of its training."
    up, pixels = Upscaler(small_net(), device="cpu", precise=True), noise(20, 30, np.uint16)
    expected = up(pixels)
    with torch.autocast("cpu", torch.bfloat16): assert np.array_equal(up(pixels), expected)


def test_what_was_measured_is_remembered_between_runs(measured, tmp_path, monkeypatch):
    "Keyed by what the net is; a damaged note is measured anew, a folder that cannot be written is no misfortune, and it can be turned off."
    path, up = tmp_path/"net.safetensors", lambda: Upscaler(tmp_path/"net.safetensors", device="cpu")
    save_model(path, small_net())
    first = up().mode
    forget()
    again = up()
    assert again.mode == first and len(measured) == 1 and again.cost == again.cost != "mode not measured yet"
    memo, = (tmp_path/"cache"/"modes").iterdir()
    for damage in (b"", b"{", b"[]", b'{"mode": {"precision": "fp8"}}', memo.read_bytes()[:-20], bytes(100)):
        memo.write_bytes(damage)
        forget()
        assert up().mode.precision in ("fp32", "bf16")
    assert len(measured) == 7 and not list(memo.parent.glob(".*"))
    save_model(path, small_net(1))   # another net under the same name
    os.utime(path, (1, 1))
    up().mode
    assert len(measured) == 8 and len(list(memo.parent.iterdir())) == 2
    forget()
    monkeypatch.setenv("PAINTSR_REMEMBER", "0")
    up().mode
    monkeypatch.delenv("PAINTSR_REMEMBER")
    assert len(measured) == 9
    (tmp_path/"file").write_text("")
    monkeypatch.setenv("PAINTSR_CACHE", str(tmp_path/"file"))
    forget()
    up().mode
    assert len(measured) == 10


def test_the_key_names_processor_torch_and_net(monkeypatch):
    memo = lambda net="a", device="cpu": modes._memo(net, torch.device(device))
    keys = {memo(), memo("b")}
    monkeypatch.setattr(modes, "_processor", lambda: "another one")
    keys.add(memo())
    monkeypatch.setattr(torch, "__version__", "9.9")
    keys |= {memo(), memo(device="mps")}
    assert len(keys) == 5


def test_row_11_12_tiles_are_chosen_by_net_and_memory_and_show_nothing(monkeypatch):
    "Any tile gives the picture of any other within a level; nobody has to choose one."
    low = samples("pagoda")[0].low[200:290, 240:340]
    whole = Upscaler("default", "cpu", precise=True)(low).astype(int)
    up, sizes = Upscaler("default", "cpu", precise=True), set()
    for memory in (10**6, 10**7, 3*10**7, 10**9):
        monkeypatch.setattr(engine, "_free_memory", lambda device, memory=memory: memory)
        sizes.add(len(up.plan(90, 100)))
        assert np.abs(up(low) - whole).max() <= 1
    assert len(sizes) > 2


def test_row_13_the_border_of_a_picture_is_that_of_the_net():
    "No strip at the edge: a part that was cut out of a picture equals the same part of the whole, away from the cut by the context."
    net, pixels = small_net(), noise(60, 60)
    up = Upscaler(net, device="cpu", tile=20, precise=True)
    far = 4*net.context
    assert np.abs(up(pixels)[:160 - far, :160 - far].astype(int) - up(pixels[:40, :40])[:160 - far, :160 - far]).max() <= 1


def test_row_14_a_tile_that_fails_fails_the_picture():
    class Fails(Repeat):
        def forward(self, low):
            if low.amax() > 0.99: raise RuntimeError("something in the driver")
            return super().forward(low)

    pixels = np.full((30, 30, 3), 100, np.uint8)
    pixels[29, 29] = 255
    with pytest.raises(RuntimeError, match="something in the driver"): Upscaler(Fails(), device="cpu", tile=10, precise=True)(pixels)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_row_23_24_a_processor_is_enough_and_its_rate_is_measured():
    "Without a GPU the packaged net runs on the CPU, nobody has to say so, and the rate from which a time can be told is known."
    up = Upscaler()
    assert up.device.type == "cpu" and up(noise(20, 20)).shape == (80, 80, 3)
    assert 0 < up._known[up.device].seconds < 60 and up.device.type in repr(up)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_row_16_memory_is_flat_over_many_pictures():
    "Two hundred pictures of changing sizes: what the process holds stays as it was after the first fifty."
    up, held = Upscaler("default", "cpu", precise=True), []
    for number in range(200):
        up(noise(20 + number % 7, 30 + number % 11))
        held.append(engine._used_memory())
    assert max(held[150:]) - max(held[:50]) < 2*10**7


def test_row_26_a_device_that_computes_wrongly_is_left(monkeypatch):
    "Where no mode of a device comes near to the CPU, the CPU goes on, and it is said."
    up = Upscaler(Repeat(), device="cpu")
    wrong = [ModeCost(mode, 0.1, 20.0, 90.0) for mode in MODES]
    monkeypatch.setattr(engine, "measure_modes", lambda net, device: wrong)
    up.device = torch.device("meta")   # stands for a device that is there
    up._known[torch.device("cpu")] = cost(PRECISE)
    monkeypatch.setattr(up, "net", Repeat())
    with pytest.warns(UserWarning, match="meta computes Repeat wrongly"): assert up.mode == PRECISE
    assert up.device.type == "cpu"


def test_a_mode_is_judged_by_a_picture_and_said():
    "bfloat16 of a deep net of random weights is near by mean error, and what it costs stands in what the upscaler says of itself."
    torch.manual_seed(0)
    costs = {cost.mode: cost for cost in measure_modes(make_generator("rrdbnet", num_filters=16, growth=8, num_blocks=2))}
    assert costs[Mode()].db > 90 and 54 <= costs[BF16].db < 100
    up = Upscaler(small_net(), device="cpu")
    up._known[up.device] = costs[BF16]
    assert f"bf16 channels_last: {costs[BF16].db:.1f} dB to float32" in repr(up)
    assert "fp32" in repr(Upscaler(small_net(), device="cpu", precise=True))


def test_the_sum_through_the_blocks_stays_in_float32():
    "Twenty blocks whose branches are too small for bfloat16 to see beside the sum: in float32 they add up."
    net = make_generator("rrdbnet", num_filters=8, growth=4, num_blocks=20)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.startswith("body."): parameter.zero_()
            if name.endswith("conv5.bias"): parameter.fill_(0.01)
    run = modes.run_net
    ready, low = modes.prepared_net(net, "cpu"), torch.rand(1, 3, 12, 12)
    seen = []
    ready.conv_body.register_forward_pre_hook(lambda conv, inputs: seen.append(inputs[0].float()))
    for mode in (PRECISE, BF16): run(ready, low, mode)
    assert (seen[0] - seen[1]).abs().max() < 1e-4*seen[0].abs().max()


@pytest.mark.parametrize("arch", ("rrdbnet", "srresnet"))
def test_last_layers_in_bands_equal_all_at_once(arch):
    net = make_generator(arch, num_filters=8, num_blocks=1).eval()
    low = torch.rand(1, 3, 50, 7)
    with torch.no_grad():
        whole = net(low)
        for rows in (1, 3, 16, 49, 50, 100):
            net.rows = rows
            assert (net(low) - whole).abs().max() < 1e-5, rows
        net.rows, net.reach = 16, 0
        assert (net(low) - whole).abs().max() > 1e-4   # what they see is needed
