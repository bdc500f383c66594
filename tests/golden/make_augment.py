"""Writes tests/golden/augment.safetensors: views of a small picture and mask as NumPy (mirror, flip, quarter turns) and PyTorch
(grid_sample: the window of a zoom) make them. Sizes are odd on purpose.

python make_augment.py    (torch 2.6.0, numpy 1.26.4, safetensors 0.8.0)
"""
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

SIDE = 11
# mirror, flip, turns, zoom, left, top, contrast, brightness
VIEWS = [(1, 0, 0, 1, 0, 0, 1, 0), (0, 1, 0, 1, 0, 0, 1, 0), (0, 0, 1, 1, 0, 0, 1, 0), (1, 0, 3, 1, 0, 0, 1, 0),
         (1, 1, 2, 1, 0, 0, 1, 0), (0, 0, 0, 1.37, 1.3, 2.1, 1, 0), (0, 0, 0, 0.71, -2.2, -0.9, 1, 0),
         (0, 0, 0, 1, 0, 0, 1.3, -20), (1, 0, 1, 1.2, 0.4, 0.2, 0.8, 11)]


def window(x, zoom, left, top, mode):
    """x [S,S,C] float: pixel centres i of the result lie at (i + 0.5) / zoom + left of the source."""
    side = len(x)
    at = lambda start: ((torch.arange(side, dtype=torch.float64) + 0.5) / zoom + start) / side * 2 - 1
    y, z = torch.meshgrid(at(top), at(left), indexing="ij")
    grid = torch.stack([z, y], -1)[None]
    t = torch.from_numpy(x.astype(np.float64)).permute(2, 0, 1)[None]
    got = F.grid_sample(t, grid, mode=mode, padding_mode="border", align_corners=False)[0].permute(1, 2, 0)
    inside = ((y >= -1) & (y < 1) & (z >= -1) & (z < 1))[..., None]
    return torch.where(inside, got, torch.zeros(())).numpy()


def view(x, v, is_mask):
    mirror, flip, turns, zoom, left, top, contrast, brightness = v
    if mirror:
        x = np.fliplr(x)
    if flip:
        x = np.flipud(x)
    x = np.ascontiguousarray(np.rot90(x, turns))
    if zoom != 1:
        x = np.floor(window(x, zoom, left, top, "nearest" if is_mask else "bilinear") + 0.5)
    if not is_mask and (contrast != 1 or brightness):
        mean = (x.astype(np.float64) @ np.array([0.299, 0.587, 0.114])).mean()
        x = np.clip(np.floor((x - mean) * contrast + mean + brightness + 0.5), 0, 255)
    return np.ascontiguousarray(x).astype(np.uint8)


def main():
    rng = np.random.default_rng(5)
    picture = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    mask = (rng.random((SIDE, SIDE)) < 0.5).astype(np.uint8)
    out = {"picture": picture, "mask": mask}
    for i, v in enumerate(VIEWS):
        out[f"view.{i}"] = np.array(v, np.float64)
        out[f"picture.{i}"] = view(picture, v, False)
        out[f"mask.{i}"] = view(mask[..., None], v, True)[..., 0]
    path = pathlib.Path(__file__).resolve().parent / "augment.safetensors"
    save_file({k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in out.items()}, path)
    print(path.stat().st_size)


if __name__ == "__main__":
    main()
