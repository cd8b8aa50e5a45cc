"What a fastai user expects of a learner: predictions for files, arrays and pictures, test sets, rows of results, the worst of them."
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from fastai.interpret import Interpretation
from fastai.learner import load_learner
from paintsr_nb.data.degrade import DEGRADATIONS
from paintsr_nb.data.patches import sr_dls
from paintsr_nb.data.store import Store, prepare
from paintsr_nb.nets.generators import make_generator
from paintsr_nb.nets.tensors import to_tensor
from paintsr_nb.picture import read_rgb8, write_picture
from paintsr_nb.samples import samples
from paintsr_nb.training.learner import sr_learner


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    "Two LR files of different sizes that no store knows."
    folder, (painting,) = tmp_path_factory.mktemp("files"), samples("cat")
    for name, side in (("one.png", 20), ("two.png", 28)): write_picture(folder/name, painting.low[200:220, 200:200 + side].copy())
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    "Five pictures of which three are for validation; one of those is smaller than the others."
    folder, (painting,) = tmp_path_factory.mktemp("fastai"), samples("dahlia")
    for number, (top, left, side) in enumerate([(300, 300, 96), (900, 1200, 96), (1500, 600, 80), (600, 900, 96), (1200, 300, 96)]):
        write_picture(folder/"high"/f"{number}.png", np.ascontiguousarray(painting.high[top:top + side, left:left + side]))
    return prepare(folder/"store", high=folder/"high", valid=0.6, num_workers=1).store


def learner(store, path=".", valid_size=None):
    torch.manual_seed(0)
    dls = sr_dls(store, low_size=8, bs=2, n_iters=2, valid_size=valid_size, device="cpu")
    return sr_learner(dls, make_generator("compact", num_filters=8, num_blocks=1), path=path)


@pytest.fixture(scope="module", params=["before", "after"])
def learn(request, store, tmp_path_factory):
    "The learner, before and after it was exported and loaded."
    folder = tmp_path_factory.mktemp("export")
    learn = learner(store, folder)
    if request.param == "before": return learn
    learn.export("net.pkl")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")   # fastai's word on pickles
        return load_learner(folder/"net.pkl")


def sr_of(learn, pixels):
    with torch.no_grad(): return learn.model.eval()(to_tensor(pixels))[0]


def forms(path):
    pixels = read_rgb8(path)
    return dict(path=path, text=str(path), array=pixels, pil=Image.fromarray(pixels), opened=Image.open(path))


@pytest.mark.parametrize("form", ["path", "text", "array", "pil", "opened"])
def test_predict_takes_what_shows_a_picture(learn, files, form):
    with learn.no_bar(): decoded, _, raw = learn.predict(forms(files[1])[form])
    wanted = sr_of(learn, read_rgb8(files[1]))
    assert raw.shape == (3, 80, 112) and torch.allclose(raw.as_subclass(torch.Tensor), wanted, atol=1e-5)
    assert decoded.shape == raw.shape


def test_predict_takes_an_id(learn, store):
    name = store.ids("valid")[0]
    with learn.no_bar(): *_, raw = learn.predict(name)
    assert torch.allclose(raw.as_subclass(torch.Tensor), sr_of(learn, np.array(store.low(name))), atol=1e-5)


@pytest.mark.parametrize("form", ["path", "text", "array", "pil"])
def test_a_test_set_needs_no_high_and_no_store(learn, files, form):
    loader = learn.dls.test_dl([forms(path)[form] for path in files])
    assert len(loader) == 2 and [len(batch) for batch in loader] == [1, 1]
    with learn.no_bar(): preds, _ = learn.get_preds(dl=loader)
    for path, sr in zip(files, preds, strict=True):
        assert torch.allclose(sr.as_subclass(torch.Tensor), sr_of(learn, read_rgb8(path)), atol=1e-5)


def test_ids_and_files_may_be_mixed(learn, store, files):
    loader = learn.dls.test_dl([store.ids("train")[0], files[0], read_rgb8(files[1])])
    assert [tuple(low.shape[2:]) for low, in loader] == [store.shape(store.ids("train")[0])[:2], (20, 20), (20, 28)]


def test_pictures_of_one_size_may_be_batched(learn, files):
    loader = learn.dls.test_dl([files[0]]*3, bs=2)
    assert [len(low) for low, in loader] == [2, 1]


