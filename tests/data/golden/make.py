#!/usr/bin/env python3
"""Make the small pictures of this folder and what Pillow reads in them (needs pillow 13, numpy).

For NAME there is NAME.raw: Pillow's convert("RGB") and convert("L") at the picture's own size, convert("RGB") resized
to 20 x 28 (width x height) bilinearly, convert("L") resized to 20 x 28 by nearest, one after the other; for exif_*
then also the RGB pixels after ImageOps.exif_transpose. sizes.txt lists: name, width, height.
"""
import io
import struct
import zlib

import numpy
from PIL import Image, ImageOps

W, H = 27, 21
rng = numpy.random.default_rng(7)
y, x = numpy.mgrid[0:H, 0:W]
smooth = numpy.stack([x * 255 / (W - 1), y * 255 / (H - 1), (x + y) * 255 / (W + H - 2)], -1)
rgb = numpy.clip(smooth + rng.normal(0, 25, (H, W, 3)), 0, 255).astype(numpy.uint8)
grey = rgb[..., 0]
alpha = rgb[..., 2]
deep = (grey.astype(numpy.uint16) * 3)  # over and under 255
deep_rgb = (rgb.astype(numpy.uint16) << 8) | rng.integers(0, 256, rgb.shape, dtype=numpy.uint16)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, passes, extra=b"", interlace=0):
    """A PNG from rows of packed bytes, for what Pillow does not write."""
    raw = b"".join(b"\0" + bytes(row) for rows in passes for row in rows)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))
            + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def adam7(array):
    grid = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    return [[row.tobytes() for row in array[y0::dy, x0::dx]] for x0, y0, dx, dy in grid if array[y0::dy, x0::dx].size]


def tiff(tags, blocks, offsets_tag, counts_tag, big=False):
    """A TIFF of one page; tags: {number: (type, values)} with type 3 (short) or 4 (long)."""
    e = ">" if big else "<"
    data = (b"MM\0*" if big else b"II*\0") + b"\0\0\0\0"
    offsets = []
    for b in blocks:
        offsets.append(len(data))
        data += b + b"\0" * (len(b) % 2)
    tags = dict(tags)
    tags[offsets_tag] = (4, offsets)
    tags[counts_tag] = (4, [len(b) for b in blocks])
    entries = b""
    for number in sorted(tags):
        kind, values = tags[number]
        packed = struct.pack(e + {3: "H", 4: "I"}[kind] * len(values), *values)
        if len(packed) > 4:
            at, data = len(data), data + packed + b"\0" * (len(packed) % 2)
            packed = struct.pack(e + "I", at)
        entries += struct.pack(e + "HHI", number, kind, len(values)) + packed.ljust(4, b"\0")
    directory = len(data)
    data += struct.pack(e + "H", len(tags)) + entries + b"\0\0\0\0"
    return data[:4] + struct.pack(e + "I", directory) + data[8:]


def base_tags(bits, photometric, samples, planar=1):
    return {256: (4, [W]), 257: (4, [H]), 258: (3, [bits] * samples), 259: (3, [1]), 262: (3, [photometric]),
            277: (3, [samples]), 284: (3, [planar])}


