"""Write resize.json: small maps of logits and what torch.nn.functional.interpolate makes of them. Needs torch 2.6.0."""
import json
import pathlib

import torch
import torch.nn.functional as F


def main():
    torch.manual_seed(5)
    rows = []
    for size, height, width in ((7, 7, 7), (6, 13, 9), (8, 5, 31), (16, 16, 40), (11, 37, 4), (1, 5, 3), (9, 1, 1), (12, 25, 6)):
        x = torch.randn(1, 1, size, size) * 3
        y = F.interpolate(x, (height, width), mode="bilinear", align_corners=False)
        rows.append({"size": size, "height": height, "width": width, "in": x.flatten().tolist(), "out": y.flatten().tolist()})
    text = "[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n"
    (pathlib.Path(__file__).parent / "resize.json").write_text(text)


if __name__ == "__main__":
    main()
