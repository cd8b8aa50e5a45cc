"What is no reading matter about picture files: every mode and format, broken files, limits, odd names. Why not a notebook: too many cases."
import io, os, struct, subprocess, sys, threading, warnings, zlib

import numpy as np
from contextlib import nullcontext

import pytest
import pyvips
from PIL import Image, ImageCms, ImageFile, ImageOps, PngImagePlugin

from paintsr_nb import picture
from paintsr_nb.core import PictureError
from paintsr_nb.notes import KEEPS, PictureRest, png_chunks, read_notes, read_tags
from paintsr_nb.profiles import coded_profile, make_profile, profile_shift, srgb_profile, to_srgb
from paintsr_nb.picture import MAX_BYTES, check_writable, picture_size, read_picture, read_rgb8, round_half_up, to_uint8, write_picture
from paintsr_nb.strips import decoded_size

HEIGHT, WIDTH = 24, 40
y, x = np.mgrid[:HEIGHT, :WIDTH]
RGB = np.stack([x*6, y*10, 255 - x*3 - y], -1).astype(np.uint8)
ALPHA = (x*6.5).astype(np.uint8)
DEEP = RGB.astype(np.uint16)*256 + 129


@pytest.fixture(autouse=True)
def loud():
    "Warnings are errors, so that a test must name the ones it expects; Pillow's switches are as they were."
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == before


def chunk(kind, body): return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

def with_chunk(data, kind, body): return data[:33] + chunk(kind, body) + data[33:]


def saved(path, image, **options):
    image.save(path, **options)
    return path


# Modes and formats

def rgba(): return Image.fromarray(np.dstack([RGB, ALPHA]))
def grey(): return Image.fromarray(RGB[..., 0])
def palette(): return Image.fromarray(RGB).quantize(64)

def transparent_palette():
    image = palette()
    image.info["transparency"] = 3
    return image

ZOO = {
    "RGB.png": (lambda: Image.fromarray(RGB), {}), "RGB.tif": (lambda: Image.fromarray(RGB), {}), "RGB.bmp": (lambda: Image.fromarray(RGB), {}),
    "RGB.webp": (lambda: Image.fromarray(RGB), dict(lossless=True)),
    "RGBA.png": (rgba, {}), "RGBA.tif": (rgba, {}), "RGBA.webp": (rgba, dict(lossless=True, exact=True)),
    "LA.png": (lambda: Image.merge("LA", [grey(), Image.fromarray(ALPHA)]), {}), "LA.tif": (lambda: Image.merge("LA", [grey(), Image.fromarray(ALPHA)]), {}),
    "L.png": (grey, {}), "L.tif": (grey, {}), "L.bmp": (grey, {}), "L.jpg": (grey, dict(quality=100)),
    "1.png": (lambda: grey().convert("1"), {}), "1.tif": (lambda: grey().convert("1"), {}),
    "P.png": (palette, {}), "P.gif": (palette, {}), "P.tif": (palette, {}), "P.bmp": (palette, {}),
    "Pt.png": (transparent_palette, dict(transparency=3)), "Pt.gif": (transparent_palette, dict(transparency=3)),
    "key.png": (lambda: Image.fromarray(RGB), dict(transparency=tuple(map(int, RGB[5, 7])))),
    "CMYK.tif": (lambda: Image.fromarray(RGB).convert("CMYK"), {}),
    "YCbCr.tif": (lambda: Image.fromarray(RGB).convert("YCbCr"), {}),
}

@pytest.mark.parametrize("name", ZOO)
def test_row_30_every_mode_of_every_format_reads_as_the_same_picture(tmp_path, name):
    make, options = ZOO[name]
    image = make()
    saved(tmp_path/name, image, **options)
    with pytest.warns(UserWarning, match="its inks have no profile") if "CMYK" in name else nullcontext(): pixels, rest = read_picture(tmp_path/name)
    assert rest.grey == name.startswith(("L", "1"))
    assert (pixels.shape, pixels.dtype) == ((HEIGHT, WIDTH, 3), np.uint8) and pixels.flags.writeable and pixels.flags.c_contiguous
    expected = np.asarray(image.convert("RGB"))
    if name == "Pt.gif": pixels, expected = (np.where(np.asarray(image)[..., None] == 3, 0, picture) for picture in (pixels, expected))
    slack = dict(jpg=2).get(name[-3:], 2 if "YCbCr" in name else 0)
    assert np.abs(pixels.astype(int) - expected).max() <= slack
    with_alpha = name.startswith(("RGBA", "LA", "Pt", "key"))
    assert (rest.alpha is not None) == with_alpha
    if name.startswith(("RGBA", "LA")): np.testing.assert_array_equal(rest.alpha, ALPHA)
    if name.startswith("key"): np.testing.assert_array_equal(rest.alpha == 0, (RGB == RGB[5, 7]).all(-1))
    if name.startswith("Pt"): np.testing.assert_array_equal(rest.alpha == 0, np.asarray(image) == 3)
    assert picture_size(tmp_path/name) == (HEIGHT, WIDTH)
    if "CMYK" not in name and name != "Pt.gif": np.testing.assert_array_equal(read_rgb8(tmp_path/name), pixels)

def test_colours_of_jpeg_and_cmyk_jpeg_are_close(tmp_path):
    for mode in ("RGB", "CMYK"):
        saved(tmp_path/"a.jpg", Image.fromarray(RGB).convert(mode), quality=100, subsampling=0)
        with pytest.warns(UserWarning, match="its inks have no profile") if mode == "CMYK" else nullcontext(): pixels = read_rgb8(tmp_path/"a.jpg")
        assert np.abs(pixels.astype(int) - RGB).max() < 6, mode

def test_lab_tiff_has_the_colours_it_means(tmp_path):
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    pixels = read_rgb8(saved(tmp_path/"a.tif", ImageCms.applyTransform(Image.fromarray(RGB), transform)))
    assert np.abs(pixels.astype(int) - RGB).mean() < 3

def test_an_opaque_alpha_says_nothing(tmp_path):
    opaque = np.dstack([RGB, np.full_like(ALPHA, 255)])
    assert read_picture(saved(tmp_path/"a.png", Image.fromarray(opaque)))[1].alpha is None

def test_colours_under_transparent_pixels_are_kept(tmp_path):
    hidden = np.dstack([RGB, np.zeros_like(ALPHA)])
    np.testing.assert_array_equal(read_rgb8(saved(tmp_path/"a.png", Image.fromarray(hidden))), RGB)

@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_lossless_formats_give_back_every_level(tmp_path, name):
    alpha = ALPHA//128*255
    write_picture(tmp_path/name, RGB, PictureRest(alpha=alpha), quality=100)
    pixels, rest = read_picture(tmp_path/name)
    np.testing.assert_array_equal(pixels, RGB) # under transparent pixels too
    np.testing.assert_array_equal(rest.alpha, alpha)

def test_jpeg_keeps_colours_at_full_resolution(tmp_path):
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = (200, 40, 40), (40, 40, 200)
    write_picture(tmp_path/"a.jpg", stripes)
    assert np.abs(read_rgb8(tmp_path/"a.jpg").astype(int) - stripes).mean() < 12

@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.tif"])
def test_pages_after_the_first_are_announced(tmp_path, name):
    first, second = Image.fromarray(RGB).convert("P" if name == "a.gif" else "RGB"), Image.fromarray(RGB[::-1].copy())
    first.save(tmp_path/name, save_all=True, append_images=[second])
    with pytest.warns(UserWarning, match="2 pages or frames"): pixels, _ = read_picture(tmp_path/name)
    assert np.abs(pixels.astype(int) - np.asarray(first.convert("RGB"))).mean() < 6

@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp"])
def test_a_single_pixel_and_a_long_row(tmp_path, suffix):
    for shape in ((1, 1), (1, 700), (700, 1)):
        pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        write_picture(tmp_path/f"a{suffix}", pixels, quality=100)
        np.testing.assert_array_equal(read_rgb8(tmp_path/f"a{suffix}"), pixels)


# Orientation and notes

@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp", "a.avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_row_31_every_orientation_is_applied_and_then_gone(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x013B] = orientation, "Rosa Bonheur"
    image = Image.fromarray(np.dstack([RGB, ALPHA]) if name == "a.png" else RGB)
    dpi = dict(dpi=(100, 200)) if name[2:] not in ("webp", "avif") else {}
    path = saved(tmp_path/name, image, exif=exif, quality=95, **dpi)
    with Image.open(path) as stored: expected = np.asarray(ImageOps.exif_transpose(stored))
    pixels, rest = read_picture(path)
    assert np.abs(pixels.astype(int) - expected[..., :3]).max() <= (10 if name == "a.avif" else 0) # libvips smooths its colours otherwise
    if name == "a.png": np.testing.assert_array_equal(rest.alpha, expected[..., 3])
    assert picture_size(path) == pixels.shape[:2]
    if dpi: np.testing.assert_allclose(rest.dpi, (200, 100) if orientation > 4 else (100, 200), rtol=1e-3)
    write_picture(tmp_path/f"again_{name}", pixels, rest)
    with Image.open(tmp_path/f"again_{name}") as again:
        assert 0x0112 not in again.getexif() or again.getexif()[0x0112] == 1
        assert again.getexif()[0x013B] == "Rosa Bonheur"
        assert again.size[::-1] == pixels.shape[:2]

