"""Mutated picture files: each is a picture that is whole, or one documented error with the file's name. Why not a notebook: too many.

The mutants run in a child process that is watched, so that a decoder that crashes or hangs is a finding and does not take pytest with it.
By hand: python tests/test_fuzz.py FIRST LAST [FOLDER that keeps what is found]
"""
import io, os, queue, subprocess, sys, tempfile, threading, time, warnings, zlib
from pathlib import Path

import numpy as np
import pytest

SECONDS = 10 # for one file
GROWTH = 100*2**20 # bytes


def seeds():
    "Name -> bytes of small whole pictures, in every format, mode and depth, with notes."
    import pillow_heif, pyvips
    from PIL import Image
    from paintsr_nb.notes import PictureRest
    from paintsr_nb.picture import write_picture
    from paintsr_nb.profiles import coded_profile
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:20, :28]
    rgb = np.stack([x*9, y*12, 255 - x*3 - y], -1).astype(np.uint8) ^ rng.integers(0, 4, (20, 28, 3), dtype=np.uint8)
    deep, grey = rgb.astype(np.uint16)*256 + 77, rgb[..., [1, 1, 1]].copy()
    exif = Image.Exif()
    exif[0x013B], exif[0x0112], exif[0x8769], exif[0x8825] = "Rosa Bonheur", 6, {0x9003: "1889:06:18 04:40:00"}, {1: "N", 2: (43.0, 47.0, 0.0)}
    full = PictureRest(icc=coded_profile(12, 13), dpi=(300.0, 300.0), exif=exif.tobytes(), xmp=b"<x:xmpmeta dc:rights='CC0'/>",
                       iptc=b"\x1c\x02\x74\0\x03CC0", text=(("Title", "Dahlia"), ("Motif", "睡蓮")))
    found = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        def keep(name, save):
            path = Path(folder)/name
            save(path)
            found[name] = path.read_bytes()
        for suffix in ("png", "tif", "jpg", "webp", "avif", "bmp"):
            keep(f"full.{suffix}", lambda path: write_picture(path, rgb, full))
            keep(f"grey.{suffix}", lambda path: write_picture(path, grey, PictureRest(grey=True)))
            if suffix not in ("jpg", "bmp"): keep(f"alpha.{suffix}", lambda path: write_picture(path, rgb, PictureRest(alpha=rgb[..., 0].copy())))
        for suffix in ("png", "tif"): keep(f"deep.{suffix}", lambda path: write_picture(path, deep, full))
        image, wide = Image.fromarray(rgb), pyvips.Image.new_from_array(deep, interpretation="rgb16")
        for name, mode, options in (("one.png", "1", {}), ("palette.png", "P", {}), ("turned.png", "L", dict(exif=exif)), ("one.bmp", "1", {}), ("palette.bmp", "P", {}), ("a.gif", "P", {}),
                                    ("still.gif", "P", dict(transparency=3, comment=b"hello")), ("fine.jpg", "RGB", dict(progressive=True)), ("inks.jpg", "CMYK", {}),
                                    ("small.jpg", "RGB", dict(subsampling=2, exif=exif)), ("lossless.webp", "RGBA", dict(lossless=True)), ("g4.tif", "1", dict(compression="group4")),
                                    ("g3.tif", "1", dict(compression="group3")), ("lzw.tif", "RGB", dict(compression="tiff_lzw")), ("bits.tif", "RGB", dict(compression="packbits")), ("inks.tif", "CMYK", {}),
                                    ("palette.tif", "P", {}), ("jpeg.tif", "RGB", dict(compression="jpeg")), ("ycc.tif", "YCbCr", {}), ("float.tif", "F", {}), ("turned.tif", "RGB", dict(exif=exif.tobytes())),
                                    ("mono.avif", "L", dict(subsampling="4:0:0")), ("turned.avif", "RGB", dict(exif=exif))):
            keep(name, lambda path: image.convert(mode).save(path, **options))
        keep("film.gif", lambda path: image.save(path, save_all=True, append_images=[image.rotate(90)]))
        keep("film.webp", lambda path: image.save(path, save_all=True, append_images=[image.rotate(90)]))
        keep("laced.png", lambda path: wide.pngsave(str(path), interlace=True))
        keep("tiles.tif", lambda path: wide.tiffsave(str(path), tile=True, tile_width=16, tile_height=16, compression="deflate", bigtiff=True, pyramid=True))
        for name, options in (("full.heic", dict(exif=exif.tobytes(), xmp=full.xmp)), ("grid.heic", dict(tile_size=16, icc_profile=full.icc))):
            keep(name, lambda path: pillow_heif.from_bytes("RGB", (28, 20), rgb.tobytes()).save(path, chroma=444, **options))
        keep("lab.tif", lambda path: Image.frombytes("LAB", (28, 20), rgb.tobytes()).save(path))
    return found


