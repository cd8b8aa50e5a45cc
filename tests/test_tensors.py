"The arrow between picture and tensor: every kind of array and of batch."
import numpy as np
import pytest
import torch

from paintsr_nb.nets.tensors import to_pictures, to_tensor
from paintsr_nb.picture import to_uint8


def noise(dtype=np.uint8): return np.random.default_rng(0).integers(np.iinfo(dtype).max, size=(7, 5, 3), dtype=dtype, endpoint=True)


@pytest.mark.parametrize("dtype", (np.uint8, np.uint16))
def test_floats_become_levels_as_numpy_makes_them(dtype):
    values = torch.cat([torch.linspace(-0.1, 1.1, 5000), (torch.arange(255) + 0.5)/255])[None, None].expand(3, 1, -1)
    levels = to_pictures(values[None], dtype)[0]
    assert levels.dtype == dtype and levels.min() == 0 and levels.max() == np.iinfo(dtype).max
    if dtype == np.uint8: assert np.array_equal(levels, to_uint8(values.permute(1, 2, 0).numpy()))
    assert (np.diff(levels[0, :5000, 0].astype(int)) >= 0).all()   # nothing wraps around


class Subclass(torch.Tensor): pass


BATCHES = dict(
    plain=lambda batch: batch,
    gradient=lambda batch: batch.clone().requires_grad_()*1,
    subclass=lambda batch: batch.as_subclass(Subclass),
    half=lambda batch: batch.half(),
    bfloat16=lambda batch: batch.bfloat16(),
    double=lambda batch: batch.double(),
    channels_last=lambda batch: batch.contiguous(memory_format=torch.channels_last))


@pytest.mark.parametrize("kind", BATCHES)
def test_batches_of_any_kind_become_pictures_and_are_not_changed(kind):
    batch = BATCHES[kind](torch.cat([to_tensor(noise()), to_tensor(noise()[::-1, ::-1])]))
    before = batch.detach().clone()
    pictures = to_pictures(batch)
    assert len(pictures) == 2 and all(type(picture) is np.ndarray and picture.flags.c_contiguous for picture in pictures)
    off = 1 if kind == "bfloat16" else 0   # which has 8 bits, of which the brightest half of the levels shares one
    assert abs(pictures[0].astype(int) - noise()).max() <= off and abs(pictures[1].astype(int) - noise()[::-1, ::-1]).max() <= off
    assert torch.equal(batch.detach(), before)


def test_what_was_computed_for_inference_becomes_a_picture():
    with torch.inference_mode(): batch = to_tensor(noise(np.uint16))*1
    assert np.array_equal(to_pictures(batch, np.uint16)[0], noise(np.uint16))


@pytest.mark.filterwarnings("error")   # PyTorch warns of arrays that it may not write to
@pytest.mark.parametrize("view", (np.asarray, np.asfortranarray, lambda pixels: pixels[::-1, ::-1], lambda pixels: pixels[:, ::2]))
@pytest.mark.parametrize("dtype", (np.uint8, np.uint16))
def test_arrays_of_any_kind_become_tensors_that_share_nothing(dtype, view):
    pixels = view(noise(dtype))
    pixels.setflags(write=False)
    batch = to_tensor(pixels)
    assert batch.shape == (1, 3, *pixels.shape[:2]) and batch.dtype == torch.float32
    assert np.array_equal(to_pictures(batch, dtype)[0], pixels)
    batch.zero_()
    assert np.array_equal(pixels, view(noise(dtype)))