def tiled(array, size=16):
    padded = numpy.zeros((-(-H // size) * size, -(-W // size) * size) + array.shape[2:], array.dtype)
    padded[:H, :W] = array
    return [padded[r:r + size, c:c + size].tobytes() for r in range(0, padded.shape[0], size)
            for c in range(0, padded.shape[1], size)]


def saved(picture, kind, **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def with_exif(how):
    exif = Image.Exif()
    exif[0x0112] = how
    return exif


colour, plain = Image.fromarray(rgb), Image.fromarray(grey)
palette = colour.quantize(200, dither=Image.Dither.NONE)
few = colour.quantize(4, dither=Image.Dither.NONE)
cmyk = Image.fromarray(numpy.concatenate([255 - rgb, (grey // 3)[..., None]], -1), "CMYK")
rgba = Image.fromarray(numpy.concatenate([rgb, alpha[..., None]], -1))
tall = Image.fromarray(rng.integers(0, 256, (90, 25, 3), dtype=numpy.uint8))
grey2 = numpy.packbits(numpy.unpackbits((grey >> 6)[..., None], axis=-1)[..., 6:].reshape(H, -1), axis=-1)
grey4 = numpy.packbits(numpy.unpackbits((grey >> 4)[..., None], axis=-1)[..., 4:].reshape(H, -1), axis=-1)

cases = {
    "grey.jpg": saved(plain, "JPEG", quality=90),
    "s420.jpg": saved(colour, "JPEG", quality=85, subsampling=2),
    "s422.jpg": saved(colour, "JPEG", quality=85, subsampling=1),
    "s444.jpg": saved(colour, "JPEG", quality=85, subsampling=0),
    "progressive.jpg": saved(colour, "JPEG", quality=85, progressive=True),
    "rgb.jpg": saved(colour, "JPEG", quality=90, keep_rgb=True),
    "cmyk.jpg": saved(cmyk, "JPEG", quality=90),
    "exif_6.jpg": saved(colour, "JPEG", quality=85, exif=with_exif(6)),
    "exif_7.jpg": saved(colour, "JPEG", quality=85, exif=with_exif(7)),
    "exif_2.png": saved(colour, "PNG", exif=with_exif(2)),
    "rgb.png": saved(colour, "PNG"),
    "tall.png": saved(tall, "PNG"),
    "grey.png": saved(plain, "PNG"),
    "bilevel.png": saved(plain.convert("1"), "PNG"),
    "palette.png": saved(palette, "PNG"),
    "palette_few.png": saved(few, "PNG", bits=2),
    "palette_alpha.png": saved(palette, "PNG", transparency=3),
    "rgba.png": saved(rgba, "PNG"),
    "grey_alpha.png": saved(Image.merge("LA", (plain, Image.fromarray(alpha))), "PNG"),
    "grey16.png": saved(Image.fromarray(deep), "PNG"),
    "grey16_8bit_range.png": saved(Image.fromarray(grey.astype(numpy.uint16)), "PNG"),
    "rgb16.png": png(W, H, 16, 2, [[row.tobytes() for row in deep_rgb.astype(">u2")]]),
    "grey2.png": png(W, H, 2, 0, [[row.tobytes() for row in grey2]]),
    "grey4.png": png(W, H, 4, 0, [[row.tobytes() for row in grey4]]),
    "rgb_transparent.png": png(W, H, 8, 2, [[row.tobytes() for row in rgb]], chunk(b"tRNS", b"\0\1\0\2\0\3")),
    "interlaced.png": png(W, H, 8, 2, adam7(rgb), interlace=1),
    "grey.tif": saved(plain, "TIFF"),
    "lzw.tif": saved(colour, "TIFF", compression="tiff_lzw"),
    "deflate.tif": saved(colour, "TIFF", compression="tiff_adobe_deflate"),
    "bilevel.tif": saved(plain.convert("1"), "TIFF", compression="group4"),
    "white_is_zero.tif": tiff(base_tags(8, 0, 1), [grey.tobytes()], 273, 279),
    "grey4.tif": tiff(base_tags(4, 1, 1), [grey4.tobytes()], 273, 279),
    "palette.tif": saved(palette, "TIFF"),
    "cmyk.tif": saved(cmyk, "TIFF"),
    "rgba.tif": saved(rgba, "TIFF"),
    "premultiplied.tif": tiff({**base_tags(8, 2, 4), 338: (3, [1])}, [numpy.asarray(rgba).tobytes()], 273, 279),
    "grey16.tif": saved(Image.fromarray(deep), "TIFF"),
    "rgb16.tif": tiff(base_tags(16, 2, 3), [deep_rgb.astype(">u2").tobytes()], 273, 279, big=True),
    "tiled.tif": tiff({**base_tags(8, 2, 3), 322: (4, [16]), 323: (4, [16])}, tiled(rgb), 324, 325),
    "planes.tif": tiff({**base_tags(8, 2, 3, planar=2), 278: (4, [H])},
                       [rgb[..., c].tobytes() for c in range(3)], 273, 279),
    "jpeg.tif": saved(colour, "TIFF", compression="jpeg", quality=90),
    "turned.tif": tiff({**base_tags(8, 2, 3), 274: (3, [6])}, [rgb.tobytes()], 273, 279),
}

sizes = ""
for name, data in cases.items():
    with open(name, "wb") as f:
        f.write(data)
    picture = Image.open(name)
    picture.load()
    full, light = picture.convert("RGB"), picture.convert("L")
    parts = [full, light, full.resize((20, 28), Image.BILINEAR), light.resize((20, 28), Image.NEAREST)]
    if name.startswith("exif"):
        parts.append(ImageOps.exif_transpose(picture).convert("RGB"))
    with open(name + ".raw", "wb") as f:
        for part in parts:
            f.write(part.tobytes())
    sizes += f"{name} {picture.width} {picture.height}\n"
with open("sizes.txt", "w", encoding="ascii") as f:
    f.write(sizes)
