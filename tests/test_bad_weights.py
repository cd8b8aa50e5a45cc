"Weight files made to harm: each is answered in one sentence with its name, soon and in little memory. All are opened in one process that is watched."
import json
import struct
import subprocess
import sys
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from paintsr_nb.nets.generators import make_generator

SECONDS, MEGABYTES = 5, 400 # What the answer to one file may take


def ours(path, header=None, text=None, state=None):
    "A file of ours with another header, or other tensors."
    net = make_generator("compact", num_filters=8, num_blocks=1)
    good = dict(arch="compact", arguments=net.arguments, scale=4, context=5, card={})
    text = json.dumps(good | header if isinstance(header, dict) else header or good) if text is None else text
    save_file(net.state_dict() if state is None else state, path, metadata=dict(paintsr_nb=text))


def pickled(value): return lambda path: torch.save(value, path)


def circle():
    state = dict(epoch=3)
    state["params"] = state
    return state


def two_circles():
    one, two = {}, {}
    one["state_dict"], two["model"] = two, one
    return one


def zip_bomb(path, record="data/0", size=3*10**9):
    "A small file of PyTorch's, with one record of zeros that is packed a thousand times smaller."
    torch.save(dict(weight=torch.zeros(4)), path)
    with zipfile.ZipFile(path) as archive: records = {name: archive.read(name) for name in archive.namelist()}
    prefix = next(iter(records)).split("/")[0]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            if name != f"{prefix}/{record}": archive.writestr(name, content)
        info = zipfile.ZipInfo(f"{prefix}/{record}")
        info.compress_type = zipfile.ZIP_DEFLATED
        info._compresslevel = 1   # `writestr` alone has an argument for it
        with archive.open(info, "w", force_zip64=True) as file:
            for _ in range(size//10**7): file.write(bytes(10**7))


def bytearray_bomb(path):
    "Forty bytes of pickle that ask for 3 GB of zeros."
    bomb = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + struct.pack("<Q", 3*10**9)[:5] + b"\x85R."
    torch.save(dict(weight=torch.zeros(4)), path)
    with zipfile.ZipFile(path) as archive: records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items(): archive.writestr(name, bomb if name.endswith("data.pkl") else content)


def bare(state): return lambda path: save_file(state, path)


def cut(path):
    ours(path)
    content = path.read_bytes()
    path.write_bytes(content[:len(content)*2//3])


def starting(start, rest=b"{}" + bytes(1000)): return lambda path: path.write_bytes(start + rest)


def deep_json(path):
    ours(path, text="["*200_000 + "]"*200_000)


GOOD = {key: value.clone() for key, value in make_generator("compact", num_filters=8, num_blocks=1).state_dict().items()}
NAN = GOOD | {"conv_last.bias": torch.full((48,), torch.nan)}

# file -> how it is made, and a word of the answer
BAD = {
    "circle.pth": (pickled(circle()), "itself"),
    "two_circles.ckpt": (pickled(two_circles()), "itself"),
    "deep.pth": (pickled(dict(params=dict(params=dict(params=dict(params=dict(params=dict(params={}))))))), "no tensors"),
    "million_blocks.safetensors": (lambda path: ours(path, dict(arguments=dict(num_filters=8, num_blocks=10**6))), "num_blocks"),
    "million_filters.safetensors": (lambda path: ours(path, dict(arguments=dict(num_filters=10**6, num_blocks=1))), "num_filters"),
    "huge_number.safetensors": (lambda path: ours(path, dict(arguments=dict(num_filters=10**30, num_blocks=1))), "num_filters"),
    "huge_scale.safetensors": (lambda path: ours(path, dict(arguments=dict(num_filters=8, num_blocks=1, scale=10**9))), "scale"),
    "text_blocks.safetensors": (lambda path: ours(path, dict(arguments=dict(num_filters="8", num_blocks=1))), "num_filters='8'"),
    "negative_blocks.safetensors": (lambda path: ours(path, dict(arguments=dict(num_filters=8, num_blocks=-1))), "num_blocks=-1"),
    "no_filters.safetensors": (lambda path: ours(path, dict(arguments=dict(num_filters=0, num_blocks=1))), "num_filters=0"),
    "half_a_block.safetensors": (lambda path: ours(path, dict(arguments=dict(num_filters=8, num_blocks=1.5))), "num_blocks=1.5"),
    "list_arguments.safetensors": (lambda path: ours(path, dict(arguments=[8, 1])), "arguments"),
    "no_arguments.safetensors": (lambda path: ours(path, text='{"arch": "compact"}'), "arguments"),
    "no_arch.safetensors": (lambda path: ours(path, text='{"arguments": {}}'), "arch"),
    "list_arch.safetensors": (lambda path: ours(path, dict(arch=["compact"])), "arch"),
    "list_header.safetensors": (lambda path: ours(path, text='[1, 2]'), "header"),
    "number_header.safetensors": (lambda path: ours(path, text='7'), "header"),
    "no_json.safetensors": (lambda path: ours(path, text='{"arch'), "damaged"),
    "deep_json.safetensors": (deep_json, "damaged"),
    "text_card.safetensors": (lambda path: ours(path, dict(card="mine")), "card"),
    "text_context.safetensors": (lambda path: ours(path, dict(context="far")), "context='far'"),
    "far_context.safetensors": (lambda path: ours(path, dict(context=10**9)), "context"),
    "nan_context.safetensors": (lambda path: ours(path, dict(context=float("nan"))), "context"),
    "foreign_context.safetensors": (lambda path: ours(path, dict(arch="spandrel", context=[]), state=srvgg()), "context"),
    "whole_numbers.safetensors": (lambda path: ours(path, state={key: value.to(torch.int32) for key, value in GOOD.items()}), "int32"),
    "complex.safetensors": (lambda path: ours(path, state=GOOD | {"conv_last.bias": torch.zeros(48, dtype=torch.complex64)}), "complex64"),
    "nan.safetensors": (lambda path: ours(path, state=NAN), "no finite numbers"),
    "nan.pth": (pickled(dict(params=NAN)), "no finite numbers"),
    "zip_bomb.pth": (zip_bomb, "unpack"),
    "pickle_bomb.pth": (lambda path: zip_bomb(path, "data.pkl", 5*10**8), "unpack"),
    "bytearray.pth": (bytearray_bomb, "bytearray"),
    "stretched.pth": (pickled(dict(params={"body.0.weight": torch.zeros(1).expand(3*10**9)})), "stretched"),
    "sparse.pth": (pickled({"body.0.weight": torch.zeros(9, 9).to_sparse()}), "body.0.weight"),
    "meta.pth": (pickled({"body.0.weight": torch.zeros(9, device="meta")}), "body.0.weight"),
    "quantised.pth": (pickled({"body.0.weight": torch.quantize_per_tensor(torch.zeros(9), 0.1, 0, torch.qint8)}), "body.0.weight"),
    "numbered.pth": (lambda path: torch.save(rrdb(), path), "num_blocks=1000001"),
    "numbered_2x.pth": (lambda path: torch.save({key: value for key, value in rrdb().items() if "up2" not in key}, path), "far larger"),
    "numbered_compact.pth": (lambda path: torch.save(srvgg() | {"body.1000000.weight": torch.zeros(8, 8, 3, 3)}, path), "numbered_compact"),
    "wide.pth": (lambda path: torch.save(srvgg() | {"body.0.weight": torch.zeros(300_000, 3, 1, 1)}, path), "wide"),
    "empty_tensors.safetensors": (bare({key: value.new_zeros(0, 10**6) for key, value in GOOD.items()}), "empty_tensors"),
    "cut.safetensors": (cut, "damaged"),
    "long_header.safetensors": (starting(struct.pack("<Q", 2**60)), "damaged"),
    "longest_header.safetensors": (starting(struct.pack("<Q", 2**64 - 1)), "damaged"),
    "spaces.safetensors": (starting(struct.pack("<Q", 99_000_000), b" "*99_000_000), "damaged"),
}


def srvgg():
    "A small SRVGGNetCompact, which spandrel knows."
    layers = [torch.nn.Conv2d(3, 8, 3), torch.nn.PReLU(8), torch.nn.Conv2d(8, 8, 3), torch.nn.PReLU(8), torch.nn.Conv2d(8, 48, 3)]
    return {f"body.{key}": value for key, value in torch.nn.Sequential(*layers).state_dict().items()}


def rrdb():
    "A small RRDBNet with one layer more, which says that it is the millionth."
    state = dict(make_generator("rrdbnet", num_filters=8, num_blocks=1).state_dict())
    return state | {"body.1000000.rdb1.conv1.weight": state["body.0.rdb1.conv1.weight"]}


WATCHED = """
import json, resource, signal, sys, time
from pathlib import Path
import spandrel
from paintsr_nb.nets.foreign import load_model
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss//1024
def stop(*_): raise TimeoutError("hangs")
signal.signal(signal.SIGALRM, stop)
resource.setrlimit(resource.RLIMIT_AS, (16*2**30, 16*2**30))
load_model()
for path in sorted(Path(sys.argv[1]).iterdir()):
    before, start = peak(), time.time()
    try:
        signal.alarm(8)
        try: kind, message = "loaded", str(load_model(path).card)
        finally: signal.alarm(0)
    except BaseException as error: kind, message = type(error).__name__, str(error)
    print(json.dumps([path.name, kind, message, time.time() - start, peak() - before]), flush=True)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    for name, (make, _) in BAD.items(): make(folder/name)
    watched = subprocess.run([sys.executable, "-W", "ignore", "-c", WATCHED, folder], capture_output=True, text=True, timeout=600)
    return {name: answer for name, *answer in map(json.loads, watched.stdout.splitlines())}, watched.stderr


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_answered_in_a_sentence(answers, name):
    kind, message, seconds, megabytes = answers[0][name]
    assert kind in ("ValueError", "UnsupportedModel"), (kind, message[:300])
    assert name in message and BAD[name][1] in message.replace(name, "", 1) + (name if BAD[name][1] in name else ""), message[:500]
    assert "\n" not in message and len(message) < 800, message[:1500]
    assert seconds < SECONDS
    assert megabytes < MEGABYTES, f"{megabytes} MB"


def test_nothing_else_is_said(answers): assert set(answers[0]) == set(BAD) and not answers[1]