def test_an_orientation_behind_the_pixels_of_a_png_counts(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    data = saved(tmp_path/"a.png", Image.fromarray(RGB)).read_bytes()
    (tmp_path/"late.png").write_bytes(data[:-12] + chunk(b"eXIf", body) + data[-12:])
    assert picture_size(tmp_path/"late.png") == (WIDTH, HEIGHT) == read_picture(tmp_path/"late.png")[0].shape[:2]

def test_row_34_notes_stay_and_sizes_follow_the_picture(tmp_path):
    exif = Image.Exif()
    exif[0x8298], exif[0x0100] = "CC0", 12345
    exif[0x8769] = {0x9003: "1889:06:18 04:40:00", 0xA002: WIDTH, 0xA003: HEIGHT}
    exif[0x8825] = {1: "N", 2: (43.0, 47.0, 0.0)}
    _, rest = read_picture(saved(tmp_path/"a.jpg", Image.fromarray(RGB), exif=exif))
    large = np.kron(RGB, np.ones((4, 4, 1), np.uint8))
    for name in ("b.jpg", "b.png", "b.webp", "b.tif", "b.avif"):
        write_picture(tmp_path/name, large, rest)
        with Image.open(tmp_path/name) as image:
            found, details = image.getexif(), image.getexif().get_ifd(0x8769)
            assert (found[0x8298], details[0x9003]) == ("CC0", "1889:06:18 04:40:00")
            assert (details[0xA002], details[0xA003]) == (4*WIDTH, 4*HEIGHT)
            assert found.get(0x0100) in (None, 4*WIDTH)
            assert found.get_ifd(0x8825)[1] == "N"

def test_a_broken_exif_block_costs_the_notes_not_the_picture(tmp_path):
    path = saved(tmp_path/"a.jpg", Image.fromarray(RGB), exif=b"Exif\0\0II*\0\xff\xff\xff\x7fnonsense")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels, rest = read_picture(path)
    assert pixels.shape == RGB.shape and rest.exif is None

def test_dpi_travels_and_nonsense_is_dropped(tmp_path):
    for name in ("a.png", "a.jpg", "a.tif", "a.bmp"):
        write_picture(tmp_path/name, RGB, PictureRest(dpi=(300.0, 300.0)))
        np.testing.assert_allclose(read_picture(tmp_path/name)[1].dpi, (300, 300), rtol=1e-3)
    assert read_picture(saved(tmp_path/"a.png", Image.fromarray(RGB)))[1].dpi is None
    assert read_picture(saved(tmp_path/"a.tif", Image.fromarray(RGB), dpi=(0, 0)))[1].dpi is None


# Colour profiles

def xyz(values): return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v*65536)) for v in values)
def curve(gamma): return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma*256)) + b"\0\0"

def rgb_profile(primaries, gamma):
    "A minimal ICC profile from primaries as XYZ (D50) rows and a gamma."
    return profile(b"RGB ", {b"rXYZ": xyz(primaries[0]), b"gXYZ": xyz(primaries[1]), b"bXYZ": xyz(primaries[2]),
                             b"rTRC": curve(gamma), b"gTRC": curve(gamma), b"bTRC": curve(gamma)})

def grey_profile(gamma): return profile(b"GRAY", {b"kTRC": curve(gamma)})

def profile(space, tags):
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78+8)
    tags = {b"desc": text, b"wtpt": xyz((0.9642, 1, 0.8249)), **tags}
    table, body, at = b"", b"", 128 + 4 + 12*len(tags)
    for name, block in tags.items():
        block += bytes(-len(block) % 4)
        table, body, at = table + name + struct.pack(">II", at, len(block)), body + block, at + len(block)
    head = struct.pack(">I4xI4s4s4s12x4s", at, 0x02400000, b"mntr", space, b"XYZ ", b"acsp") + bytes(28) + xyz((0.9642, 1, 0.8249))[8:] + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body

ADOBE = (0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)
SRGB = (0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)

def adobe_to_srgb(levels):
    "Adobe RGB (1998) to sRGB by the formulas, levels of 0 to 1."
    linear = levels**2.19921875 @ np.array(ADOBE) @ np.linalg.inv(np.array(SRGB))
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92*linear, 1.055*linear**(1/2.4) - 0.055)

@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.webp"])
def test_adobe_rgb_becomes_srgb_when_asked_and_is_tagged_so(tmp_path, name):
    muted = RGB//2 + 60 # inside sRGB
    icc = rgb_profile(ADOBE, 2.19921875)
    path = saved(tmp_path/name, Image.fromarray(muted), icc_profile=icc, **dict(jpg=dict(quality=100, subsampling=0), webp=dict(lossless=True)).get(name[2:], {}))
    pixels, rest = read_picture(path, srgb=True)
    with Image.open(path) as image: stored = np.asarray(image)
    assert np.abs(pixels - 255*adobe_to_srgb(stored/255)).max() < 1.6
    assert np.abs(pixels.astype(int) - muted).max() > 8          # there was something to do
    write_picture(tmp_path/"b.png", pixels, rest)
    again, second = read_picture(tmp_path/"b.png")
    np.testing.assert_array_equal(again, pixels)
    assert second.icc == rest.icc and rest.icc == srgb_profile()

def test_display_p3_stays_within_a_level_of_libvips(tmp_path):
    icc = pyvips.Operation.call("profile_load", "p3")
    muted = RGB//2 + 60
    pixels, _ = read_picture(saved(tmp_path/"a.png", Image.fromarray(muted), icc_profile=icc), srgb=True)
    expected = pyvips.Image.new_from_file(str(tmp_path/"a.png")).icc_transform("srgb", embedded=True, intent="relative").numpy()
    assert np.abs(pixels.astype(int) - expected).max() <= 1 < np.abs(pixels.astype(int) - muted).max()

def test_srgb_by_another_name_is_left_bit_for_bit(tmp_path):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels, rest = read_picture(saved(tmp_path/"a.png", Image.fromarray(RGB), icc_profile=icc))
    np.testing.assert_array_equal(pixels, RGB)
    assert rest.icc == icc

def test_alpha_and_palette_go_through_the_profile_too(tmp_path):
    icc = rgb_profile(ADOBE, 2.19921875)
    plain = read_rgb8(saved(tmp_path/"a.png", Image.fromarray(RGB), icc_profile=icc))
    pixels, rest = read_picture(saved(tmp_path/"b.png", rgba(), icc_profile=icc), srgb=True)
    np.testing.assert_array_equal(pixels, plain)
    np.testing.assert_array_equal(rest.alpha, ALPHA)
    indexed = palette()
    expected = read_rgb8(saved(tmp_path/"c.png", indexed.convert("RGB"), icc_profile=icc))
    np.testing.assert_array_equal(read_rgb8(saved(tmp_path/"d.png", indexed, icc_profile=icc)), expected)

def test_a_grey_picture_may_carry_a_profile_for_colours(tmp_path):
    icc = rgb_profile(ADOBE, 1.0)
    pixels = read_rgb8(saved(tmp_path/"a.png", grey(), icc_profile=icc))
    assert (np.ptp(pixels.astype(int), axis=-1) <= 2).all() and pixels[..., 0].mean() > grey().convert("F").resize((1, 1)).getpixel((0, 0)) + 20

def test_a_grey_profile_is_heeded_with_and_without_alpha(tmp_path):
    icc = grey_profile(1.8)
    pixels, rest = read_picture(saved(tmp_path/"a.png", grey(), icc_profile=icc), srgb=True)
    expected = (1.055*(np.asarray(grey())/255)**(1.8/2.4) - 0.055)*255
    assert np.abs(pixels - expected[..., None])[:, 6:].max() < 1.6 and rest.icc is None and rest.grey # lcms is coarse in the darks
    assert np.abs(pixels[..., 0] - np.asarray(grey()).astype(int)).max() > 10
    both, rest = read_picture(saved(tmp_path/"b.png", Image.merge("LA", [grey(), Image.fromarray(ALPHA)]), icc_profile=icc), srgb=True)
    np.testing.assert_array_equal(both, pixels)
    np.testing.assert_array_equal(rest.alpha, ALPHA)

def test_a_useless_profile_is_announced_and_passed_over(tmp_path):
    for icc in (b"no profile", rgb_profile(ADOBE, 2.2)[:150]):
        path = saved(tmp_path/"a.tif", Image.fromarray(RGB), icc_profile=icc)
        with pytest.warns(UserWarning, match="a.tif: its colour profile"): pixels, rest = read_picture(path)
        np.testing.assert_array_equal(pixels, RGB)
        assert rest.icc is None


# Sixteen bits

@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_row_33_a_dark_16_bit_grey_scan_stays_dark_and_16_bit(tmp_path, name):
    dark = (x + y).astype(np.uint16) # never above 255
    pixels, rest = read_picture(saved(tmp_path/name, Image.fromarray(dark)))
    assert pixels.dtype == np.uint16 and rest.grey
    np.testing.assert_array_equal(pixels, np.stack([dark]*3, -1))
    assert read_rgb8(tmp_path/name).max() == 0