def test_a_turned_photograph_stands_upright(learn, tmp_path):
    "A camera writes how it was held; path and PIL picture agree on it."
    picture = Image.fromarray(np.arange(20*28*3, dtype=np.uint8).reshape(20, 28, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path/"turned.png", exif=exif)
    (one,), (other,) = list(learn.dls.test_dl([tmp_path/"turned.png", Image.open(tmp_path/"turned.png")]))
    assert one.shape == (1, 3, 28, 20) and torch.equal(one, other)


@pytest.mark.parametrize("item,told", [
    ("nowhere.png", "neither an id of .* nor a file"),
    (np.zeros((8, 8, 3)), "expected uint8"),
    (np.zeros((8, 8), np.uint8), r"expected \(H,W,3\)"),
    (Image.new("I;16", (8, 8)), "I;16.*give the file's path"),
])
def test_what_is_no_picture_is_said(learn, item, told):
    with learn.no_bar(), pytest.raises((ValueError, TypeError), match=told): learn.predict(item)


@pytest.mark.parametrize("max_n", [1, 2])
def test_as_many_rows_as_asked_for(store, monkeypatch, max_n):
    import paintsr_nb.data.patches as room
    shown = []
    monkeypatch.setattr(room, "strip", lambda pictures: shown.append(pictures))
    learn = learner(store, valid_size=16)
    with learn.no_bar(): learn.show_results(max_n=max_n)
    learn.dls.valid.show_batch(max_n=max_n)
    learn.dls.train.show_batch(max_n=max_n)
    sizes = [{name: pixels.shape[:2] for name, pixels in pictures.items()} for pictures in shown]
    assert sizes[0] == dict(LR=(16*max_n, 16), SR=(64*max_n, 64), HR=(64*max_n, 64))
    assert sizes[1] == dict(LR=(16*max_n, 16), HR=(64*max_n, 64)) and sizes[2] == dict(LR=(8*max_n, 8), HR=(32*max_n, 32))
    assert not np.array_equal(*np.split(shown[0]["HR"], 2)) if max_n == 2 else True
    assert len(learn.dls.valid) == 3 and all(len(low) == 1 for low, _ in learn.dls.valid)   # validation itself goes by single pictures


@pytest.mark.parametrize("valid_size", [16, None], ids=["crops", "whole"])
def test_the_worst_are_shown_with_their_losses(store, monkeypatch, valid_size):
    import paintsr_nb.data.patches as room
    shown = []
    monkeypatch.setattr(room, "strip", lambda pictures: shown.append(pictures))
    learn = learner(store, valid_size=valid_size)
    with learn.no_bar():
        told = Interpretation.from_learner(learn)
        told.plot_top_losses(2)
        losses, places = told.top_losses(2)
    assert len(shown) == 2 and losses[0] >= losses[1]
    for pictures, loss, place in zip(shown, losses, places):
        name = store.ids("valid")[int(place)]
        assert any(f"{loss:.4f}" in label for label in pictures)
        high = list(pictures.values())[-1]
        inner = np.array(store.high(name))
        top, left = ((inner.shape[0] - high.shape[0])//2, (inner.shape[1] - high.shape[1])//2)
        assert np.array_equal(high, inner[top:top + high.shape[0], left:left + high.shape[1]])


def test_the_worst_are_judged_by_the_low_that_is_shown(store, monkeypatch):
    "The LR of validation may be made from HR; asked for again it is the same, wherever in a list its picture stands."
    scan = DEGRADATIONS["scan"]
    dls = sr_dls(store, low_size=8, bs=2, n_iters=2, valid_size=16, device="cpu", degradation=scan, valid_degradation=scan)
    straight = [low.clone() for low, _ in dls.valid]
    backwards = [low.clone() for low, _ in dls.test_dl(store.ids("valid")[::-1], with_labels=True)]
    for one, other in zip(straight, backwards[::-1], strict=True): assert torch.equal(one, other)
    with pytest.raises(ValueError, match="leave out `with_labels`"): list(dls.test_dl([np.zeros((8, 8, 3), np.uint8)], with_labels=True))


def test_a_loaded_learner_predicts_when_its_store_is_gone(store, files, tmp_path):
    shutil.copytree(store.path, tmp_path/"store")
    learner(Store(tmp_path/"store"), tmp_path).export("net.pkl")
    (tmp_path/"store").rename(tmp_path/"moved")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load_learner(tmp_path/"net.pkl")
    with loaded.no_bar(): *_, raw = loaded.predict(files[0])
    assert torch.allclose(raw.as_subclass(torch.Tensor), sr_of(loaded, read_rgb8(files[0])), atol=1e-5)