def with_checksums(data):
    "A PNG whose checksums are right again, so that what is behind them is read."
    fixed, at = bytearray(data), 8
    while at + 12 <= len(fixed):
        end = at + 8 + int.from_bytes(fixed[at:at+4], "big")
        if end + 4 > len(fixed): break
        fixed[end:end+4] = zlib.crc32(fixed[at+4:end]).to_bytes(4, "big")
        at = end + 4
    return bytes(fixed)


EXTREMES = [b"\0\0", b"\xff\xff", b"\x7f\xff", b"\xff\x7f", b"\0\1", b"\1\0", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\xff\xff", b"\xff\xff\0\0", b"\x80\0\0\0"]

def mutant(pool, index):
    "Name and bytes of mutant number `index`; the number alone decides."
    rng = np.random.default_rng([20_26, index])
    names = sorted(pool)
    name = names[index % len(names)]
    data = bytearray(pool[name])
    def place(): return int(rng.integers(len(data)*(0.15 if rng.random() < 0.4 else 1)) if len(data) > 7 else 0)   # headers more often
    for _ in range(int(rng.integers(1, 5))):
        at, length = place(), int(rng.geometric(0.08))
        match int(rng.integers(8)):
            case 0: data[at] ^= 1 << int(rng.integers(8))
            case 1: data[at:at+length] = rng.integers(0, 256, min(length, len(data)-at), dtype=np.uint8).tobytes()
            case 2: data[at:at+length*4] = bytes(min(length*4, len(data)-at))
            case 3: del data[at:at+length]
            case 4: data[at:at] = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
            case 5: data[at:at] = data[at:at+length*4]
            case 6:
                value = EXTREMES[rng.integers(len(EXTREMES))]
                data[at:at+len(value)] = value
            case 7:
                if rng.random() < 0.5: del data[at:]
                else: data[at:] = pool[names[rng.integers(len(names))]][at:]
        if not data: data = bytearray(b"\0")
    data = bytes(data)
    return name, with_checksums(data) if name.endswith("png") and rng.random() < 0.6 else data


def resident():
    with open("/proc/self/statm") as file: return int(file.read().split()[1])*os.sysconf("SC_PAGE_SIZE")


def judge(path, read, PictureError):
    "What became of a file: `picture`, `refused`, or a word on what is wrong."
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        try: result = read(path)
        except PictureError as error:
            text = str(error)
            return "refused" if path.name in text and "\n" not in text and len(text) < 500 else f"WRONG message {text!r}"
        except BaseException as error: return f"WRONG {type(error).__name__}: {error}"
    for note in noted:
        if path.name not in str(note.message) or "\n" in str(note.message): return f"WRONG warning {note.message}"
    if isinstance(result[0], int): return "picture" if min(result) > 0 else f"WRONG size {result}"
    pixels, rest = result
    whole = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size and pixels.dtype in (np.uint8, np.uint16)
    if rest.alpha is not None: whole = whole and rest.alpha.shape == pixels.shape[:2] and rest.alpha.dtype == pixels.dtype
    return "picture" if whole else f"WRONG picture {pixels.dtype} {pixels.shape}"


def child(first, last):
    "Read mutants one by one; a line for each before (its number) and after (what became of it)."
    from paintsr_nb.core import PictureError
    from paintsr_nb.picture import picture_size, read_picture
    pool = seeds()
    with tempfile.TemporaryDirectory() as folder:
        for index in range(first, last):
            name, data = mutant(pool, index)
            path = Path(folder)/name
            path.write_bytes(data)
            print(index, flush=True)
            found = judge(path, picture_size, PictureError)
            if not found.startswith("WRONG"): found = judge(path, read_picture, PictureError)
            print(index, resident(), found.replace("\n", " "), flush=True)


def fuzz(first, last):
    "Counts of what became of the mutants, and what was found to be wrong, with the number of the mutant."
    counts, wrong, next_one = {"picture": 0, "refused": 0}, [], first
    while next_one < last:
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen([sys.executable, __file__, "child", str(next_one), str(last)], stdout=subprocess.PIPE, stderr=said, text=True)
            lines = queue.Queue()
            def listen(pipe=process.stdout, lines=lines):
                for line in pipe: lines.put(line.split(" ", 2))
                lines.put(None)
            threading.Thread(target=listen, daemon=True).start()
            at, memory, began = next_one, [], False
            try:
                while line := lines.get(timeout=SECONDS if began else 60):
                    at, began = int(line[0]), True
                    if len(line) < 3: continue
                    memory.append(int(line[1]))
                    found = line[2].strip()
                    if found in counts: counts[found] += 1
                    else: wrong.append((at, found))
            except queue.Empty:
                wrong.append((at, f"hangs for more than {SECONDS} s"))
                process.kill()
            if process.wait() not in (0, -9): wrong.append((at, f"ended the process with {process.returncode}"))
            said.seek(0)
            if text := said.read(2000).decode("utf-8", "replace"): wrong.append((at, f"said on the error stream: {text}"))
            if len(memory) > 500 and (grown := np.median(memory[-50:]) - np.median(memory[200:250])) > GROWTH: wrong.append((at, f"memory grew by {grown/2**20:.0f} MB"))
            if not began: return counts, wrong + [(at, "the child did not begin")]
            next_one = at + 1
    return counts, wrong


def test_a_thousand_mutants_are_pictures_or_refused_by_name():
    counts, wrong = fuzz(0, 1000)
    assert not wrong
    assert sum(counts.values()) == 1000 and min(counts.values()) > 100   # mutants that are too tame or too wild find nothing


@pytest.mark.slow
def test_twenty_thousand_mutants_are_pictures_or_refused_by_name():
    counts, wrong = fuzz(1000, 21_000)
    assert not wrong
    assert sum(counts.values()) == 20_000


def test_the_watch_sees_crash_hang_and_noise(monkeypatch, tmp_path):
    "Before it is trusted: a child that misbehaves is reported, and the rest goes on."
    script = tmp_path/"child.py"
    script.write_text("""import os, sys, time
first, last = map(int, sys.argv[2:])
for index in range(first, last):
    print(index, flush=True)
    if index == 2: os.kill(os.getpid(), 11)
    if index == 5: time.sleep(60)
    if index == 7: print("noise", file=sys.stderr)
    print(index, 1000, "WRONG" if index == 8 else "picture", flush=True)
""")
    monkeypatch.setitem(globals(), "__file__", str(script))
    monkeypatch.setitem(globals(), "SECONDS", 1)
    counts, wrong = fuzz(0, 10)
    assert counts == {"picture": 7, "refused": 0}
    assert [(at, what.split(":")[0]) for at, what in wrong] == [(2, "ended the process with -11"), (5, "hangs for more than 1 s"), (8, "WRONG"), (9, "said on the error stream")]


if __name__ == "__main__":
    if sys.argv[1] == "child": child(int(sys.argv[2]), int(sys.argv[3]))
    else:
        start = time.perf_counter()
        counts, wrong = fuzz(int(sys.argv[1]), int(sys.argv[2]))
        print(counts, f"{time.perf_counter() - start:.0f} s")
        for at, what in wrong:
            name, data = mutant(seeds(), at)
            print(at, name, what)
            if len(sys.argv) > 3: (Path(sys.argv[3])/f"{at}_{name}").write_bytes(data)