def test_big_endian_and_inverted_16_bit_grey(tmp_path):
    image = pyvips.Image.new_from_array(DEEP[..., 0].copy(), interpretation="grey16")
    image.tiffsave(str(tmp_path/"inverted.tif"), miniswhite=True)
    np.testing.assert_array_equal(read_picture(tmp_path/"inverted.tif")[0][..., 0], DEEP[..., 0])
    big = struct.pack(">2sHIH", b"MM", 42, 8, 8) + b"".join(struct.pack(">HHII", *entry) for entry in (
        (256, 4, 1, WIDTH), (257, 4, 1, HEIGHT), (258, 3, 1, 16 << 16), (259, 3, 1, 1 << 16), (262, 3, 1, 1 << 16), (273, 4, 1, 110),
        (278, 4, 1, HEIGHT), (279, 4, 1, WIDTH*HEIGHT*2))) + bytes(4)
    (tmp_path/"big.tif").write_bytes(big + DEEP[..., 0].astype(">u2").tobytes())
    np.testing.assert_array_equal(read_picture(tmp_path/"big.tif")[0][..., 0], DEEP[..., 0])

@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("alpha", [None, DEEP[..., 0]])
def test_16_bit_colour_comes_back_as_it_was(tmp_path, name, alpha):
    icc = srgb_profile()
    write_picture(tmp_path/name, DEEP, PictureRest(alpha=alpha, icc=icc, dpi=(240.0, 240.0)))
    pixels, rest = read_picture(tmp_path/name)
    assert pixels.dtype == np.uint16 and not rest.grey
    np.testing.assert_array_equal(pixels, DEEP)
    np.testing.assert_array_equal(rest.alpha, alpha) if alpha is not None else None
    assert (rest.alpha is None) == (alpha is None) and rest.icc == icc
    np.testing.assert_allclose(rest.dpi, (240, 240), rtol=1e-3)
    np.testing.assert_array_equal(read_rgb8(tmp_path/name), (DEEP.astype(int)*2 + 257)//514)

def test_16_bit_grey_with_alpha(tmp_path):
    image = pyvips.Image.new_from_array(np.ascontiguousarray(DEEP[..., :2]), interpretation="grey16")
    image.write_to_file(str(tmp_path/"a.png"))
    pixels, rest = read_picture(tmp_path/"a.png")
    np.testing.assert_array_equal(pixels, DEEP[..., [0, 0, 0]])
    np.testing.assert_array_equal(rest.alpha, DEEP[..., 1])

def test_16_bit_colour_is_turned_and_noted_like_any_other(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x013B] = 6, "Rosa Bonheur"
    data = io.BytesIO(pyvips.Image.new_from_array(DEEP, interpretation="rgb16").pngsave_buffer(keep="none"))
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    (tmp_path/"a.png").write_bytes(data.getvalue()[:33] + chunk(b"eXIf", body) + data.getvalue()[33:])
    pixels, rest = read_picture(tmp_path/"a.png")
    np.testing.assert_array_equal(pixels, np.rot90(DEEP, -1))
    assert picture_size(tmp_path/"a.png") == (WIDTH, HEIGHT)
    write_picture(tmp_path/"b.tif", pixels, rest)
    with Image.open(tmp_path/"b.tif") as image: assert image.size == (HEIGHT, WIDTH) and image.getexif().get(0x0112, 1) == 1

def test_16_bit_wide_gamut_is_converted_in_16_bit(tmp_path):
    muted = (DEEP//4 + 96*256).astype(np.uint16) # well inside sRGB; near its edges lcms is coarser in 16 bits
    write_picture(tmp_path/"a.png", muted, PictureRest(icc=rgb_profile(ADOBE, 2.19921875)))
    pixels, rest = read_picture(tmp_path/"a.png", srgb=True)
    expected = 65535*adobe_to_srgb(muted/65535)
    assert np.abs(pixels - expected).max() < 200 and len(np.unique(pixels)) > 600
    assert rest.icc == srgb_profile()

def test_floats_and_long_integers_are_refused(tmp_path):
    for array in (np.float32(RGB[..., 0]/255), RGB[..., 0].astype(np.int32)*1000):
        with pytest.raises(PictureError, match="with 8 or 16 bits a channel"): read_picture(saved(tmp_path/"a.tif", Image.fromarray(array)))

def test_our_own_png_is_what_others_read(tmp_path):
    exif = Image.Exif()
    exif[0x013B] = "Rosa Bonheur"
    write_picture(tmp_path/"a.png", DEEP, PictureRest(exif=exif.tobytes(), icc=srgb_profile(), dpi=(100.0, 200.0)))
    with Image.open(tmp_path/"a.png") as image:
        assert image.getexif()[0x013B] == "Rosa Bonheur" and image.info["icc_profile"] == srgb_profile()
        np.testing.assert_allclose(image.info["dpi"], (100, 200), rtol=1e-3)
        np.testing.assert_array_equal(np.asarray(image), DEEP >> 8)


# Limits

def test_row_20_our_limit_is_the_only_one_and_not_met_by_our_own_results(tmp_path, monkeypatch):
    path = saved(tmp_path/"a.png", Image.fromarray(RGB))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_rgb8(path).shape == RGB.shape and picture_size(path) == RGB.shape[:2]
    write_picture(tmp_path/"b.bmp", RGB)
    assert read_rgb8(tmp_path/"b.bmp").shape == RGB.shape
    assert Image.MAX_IMAGE_PIXELS == 10
    with pytest.raises(PictureError, match="a.png is 40x24 and takes 2,880 bytes when it is decoded, allowed are 2,879: .*larger `max_bytes`"):
        read_picture(path, max_bytes=2879)
    read_picture(path, max_bytes=2880)
    assert MAX_BYTES >= 6*16*2400*2400 # our own results, upscaled once more, with 16 bits

def png_bomb(width, height, depth, colour):
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*pair) for pair in chunks)

def tiff_bomb(width, height, bits):
    tags = (256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 100)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags) + bytes(100)

def bmp_bomb(width, height): return b"BM" + struct.pack("<IIIIIIHHIIIIII", 54, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(100)
def gif_bomb(width, height): return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\2\1\0\0;"

def jpeg_bomb(tmp_path, width, height):
    data = saved(tmp_path/"small.jpg", Image.fromarray(RGB)).read_bytes()
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at+4:]

@pytest.mark.parametrize("name", ["rgb.png", "deep.png", "grey.png", "one.png", "a.tif", "deep.tif", "a.bmp", "a.gif", "a.jpg"])
def test_row_20_a_bomb_is_refused_before_it_is_decoded(tmp_path, name):
    data = {"rgb.png": lambda: png_bomb(100_000, 100_000, 8, 2), "deep.png": lambda: png_bomb(20_000, 20_000, 16, 2),
            "grey.png": lambda: png_bomb(30_000, 30_000, 8, 0), "one.png": lambda: png_bomb(30_000, 30_000, 1, 0),
            "a.tif": lambda: tiff_bomb(60_000, 60_000, 8), "deep.tif": lambda: tiff_bomb(30_000, 30_000, 16), "a.bmp": lambda: bmp_bomb(60_000, 60_000),
            "a.gif": lambda: gif_bomb(65_000, 65_000), "a.jpg": lambda: jpeg_bomb(tmp_path, 65_000, 65_000)}[name]()
    (tmp_path/name).write_bytes(data)
    assert len(data) < 2000
    script = ("import resource, sys; from paintsr_nb.picture import read_picture; before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
              "try: read_picture(sys.argv[1])\nexcept ValueError as error: print(error)\n"
              "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)")
    done = subprocess.run([sys.executable, "-c", script, tmp_path/name], capture_output=True, text=True, check=True)
    message, grown = done.stdout.splitlines()
    assert name in message and "bytes when it is decoded, allowed are 2,000,000,000" in message and done.stderr == ""
    assert int(grown) < 50_000 # kB

def test_row_20_a_png_too_short_for_its_pixels_is_not_decoded(tmp_path):
    (tmp_path/"a.png").write_bytes(png_bomb(16_000_000, 20, 8, 2))
    with pytest.raises(PictureError, match="a.png is broken .* bytes cannot hold 16000000x20 pixels"): read_picture(tmp_path/"a.png")
    write_picture(tmp_path/"b.png", np.zeros((3000, 3000, 3), np.uint8))   # as small as deflate makes it
    assert read_rgb8(tmp_path/"b.png").max() == 0

def test_threads_read_side_by_side_and_the_switches_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    path, errors = saved(tmp_path/"a.png", Image.fromarray(RGB)), []
    def work():
        try:
            for _ in range(40): read_rgb8(path)
        except Exception as error: errors.append(error)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert not errors and (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == (10, True)

@pytest.mark.parametrize("name, height, width", [("a.jpg", 65_501, 1), ("a.webp", 1, 16_384), ("a.avif", 16_385, 1), ("a.bmp", 40_000, 40_000)])
def test_row_19_formats_that_are_too_small_say_so_before_encoding(name, height, width):
    with pytest.raises(PictureError, match=f"{width}x{height} is too large"): check_writable(name, height, width)
    check_writable("a.png", height, width)
    check_writable("a.tif", height, width)

def test_row_19_a_tiff_beyond_4_gb_becomes_a_bigtiff(tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "_CLASSIC_TIFF", 1000)
    rest = PictureRest(dpi=(300.0, 300.0), xmp=b"<x/>", icc=srgb_profile(), alpha=ALPHA)
    write_picture(tmp_path/"a.tif", RGB, rest)
    assert (tmp_path/"a.tif").read_bytes()[:4] == b"II+\0"
    pixels, found = read_picture(tmp_path/"a.tif")
    np.testing.assert_array_equal(pixels, RGB)
    np.testing.assert_array_equal(found.alpha, ALPHA)
    assert (found.dpi, found.xmp, found.icc) == (rest.dpi, rest.xmp, rest.icc)

def test_the_limits_of_jpeg_and_webp_are_the_true_ones(tmp_path):
    write_picture(tmp_path/"a.jpg", np.zeros((65_500, 1, 3), np.uint8))
    write_picture(tmp_path/"a.webp", np.zeros((1, 16_383, 3), np.uint8))
    assert picture_size(tmp_path/"a.jpg") == (65_500, 1) and picture_size(tmp_path/"a.webp") == (1, 16_383)

def test_what_a_format_cannot_hold_is_refused():
    for name in ("a.jpg", "a.bmp"):
        with pytest.raises(PictureError, match="no transparency"): check_writable(name, 4, 4, alpha=True)
    for name in ("a.jpg", "a.webp", "a.bmp"):
        with pytest.raises(PictureError, match="8 bits a channel, not 16"): check_writable(name, 4, 4, np.uint16)
    for name in ("a.psd", "a", "a.png.tmp"):
        with pytest.raises(PictureError, match="no format for the suffix"): check_writable(name, 4, 4)


# Broken files and odd names

@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp", "a.bmp", "a.gif", "a.avif"])
def test_a_cut_file_is_an_error_that_names_it(tmp_path, name, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = saved(tmp_path/name, Image.fromarray(noise)).read_bytes()
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True) # as other libraries leave it
    for part in (0.1, 0.5, 0.9):
        (tmp_path/name).write_bytes(data[:int(len(data)*part)])
        with pytest.raises(PictureError, match=name): read_picture(tmp_path/name)

@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp", "a.gif"])
def test_damaged_bytes_give_a_picture_or_a_picture_error(tmp_path, name):
    data = saved(tmp_path/name, Image.fromarray(RGB)).read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[rng.integers(0, len(data), 3)] = rng.integers(0, 256, 3)
        (tmp_path/name).write_bytes(damaged.tobytes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for read in (read_picture, picture_size):
                try: read(tmp_path/name)
                except PictureError as error: assert name in str(error)

def test_what_is_no_picture(tmp_path):
    (tmp_path/"empty.png").touch()
    (tmp_path/"notes.jpg").write_text("not a picture")
    for read in (read_picture, read_rgb8, picture_size):
        with pytest.raises(PictureError, match="is empty"): read(tmp_path/"empty.png")
        with pytest.raises(PictureError, match="is no picture we know"): read(tmp_path/"notes.jpg")
        with pytest.raises(PictureError, match="is a folder"): read(tmp_path)
        with pytest.raises(FileNotFoundError, match="no file .*nowhere.png"): read(tmp_path/"nowhere.png")

def test_a_wrong_suffix_does_not_matter(tmp_path):
    np.testing.assert_array_equal(read_rgb8(saved(tmp_path/"really.jpg", Image.fromarray(RGB), format="PNG")), RGB)

@pytest.mark.parametrize("stem", ["Nymphéas à Giverny", "睡蓮", "Водяные лилии", "one #2 (50%) & co", "a.b.c", " lead", "x"*200, "bridge 🌉"])
def test_row_37_any_name_will_do(tmp_path, stem):
    path = tmp_path/"Ölbilder, alt"/f"{stem}.png"
    write_picture(path, RGB)
    np.testing.assert_array_equal(read_rgb8(path), RGB)
    np.testing.assert_array_equal(read_rgb8(str(path)), RGB)
    assert picture_size(path) == RGB.shape[:2] and [p.name for p in path.parent.iterdir()] == [path.name]


# Writing

@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_row_35_quality_has_an_effect(tmp_path, suffix):
    noisy = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    sizes = []
    for quality in (30, 80, 95):
        write_picture(tmp_path/f"a{suffix}", noisy, quality=quality)
        sizes.append((tmp_path/f"a{suffix}").stat().st_size)
    assert sizes == sorted(sizes) and sizes[0] < sizes[2]*0.7
    for quality in (0, 101):
        with pytest.raises(ValueError, match="expected 1 to 100"): write_picture(tmp_path/f"a{suffix}", noisy, quality=quality)

def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path/"a.png"
    write_picture(path, RGB)
    before = path.read_bytes()
    def full_disk(target, *_, **__):
        target.write_bytes(b"\x89PNG half")
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(picture, "_encode", full_disk)
    with pytest.raises(OSError, match="No space left"): write_picture(path, RGB[::-1])
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.png"]

@pytest.mark.parametrize("written", [b"", b"\x89PNG half"])
def test_what_was_not_written_right_never_takes_the_name(tmp_path, monkeypatch, written):
    monkeypatch.setattr(picture, "_encode", lambda target, *_, **__: target.write_bytes(written))
    with pytest.raises(PictureError, match="a.png"): write_picture(tmp_path/"a.png", RGB)
    assert not list(tmp_path.iterdir())

def test_a_picture_of_the_wrong_size_never_takes_the_name(tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "_encode", lambda target, *_, **__: Image.new("RGB", (3, 3)).save(target, format="PNG"))
    with pytest.raises(PictureError, match="was written as"): write_picture(tmp_path/"a.png", RGB)
    assert not list(tmp_path.iterdir())

@pytest.mark.parametrize("pixels", [RGB/255, RGB[..., 0], RGB.astype(np.int64), RGB[:0], np.dstack([RGB, ALPHA])])
def test_pixels_that_cannot_be_written(tmp_path, pixels):
    with pytest.raises(ValueError, match="expected .H,W,3. uint8 or uint16"): write_picture(tmp_path/"a.png", pixels)

def test_an_alpha_of_another_size_is_refused(tmp_path):
    for alpha in (ALPHA[1:], ALPHA.astype(np.uint16)):
        with pytest.raises(ValueError, match="enlarge it"): write_picture(tmp_path/"a.png", RGB, PictureRest(alpha=alpha))

def test_the_same_picture_gives_the_same_bytes(tmp_path):
    rest = PictureRest(icc=srgb_profile(), dpi=(300.0, 300.0))
    for name, pixels in (("a.png", RGB), ("b.png", DEEP), ("c.tif", RGB), ("d.jpg", RGB), ("e.webp", RGB), ("f.avif", RGB)):
        write_picture(tmp_path/name, pixels, rest)
        first = (tmp_path/name).read_bytes()
        write_picture(tmp_path/name, pixels, rest)
        assert (tmp_path/name).read_bytes() == first

def test_views_and_slices_are_written_as_they_look(tmp_path):
    write_picture(tmp_path/"a.png", RGB[::-2, ::3])
    np.testing.assert_array_equal(read_rgb8(tmp_path/"a.png"), RGB[::-2, ::3])


# Every format with every mode, depth and note

ARTIST = Image.Exif()
ARTIST[0x013B], ARTIST[0x8769], ARTIST[0x8825] = "Rosa Bonheur", {0x9003: "1889:06:18 04:40:00"}, {1: "N", 2: (43.0, 47.0, 0.0)}
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description dc:rights="CC0" tiff:Orientation="1"/></x:xmpmeta>'
IPTC = b"\x1c\x02\x74\0\x03CC0\x1c\x02\x05\0\x06Dahlia"
TEXT = ("Title", "Dahlia"), ("Author", "Rosa Bonheur, dite « Raton »"), ("Motif", "睡蓮")
P3 = coded_profile(12, 13)
GREY22 = make_profile(None, 2.2)
ROOM = dict(png="icc dpi exif xmp iptc text deep alpha grey", tif="icc dpi exif xmp iptc deep alpha grey", jpg="icc dpi exif xmp iptc text grey",
            webp="icc dpi exif xmp alpha", avif="icc dpi exif xmp alpha grey", bmp="dpi grey")

@pytest.mark.parametrize("suffix", ROOM)
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("noted", [False, True])
def test_row_34_the_matrix_of_format_mode_depth_and_notes(tmp_path, suffix, grey, deep, alpha, noted):
    pixels = DEEP if deep else RGB
    if grey: pixels = np.ascontiguousarray(pixels[..., [0, 0, 0]])
    notes = dict(icc=GREY22 if grey else P3, dpi=(300.0, 150.0), exif=ARTIST.tobytes(), xmp=XMP, iptc=IPTC, text=TEXT) if noted else {}
    rest = PictureRest(alpha=np.ascontiguousarray(pixels[..., 1]) if alpha else None, grey=grey, **notes)
    path, room = tmp_path/f"a.{suffix}", ROOM[suffix].split()
    if deep and "deep" not in room or alpha and "alpha" not in room:
        with pytest.raises(PictureError, match=f"a.{suffix}: .* holds no transparency|8 bits a channel, not 16"): write_picture(path, pixels, rest)
        assert not list(tmp_path.iterdir())
        return
    converted = noted and (suffix == "bmp" or grey and suffix in ("webp", "avif")) # no room for such a profile
    lost = [name for name in ("exif", "xmp", "iptc", "text") if noted and name not in room]
    with pytest.warns(UserWarning, match=f"has no room for its {', '.join(lost)}: left out") if lost else nullcontext(): write_picture(path, pixels, rest, quality=100)
    assert (tmp_path/f"a.{suffix}").stat().st_size < 10_000
    found_pixels, found = read_picture(path)
    assert found.grey == (grey and "grey" in room) and found_pixels.dtype == pixels.dtype
    expected = to_srgb(pixels[..., :1] if grey else pixels, notes["icc"]) if converted else pixels
    assert np.abs(found_pixels.astype(int) - expected).max() <= dict(jpg=3, avif=4).get(suffix, 0)
    assert (found.alpha is None) == (not alpha)
    if alpha: assert np.abs(found.alpha.astype(int) - rest.alpha).max() <= (2 if suffix == "avif" else 0)
    assert found.icc == (None if converted or not noted else notes["icc"])
    for name in ("dpi", "xmp", "iptc"): assert getattr(found, name) == (notes.get(name) if name in room else None), name
    if noted and "exif" in room: assert read_tags(io.BytesIO(found.exif[6:])) == read_tags(io.BytesIO(rest.exif[6:]))
    else: assert found.exif is None
    if suffix == "jpg" and noted: assert found.text == (("Comment", "\n".join(f"{key}: {value}" for key, value in TEXT)),)
    else: assert found.text == (TEXT if noted and suffix == "png" else ())

def test_row_34_notes_are_where_other_programs_look_for_them(tmp_path):
    rest = PictureRest(icc=P3, dpi=(300.0, 300.0), exif=ARTIST.tobytes(), xmp=XMP, iptc=IPTC, text=TEXT)
    for suffix in ("png", "jpg", "tif", "webp", "avif"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write_picture(tmp_path/f"a.{suffix}", RGB, rest)
        with Image.open(tmp_path/f"a.{suffix}") as image:
            assert image.getexif()[0x013B] == "Rosa Bonheur" and image.getexif().get_ifd(0x8825)[2] == (43.0, 47.0, 0.0)
            assert image.info["icc_profile"] == P3
            if suffix in ("png", "jpg", "tif"): np.testing.assert_allclose(np.array(image.info["dpi"], float), 300, rtol=1e-4)
            if suffix == "png": assert image.text["Title"] == "Dahlia" and image.text["Motif"] == "睡蓮"
            if suffix == "jpg": assert b"Title: Dahlia" in image.info["comment"] and image.info["photoshop"][0x0404] == IPTC
            if suffix == "tif": assert image.tag_v2[33723] in (IPTC, (IPTC,))
        kind = dict(png="png", jpg="jpeg", tif="tiff", webp="webp", avif="heif")[suffix]
        seen = getattr(pyvips.Image, f"{kind}load")(str(tmp_path/f"a.{suffix}"))
        assert bytes(seen.get("xmp-data")).rstrip(b"\0") == XMP
        if suffix == "jpg": assert IPTC in bytes(seen.get("iptc-data"))

def test_notes_that_others_wrote_are_found(tmp_path):
    segment = b"Photoshop 3.0\x008BIM\x04\x0a\0\0\0\0\0\x0201" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC + bytes(len(IPTC) % 2)
    extra = b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment
    _, rest = read_picture(saved(tmp_path/"a.jpg", Image.fromarray(RGB), xmp=XMP.replace(b'="1"', b'="6"'), comment="trouvée à Nice", extra=extra))
    assert (rest.xmp, rest.iptc, rest.text) == (XMP, IPTC, (("Comment", "trouvée à Nice"),)) # and it lies no more on its side
    tags = {700: XMP, 33723: IPTC, 0x8298: "CC0"}
    _, rest = read_picture(saved(tmp_path/"a.tif", Image.fromarray(RGB), tiffinfo=tags))
    assert (rest.xmp, rest.iptc, read_tags(io.BytesIO(rest.exif[6:]))) == (XMP, IPTC, {0x8298: "CC0"})
    data = saved(tmp_path/"b.tif", Image.fromarray(RGB), tiffinfo={33723: IPTC.ljust(20, b"\0")}).read_bytes()
    (tmp_path/"b.tif").write_bytes(data.replace(struct.pack("<HHI", 33723, 7, 20), struct.pack("<HHI", 33723, 4, 5)))   # as Photoshop says it
    assert read_picture(tmp_path/"b.tif")[1].iptc == IPTC.ljust(20, b"\0")
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "Dahlia")
    info.add_text("Story", "long "*100, zip=True)
    info.add_itxt("Motif", "睡蓮", lang="ja", zip=True)
    _, rest = read_picture(saved(tmp_path/"a.png", Image.fromarray(RGB), pnginfo=info))
    assert rest.text == (("Title", "Dahlia"), ("Story", "long "*100), ("Motif", "睡蓮"))
    behind = (tmp_path/"a.png").read_bytes()[:-12] + chunk(b"tEXt", b"Late\0behind the pixels") + chunk(b"IEND", b"")
    (tmp_path/"b.png").write_bytes(behind)
    assert read_picture(tmp_path/"b.png")[1].text[-1] == ("Late", "behind the pixels")

def test_a_note_too_long_for_a_jpeg_is_left_out_with_a_word(tmp_path):
    long = PictureRest(xmp=b"<x>" + bytes(70_000), iptc=IPTC, dpi=(72.0, 72.0))
    with pytest.warns(UserWarning, match="a.jpg: JPEG has no room for its xmp: left out"): write_picture(tmp_path/"a.jpg", RGB, long)
    assert read_picture(tmp_path/"a.jpg")[1].iptc == IPTC
    write_picture(tmp_path/"a.png", RGB, long)
    assert read_picture(tmp_path/"a.png")[1].xmp == long.xmp

def test_damaged_notes_cost_themselves_and_a_word(tmp_path):
    data = saved(tmp_path/"a.png", Image.fromarray(RGB)).read_bytes()
    for kind, body, what in ((b"zTXt", b"Title\0\0nonsense", "text"), (b"iTXt", b"Title\0\0\0", "text"), (b"iCCP", b"icc\0\0nonsense", "colour profile"),
                             (b"eXIf", b"nonsense", "EXIF block"), (b"iTXt", b"Title\0\0\0\0\0\xff\xfe", "text")):
        (tmp_path/"a.png").write_bytes(with_chunk(data, kind, body))
        with pytest.warns(UserWarning, match=f"a.png: its {what} is damaged"): pixels, rest = read_picture(tmp_path/"a.png")
        np.testing.assert_array_equal(pixels, RGB)
        assert rest == PictureRest()

@pytest.mark.parametrize("suffix", ["tif", "jpg", "png", "webp", "avif", "bmp"])
def test_row_34_no_resolution_is_invented(tmp_path, suffix):
    saved(tmp_path/f"a.{suffix}", Image.fromarray(RGB), exif=ARTIST.tobytes(), **(dict(dpi=(0, 0)) if suffix == "bmp" else {}))
    pixels, rest = read_picture(tmp_path/f"a.{suffix}")
    assert rest.dpi is None
    write_picture(tmp_path/f"b.{suffix}", pixels, rest.enlarged(4))
    assert read_picture(tmp_path/f"b.{suffix}")[1].dpi is None
    if suffix == "tif":
        with Image.open(tmp_path/"b.tif") as image: assert not {282, 283, 296} & set(image.tag_v2)

def test_resolution_in_centimetres_and_without_a_unit(tmp_path):
    assert read_picture(saved(tmp_path/"a.tif", Image.fromarray(RGB), tiffinfo={282: 100.0, 283: 50.0, 296: 3}))[1].dpi == (254, 127)
    assert read_picture(saved(tmp_path/"b.tif", Image.fromarray(RGB), tiffinfo={282: 1.0, 283: 1.0, 296: 1}))[1].dpi is None


# Grey

@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.avif"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
def test_row_30_grey_stays_grey(tmp_path, name, mode):
    suffix = name[2:]
    if mode in ("LA", "I;16") and suffix in ("jpg", "avif") or mode == "1" and suffix in ("jpg", "avif"): pytest.skip("no such file")
    made = {"1": lambda: grey().convert("1"), "L": grey, "LA": lambda: Image.merge("LA", [grey(), Image.fromarray(ALPHA)]), "I;16": lambda: Image.fromarray(DEEP[..., 0])}[mode]()
    pixels, rest = read_picture(saved(tmp_path/name, made, **(dict(subsampling="4:0:0") if suffix == "avif" else {})))
    assert rest.grey and pixels.shape == (HEIGHT, WIDTH, 3) and (pixels == pixels[..., :1]).all()
    tinted = pixels.copy()
    tinted[..., 0] -= np.minimum(tinted[..., 0], 1)
    write_picture(tmp_path/f"b{name}", tinted, rest, quality=100)   # as a net tints
    kind = dict(png="pngload", tif="tiffload", jpg="jpegload", avif="heifload")[suffix]
    image = getattr(pyvips.Image, kind)(str(tmp_path/f"b{name}"))
    assert (suffix == "avif" or image.interpretation in ("b-w", "grey16")) and image.format == ("ushort" if mode == "I;16" else "uchar")
    again, found = read_picture(tmp_path/f"b{name}")
    assert found.grey and (again == again[..., :1]).all() and np.abs(again.astype(int) - pixels).max() <= (2 if suffix in ("jpg", "avif") else 0)

def test_a_palette_of_greys_is_grey(tmp_path):
    for name in ("a.gif", "a.png"): assert read_picture(saved(tmp_path/name, grey().convert("P") if name == "a.gif" else grey().quantize(32)))[1].grey
    assert not read_picture(saved(tmp_path/"b.gif", palette()))[1].grey

def test_premultiplied_opacity_is_undone(tmp_path):
    alpha = np.clip(ALPHA, 40, 255)
    levels = np.dstack([(RGB*(alpha[..., None]/255)).round().astype(np.uint8), alpha])
    pyvips.Image.new_from_array(levels, interpretation="srgb").tiffsave(str(tmp_path/"a.tif"))
    data = (tmp_path/"a.tif").read_bytes()
    entry = data.rindex(struct.pack("<HHI", 338, 3, 1))
    (tmp_path/"b.tif").write_bytes(data[:entry+8] + struct.pack("<H", 1) + data[entry+10:])
    pixels, rest = read_picture(tmp_path/"b.tif")
    assert np.abs(pixels.astype(int) - RGB).max() <= 4
    np.testing.assert_array_equal(rest.alpha, alpha)

class Enlarged:
    "A stand-in for the engine: every pixel four times four."
    scale, allowed = 4, 2**40
    def fitting(self, *_): return self, ""
    def __call__(self, pixels, **_): return pixels.repeat(4, 0).repeat(4, 1)

def test_row_32_transparent_edges_are_clean(tmp_path):
    from paintsr_nb.upscaling.folder import upscale_file
    round_mask = np.where(np.hypot(x - 20, y - 12) < 10, 255, 0).astype(np.uint8)
    for suffix in ("png", "tif", "webp"):
        write_picture(tmp_path/f"a.{suffix}", np.where(round_mask[..., None] > 0, RGB, 0).astype(np.uint8), PictureRest(alpha=round_mask), quality=100)
        upscale_file(tmp_path/f"a.{suffix}", tmp_path/f"b.{suffix}", Enlarged())
        pixels, rest = read_picture(tmp_path/f"b.{suffix}")
        seen = rest.alpha > 0
        assert rest.alpha[0, 0] == 0 and rest.alpha[48, 80] == 255 and len(np.unique(rest.alpha)) > 9   # it fades, and not in blocks
        assert pixels[seen].max(1).min() > 60   # no black from outside creeps in


# Colours

def lab_of(pixels, icc):
    image = pyvips.Image.new_from_array(pixels).copy(interpretation="rgb16" if pixels.dtype == np.uint16 else "srgb")
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc)
    return image.icc_import(pcs="lab", intent="relative", embedded=True).numpy()

WIDE = {"Display P3": P3, "Adobe RGB": rgb_profile(ADOBE, 2.19921875), "linear": make_profile([(0.64, 0.33), (0.30, 0.60), (0.15, 0.06), (0.3127, 0.3290)], 1.0)}

@pytest.mark.parametrize("space", WIDE)
@pytest.mark.parametrize("suffix, bound", [("png", 0), ("tif", 0), ("webp", 6), ("jpg", 5), ("avif", 5)])
def test_row_28_wide_gamut_goes_round_unchanged(tmp_path, space, suffix, bound):
    from paintsr_nb.upscaling.folder import upscale_file
    icc = WIDE[space]
    Image.fromarray(RGB).save(tmp_path/"a.png", icc_profile=icc)
    upscale_file(tmp_path/"a.png", tmp_path/f"b.{suffix}", Enlarged())
    pixels, rest = read_picture(tmp_path/f"b.{suffix}")
    assert rest.icc == icc
    apart = np.linalg.norm(lab_of(pixels, icc) - lab_of(RGB.repeat(4, 0).repeat(4, 1), icc), axis=-1)
    assert apart.mean() <= bound*0.4 and np.percentile(apart, 99) <= bound
    with Image.open(tmp_path/f"b.{suffix}") as image: assert image.info["icc_profile"] == icc   # as other programs see it

def test_row_28_sixteen_bit_wide_gamut_too(tmp_path):
    for suffix in ("png", "tif"):
        write_picture(tmp_path/f"a.{suffix}", DEEP, PictureRest(icc=P3))
        pixels, rest = read_picture(tmp_path/f"a.{suffix}")
        np.testing.assert_array_equal(pixels, DEEP)
        assert rest.icc == P3

def test_row_28_asked_for_srgb_is_near_in_srgb(tmp_path):
    muted = RGB//4 + 96
    for icc in WIDE.values():
        pixels, rest = read_picture(saved(tmp_path/"a.png", Image.fromarray(muted), icc_profile=icc), srgb=True)
        assert rest.icc == srgb_profile() and np.linalg.norm(lab_of(pixels, rest.icc) - lab_of(muted, icc), axis=-1).max() < 1.5

def test_row_29_reading_and_writing_shift_no_colour(tmp_path):
    flat = np.full((8, 8, 3), (200, 60, 30), np.uint8)
    for suffix, slack in dict(png=0, tif=0, bmp=0, webp=0, jpg=2, avif=2).items():
        for _ in range(3):
            write_picture(tmp_path/f"a.{suffix}", flat, quality=100)
            assert np.abs(read_picture(tmp_path/f"a.{suffix}")[0].astype(int) - (200, 60, 30)).max() <= slack

def gamma_chunks(data, gamma=None, corners=None):
    if corners: data = with_chunk(data, b"cHRM", b"".join(struct.pack(">I", round(100_000*value)) for pair in corners for value in pair))
    if gamma: data = with_chunk(data, b"gAMA", struct.pack(">I", round(100_000*gamma)))
    return data

P3_CORNERS = (0.3127, 0.3290), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)
SRGB_CORNERS = (0.3127, 0.3290), (0.64, 0.33), (0.30, 0.60), (0.15, 0.06)

def test_gamma_and_primaries_of_a_png_are_honoured(tmp_path):
    data = saved(tmp_path/"a.png", Image.fromarray(RGB)).read_bytes()
    def read(changed, **options):
        (tmp_path/"a.png").write_bytes(changed)
        return read_picture(tmp_path/"a.png", **options)
    assert read(gamma_chunks(data, 0.45455, SRGB_CORNERS))[1].icc is None   # what most files say
    assert read(gamma_chunks(data, 0.45455, P3_CORNERS))[1].icc == P3
    pixels, rest = read(gamma_chunks(data, 1.0))
    np.testing.assert_array_equal(pixels, RGB)
    assert rest.icc == WIDE["linear"]
    light, _ = read(gamma_chunks(data, 1.0), srgb=True)
    expected = 255*np.where(RGB/255 <= 0.0031308, 12.92*RGB/255, 1.055*(RGB/255)**(1/2.4) - 0.055)
    assert np.abs(light - expected)[RGB > 12].max() < 2
    assert read(with_chunk(gamma_chunks(data, 1.0), b"sRGB", b"\0"))[1].icc is None   # sRGB goes before gamma
    assert read(with_chunk(data, b"cICP", bytes([12, 13, 0, 1])))[1].icc == P3
    assert read(with_chunk(data, b"cICP", bytes([1, 13, 0, 1])))[1].icc is None
    for chunks, match in ((with_chunk(data, b"cICP", bytes([9, 16, 0, 1])), "9/16 are not known"), (gamma_chunks(data, None, ((0.3, 0.3), (0, 0), (1, 0), (0, 1))), "four pairs")):
        with pytest.warns(UserWarning, match=f"a.png: its colour profile is of no use .*{match}"): pixels, rest = read(chunks)
        np.testing.assert_array_equal(pixels, RGB)
        assert rest.icc is None
    (tmp_path/"g.png").write_bytes(gamma_chunks(saved(tmp_path/"g.png", grey()).read_bytes(), 1.0))
    icc = read_picture(tmp_path/"g.png")[1].icc
    assert icc[16:20] == b"GRAY" and profile_shift(icc) > 60

def test_the_code_points_of_an_avif_are_honoured(tmp_path):
    data = saved(tmp_path/"a.avif", Image.fromarray(RGB)).read_bytes()
    assert read_picture(tmp_path/"a.avif")[1].icc is None
    at = data.index(b"colrnclx") + 8
    (tmp_path/"a.avif").write_bytes(data[:at] + struct.pack(">HH", 12, 13) + data[at+4:])
    assert read_picture(tmp_path/"a.avif")[1].icc == P3

def test_an_avif_of_10_and_12_bits_is_read_in_16(tmp_path):
    white = DEEP.copy()
    white[:4] = 65535
    for bits in (10, 12):
        try: pyvips.Image.new_from_array(white, interpretation="rgb16").heifsave(str(tmp_path/"a.avif"), compression="av1", bitdepth=bits, lossless=True)
        except pyvips.Error as error: pytest.skip(f"{error}")
        pixels, _ = read_picture(tmp_path/"a.avif")
        assert pixels.dtype == np.uint16 and (pixels[:4] == 65535).all() and np.abs(pixels.astype(int) - white).max() < 2*65536/2**bits

def test_cmyk_goes_through_its_profile_and_says_when_it_has_none(tmp_path):
    icc = bytes(pyvips.Operation.call("profile_load", "cmyk"))
    inks = Image.fromarray(RGB).convert("CMYK")
    for name in ("a.tif", "a.jpg"):
        pixels, rest = read_picture(saved(tmp_path/name, inks, icc_profile=icc, **(dict(quality=100) if name == "a.jpg" else {})))
        transform = ImageCms.buildTransform(ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB"), "CMYK", "RGB", 1, 0x2000)
        assert np.abs(pixels.astype(int) - np.asarray(ImageCms.applyTransform(inks, transform))).max() <= (2 if name == "a.tif" else 30)
        assert rest.icc == srgb_profile() and np.abs(pixels.astype(int) - RGB).mean() > 15   # paper is no screen
    pyvips.Image.new_from_array(np.asarray(inks).astype(np.uint16)*257, interpretation="cmyk").tiffsave(str(tmp_path/"b.tif"))
    with pytest.warns(UserWarning, match="b.tif: its inks have no profile"): pixels, _ = read_picture(tmp_path/"b.tif")
    np.testing.assert_array_equal(pixels, RGB.astype(np.uint16)*257)


# Damage

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
def vips(pixels): return pyvips.Image.new_from_array(pixels, interpretation={1: "b-w", 2: "rgb16"}[pixels.itemsize] if pixels.ndim == 3 and pixels.itemsize == 2 else "srgb")

WHOLE = {
    "deep.png": lambda path: vips(NOISE.astype(np.uint16)*257).pngsave(path), "rgb.png": lambda path: vips(NOISE).pngsave(path),
    "laced.png": lambda path: vips(NOISE).pngsave(path, interlace=True), "deep.tif": lambda path: vips(NOISE.astype(np.uint16)*257).tiffsave(path, compression="deflate", predictor="horizontal"),
    "tiles.tif": lambda path: vips(NOISE).tiffsave(path, compression="deflate", tile=True, tile_width=16, tile_height=16),
    "lzw.tif": lambda path: vips(NOISE).tiffsave(path, compression="lzw"), "g4.tif": lambda path: Image.fromarray(NOISE[..., 0]).convert("1").save(path, compression="group4"),
    "g3.tif": lambda path: Image.fromarray(NOISE[..., 0]).convert("1").save(path, compression="group3"),
    "jpeg.tif": lambda path: vips(NOISE).tiffsave(path, compression="jpeg"), "a.jpg": lambda path: Image.fromarray(NOISE).save(path),
    "fine.jpg": lambda path: Image.fromarray(NOISE).save(path, progressive=True), "a.webp": lambda path: Image.fromarray(NOISE).save(path, lossless=True),
    "a.avif": lambda path: Image.fromarray(NOISE).save(path), "a.gif": lambda path: Image.fromarray(NOISE).save(path),
}
BOUND = {"deep.png", "rgb.png", "laced.png", "deep.tif", "tiles.tif", "lzw.tif", "g4.tif", "g3.tif", "a.avif"} # formats that notice a hole in the middle

@pytest.mark.parametrize("name", WHOLE)
def test_damage_is_never_a_picture(tmp_path, name, capfd):
    path = tmp_path/name
    WHOLE[name](str(path))
    data = path.read_bytes()
    whole = read_picture(path)[0]
    middle = data.index(b"IDAT") + 400 if name.endswith("png") else len(data)//2
    holes = dict(half=data[:len(data)//2], nearly=data[:len(data)*9//10], zeroed=data[:middle] + bytes(300) + data[middle+300:])
    if name.endswith("png"): holes["checksum"] = data[:-16] + bytes([data[-16] ^ 1]) + data[-15:]
    for what, damaged in holes.items():
        if what == "zeroed" and name not in BOUND: continue
        path.write_bytes(damaged)
        with pytest.raises(PictureError, match=f"{name} is broken") as caught: read_picture(path)
        assert str(caught.value).count(name) == 1 and "\n" not in str(caught.value)
    path.write_bytes(data)
    np.testing.assert_array_equal(read_picture(path)[0], whole)
    assert capfd.readouterr() == ("", "")

def test_nothing_is_left_over_from_another_file(tmp_path, capfd):
    for name in WHOLE:
        WHOLE[name](str(tmp_path/name))
        (tmp_path/name).write_bytes((tmp_path/name).read_bytes()[:-200])
    def said(name):
        with pytest.raises(PictureError) as caught: read_picture(tmp_path/name)
        return str(caught.value).split("(", 1)[1]
    alone = {name: said(name) for name in WHOLE}
    for first in WHOLE:
        for second in WHOLE:
            assert said(first) == alone[first] and said(second) == alone[second]
    assert capfd.readouterr() == ("", "")

def test_damage_in_threads_has_each_its_own_words(tmp_path):
    for name in ("a.jpg", "g4.tif", "rgb.png"):
        WHOLE[name](str(tmp_path/name))
        (tmp_path/name).write_bytes((tmp_path/name).read_bytes()[:-300])
    said = {name: set() for name in ("a.jpg", "g4.tif", "rgb.png")}
    def work(name):
        for _ in range(30):
            try: read_picture(tmp_path/name)
            except PictureError as error: said[name].add(str(error))
    threads = [threading.Thread(target=work, args=(name,)) for name in said]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert all(len(words) == 1 for words in said.values())

def test_a_packing_that_is_not_known_here_is_named(tmp_path):
    Image.fromarray(RGB).save(tmp_path/"a.tif", compression="zstd")
    with pytest.raises(PictureError, match="a.tif is packed in a way that is not known here .ZSTD"): read_picture(tmp_path/"a.tif")

def test_row_35_a_jpeg_may_be_progressive_and_subsampled(tmp_path):
    write_picture(tmp_path/"a.jpg", NOISE)
    write_picture(tmp_path/"b.jpg", NOISE, progressive=True)
    write_picture(tmp_path/"c.jpg", NOISE, subsample=True)
    write_picture(tmp_path/"a.avif", NOISE)
    write_picture(tmp_path/"c.avif", NOISE, subsample=True)
    seen = [pyvips.Image.jpegload(str(tmp_path/f"{name}.jpg")) for name in "abc"]
    assert [image.get_typeof("interlaced") > 0 for image in seen] == [False, True, False]
    assert [image.get("jpeg-chroma-subsample") for image in seen] == ["4:4:4", "4:4:4", "4:2:0"]
    for suffix in ("jpg", "avif"): assert (tmp_path/f"c.{suffix}").stat().st_size < 0.9*(tmp_path/f"a.{suffix}").stat().st_size


# HEIC, which an extra reads

def heic(path, pixels, **options):
    "A HEIC without loss, of 8 bits, or of 10 where the pixels have 16."
    pillow_heif = pytest.importorskip("pillow_heif")
    pixels = np.ascontiguousarray(pixels)
    mode = {2: "L", 3: "RGB", 4: "RGBA"}[pixels.shape[2] if pixels.ndim == 3 else 2] + (";16" if pixels.dtype == np.uint16 else "")
    options = dict(quality=-1, chroma=444, matrix_coefficients=0) | options
    pillow_heif.from_bytes(options.pop("mode", mode), pixels.shape[1::-1], pixels.tobytes()).save(path, **options)
    return path

def retagged(data, old, new):
    "The same file with some bytes replaced by others, as many."
    assert data.count(old) == 1 and len(old) == len(new)
    return data.replace(old, new)

def test_a_heic_is_read_like_any_picture(tmp_path):
    for name, pixels in dict(rgb=RGB, rgba=np.dstack([RGB, ALPHA]), opaque=np.dstack([RGB, np.full_like(ALPHA, 255)]), grey=RGB[..., 0]).items():
        path = heic(tmp_path/f"{name}.heic", pixels)
        found, rest = read_picture(path)
        assert (found.shape, found.dtype, rest.icc, rest.grey) == (RGB.shape, np.uint8, None, name == "grey")
        assert found.flags.writeable and found.flags.c_contiguous and picture_size(path) == (HEIGHT, WIDTH)
        np.testing.assert_array_equal(found, RGB[..., [0, 0, 0]] if name == "grey" else RGB)
        assert (rest.alpha is not None) == (name == "rgba")
        if name == "rgba": np.testing.assert_array_equal(rest.alpha, ALPHA)
    os.rename(tmp_path/"rgb.heic", tmp_path/"rgb.jpg")
    np.testing.assert_array_equal(read_rgb8(tmp_path/"rgb.jpg"), RGB)

def test_a_heic_of_10_and_12_bits_is_read_in_16(tmp_path, monkeypatch):
    white = DEEP.copy()
    white[:4] = 65535
    for bits in (10, 12):
        monkeypatch.setattr("pillow_heif.options.SAVE_HDR_TO_12_BIT", bits == 12)
        pixels, _ = read_picture(heic(tmp_path/"a.heic", white))
        assert pixels.dtype == np.uint16 and (pixels[:4] == 65535).all() and 0 < np.abs(pixels.astype(int) - white).max() < 2*65536/2**bits
        pixels, rest = read_picture(heic(tmp_path/"b.heic", np.dstack([white, white[..., 1]])))
        assert pixels.dtype == np.uint16 and rest.alpha.dtype == np.uint16 and np.abs(rest.alpha.astype(int) - white[..., 1]).max() < 2*65536/2**bits

def test_colours_of_a_heic_that_were_multiplied_by_its_opacity_are_divided_again(tmp_path):
    for pixels, top in ((RGB, 255), (DEEP, 65535)):
        alpha = np.full(ALPHA.shape, top//2 + 1, pixels.dtype)
        seen = (pixels/2).astype(pixels.dtype)
        mode = "RGBa" + (";16" if top > 255 else "")
        found, rest = read_picture(heic(tmp_path/"a.heic", np.dstack([seen, alpha]), mode=mode))
        assert found.dtype == pixels.dtype and np.abs(found.astype(int) - pixels).max() <= top//100
        assert np.abs(rest.alpha.astype(int) - alpha).max() <= top//1000

@pytest.mark.parametrize("orientation", range(1, 9))
def test_row_31_a_heic_is_turned_once(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x013B], exif[282], exif[283], exif[296] = orientation, "Rosa Bonheur", 100, 200, 2
    data = heic(tmp_path/"a.heic", np.dstack([RGB, ALPHA]), exif=exif.tobytes()).read_bytes()
    assert (b"irot" in data or b"imir" in data) == (orientation > 1)
    pixels, rest = read_picture(tmp_path/"a.heic")
    image = Image.fromarray(np.dstack([RGB, ALPHA]))
    image.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(np.dstack([pixels, rest.alpha]), np.asarray(ImageOps.exif_transpose(image)))
    assert picture_size(tmp_path/"a.heic") == pixels.shape[:2]
    assert read_tags(io.BytesIO(rest.exif[6:])) == {0x013B: "Rosa Bonheur"}
    assert rest.dpi == ((200, 100) if orientation > 4 else (100, 200))

def test_the_orientation_in_the_exif_of_a_heic_is_a_remark(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 1
    data = heic(tmp_path/"a.heic", RGB, exif=exif.tobytes()).read_bytes()
    upright, turned = (struct.pack(">HHIH", 0x0112, 3, 1, orientation) for orientation in (1, 6))
    (tmp_path/"a.heic").write_bytes(retagged(data, upright, turned))
    np.testing.assert_array_equal(read_rgb8(tmp_path/"a.heic"), RGB)   # irot and imir turn it, by the standard
    assert picture_size(tmp_path/"a.heic") == (HEIGHT, WIDTH)

def test_row_34_a_heic_keeps_profile_and_notes(tmp_path):
    heic(tmp_path/"a.heic", RGB, exif=ARTIST.tobytes(), xmp=XMP.replace(b'="1"', b'="6"'), icc_profile=P3)
    pixels, rest = read_picture(tmp_path/"a.heic")
    assert (rest.icc, rest.xmp) == (P3, XMP) and read_tags(io.BytesIO(rest.exif[6:])) == read_tags(io.BytesIO(ARTIST.tobytes()[6:]))
    np.testing.assert_array_equal(read_picture(tmp_path/"a.heic", srgb=True)[0], to_srgb(pixels, P3))
    write_picture(tmp_path/"a.png", pixels, rest)
    again = read_picture(tmp_path/"a.png")[1]
    assert (again.icc, again.xmp, again.exif) == (P3, XMP, rest.exif)
    data = heic(tmp_path/"b.heic", RGB).read_bytes()
    (tmp_path/"b.heic").write_bytes(retagged(data, b"colrnclx" + struct.pack(">HH", 1, 13), b"colrnclx" + struct.pack(">HH", 12, 13)))
    assert read_picture(tmp_path/"b.heic")[1].icc == P3

def test_damage_in_a_heic_is_never_a_picture(tmp_path, capfd):
    noise = np.random.default_rng(0).integers(0, 256, (128, 160, 4), dtype=np.uint8)
    path = tmp_path/"a.heic"
    for pixels, options in ((noise[..., :3], {}), (noise, {}), (noise[..., :3], dict(tile_size=64))):   # tiles, as telephones write them
        data = heic(path, pixels, **options).read_bytes()
        np.testing.assert_array_equal(read_picture(path)[0], noise[..., :3])
        for length in (20, len(data)//10, len(data)//2, len(data)*9//10, len(data) - 1):
            path.write_bytes(data[:length])
            with pytest.raises(PictureError, match="a.heic is broken") as caught: read_picture(path)
            assert str(caught.value).count("a.heic") == 1 and "\n" not in str(caught.value)
        path.write_bytes(data + b"SEFT behind it")   # some cameras leave words of their own
        np.testing.assert_array_equal(read_picture(path)[0], noise[..., :3])
    assert capfd.readouterr() == ("", "")

def test_a_heic_of_too_many_bytes_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = heic(tmp_path/"a.heic", DEEP)
    monkeypatch.setattr("pillow_heif.HeifImage.load", lambda image: pytest.fail("it was decoded"))
    with pytest.raises(PictureError, match="a.heic is 40x24 and takes 5,760 bytes .* pass a larger `max_bytes`"): read_picture(path, max_bytes=5759)
    assert decoded_size(path) == (HEIGHT, WIDTH, 6) and picture_size(path) == (HEIGHT, WIDTH)

def test_a_heic_whose_pixels_are_not_of_its_size(tmp_path):
    data = heic(tmp_path/"a.heic", np.zeros((64, 128, 3), np.uint8)).read_bytes()
    for size in ((128, 32), (100_000, 64)):
        (tmp_path/"a.heic").write_bytes(retagged(data, b"ispe" + struct.pack(">III", 0, 128, 64), b"ispe" + struct.pack(">III", 0, *size)))
        with pytest.raises(PictureError, match="a.heic is broken"): read_picture(tmp_path/"a.heic")

def test_names_that_heic_files_give_themselves(tmp_path):
    data = heic(tmp_path/"a.heic", RGB).read_bytes()
    assert data[4:12] in (b"ftypheix", b"ftypheic")
    for brand in (b"heic", b"heix", b"mif1"):
        (tmp_path/"a.heic").write_bytes(data[:8] + brand + data[12:])
        np.testing.assert_array_equal(read_rgb8(tmp_path/"a.heic"), RGB)
    data = saved(tmp_path/"a.avif", Image.fromarray(RGB)).read_bytes()
    expected = read_rgb8(tmp_path/"a.avif")
    (tmp_path/"a.avif").write_bytes(retagged(data, b"ftypavif", b"ftypmif1"))
    np.testing.assert_array_equal(read_rgb8(tmp_path/"a.avif"), expected)   # the other brands say what it is

def test_without_the_extra_a_heic_is_named_and_how_to_read_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)   # importing it would fail
    (tmp_path/"a.heic").write_bytes(bytes.fromhex("0000001c") + b"ftypheic" + bytes(200))
    for read in (read_picture, read_rgb8, picture_size, decoded_size):
        with pytest.raises(PictureError, match=r'a.heic: reading HEIC needs pillow-heif: pip install "paintsr_nb\[heic\]"$'): read(tmp_path/"a.heic")

def test_pillow_heif_is_imported_by_a_heic_alone():
    script = "import sys, paintsr_nb.strips; assert 'pillow_heif' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)

def test_a_heic_is_not_written(tmp_path):
    with pytest.raises(PictureError, match="no format for the suffix '.heic'"): write_picture(tmp_path/"a.heic", RGB)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_reads_and_does_not_hang(tmp_path):
    write_picture(tmp_path/"a.png", NOISE, PictureRest(icc=P3))
    write_picture(tmp_path/"a.tif", NOISE)
    script = """import os, signal, sys
from paintsr_nb.picture import read_rgb8, write_picture
pixels = [read_rgb8(path) for path in sys.argv[1:]]
write_picture(sys.argv[1] + ".tif", pixels[0])
if not os.fork():
    signal.alarm(20)   # ends a child that hangs
    for path, known in zip(sys.argv[1:], pixels): assert (read_rgb8(path) == known).all()
    try: write_picture(sys.argv[1] + ".png", pixels[0])
    except RuntimeError as error: os._exit(7 if "spawn" in str(error) else 1)
print(os.waitstatus_to_exitcode(os.wait()[1]))"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path/"a.png", tmp_path/"a.tif"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "7\n"


# Whole levels

def test_levels_are_clamped_then_rounded_half_up():
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(to_uint8(np.array([-1, 0, 0.5/255, 1.5/255, 0.9999, 1, 7], dtype)), [0, 0, 1, 2, 255, 255, 255])
    np.testing.assert_array_equal(round_half_up(np.array([-1.0, 65534.5, 1e9]), np.uint16), [0, 65535, 65535])
    np.testing.assert_array_equal(round_half_up(np.arange(256.0)), np.arange(256))
    with pytest.raises(TypeError, match="floats of 0 to 1"): to_uint8(RGB.astype(int))
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="NaN or infinity"): to_uint8(np.array([bad]))


@pytest.mark.parametrize("fraction_of", [(514, 25), (40, 2), (0, 0)])
def test_a_size_that_is_no_whole_number_is_damage(tmp_path, fraction_of):
    "A TIFF whose tag of the height has been given another type, with a fraction for value, or a whole number as one."
    Image.new("RGB", (28, 20)).save(tmp_path/"a.tif")
    data = (tmp_path/"a.tif").read_bytes()
    start, = struct.unpack_from("<I", data, 4)
    number, = struct.unpack_from("<H", data, start)
    at = next(place for place in range(start + 2, start + 2 + 12*number, 12) if struct.unpack_from("<H", data, place) == (257,))
    fraction = struct.pack("<HHII", 257, 5, 1, len(data))
    (tmp_path/"a.tif").write_bytes(data[:at] + fraction + data[at+12:] + struct.pack("<II", *fraction_of))
    for read in (picture_size, read_picture):
        with pytest.raises(PictureError, match="a.tif is broken"): read(tmp_path/"a.tif")
