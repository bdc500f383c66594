#!/usr/bin/env python3
"""prove.py on small drawn weights of every kind that it knows (generated.py): every row passes; a model directory with one tensor altered
does not. No arguments; GRIDSEG names the program. CRIS needs $MEDVLSM, models with text the tables of $GRIDSEG_SHARED."""
import pathlib, subprocess, sys, tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import generated, prove
from safetensors.torch import load_file, save_file


def altered_is_told(folder, made):
    """A thousandth more in one tensor of our side: far more than rounding."""
    source = folder / "smp-unetpp"
    prove.convert(source, "unetpp", [], made / "model")
    weights = load_file(made / "model" / "model.safetensors")
    weights["decoder.blocks.x_0_3.conv2.0.weight"] *= 1.001
    save_file(weights, made / "model" / "model.safetensors")
    rows = prove.measure(made / "model", source, "unetpp", made)
    precision, difference, bound = rows[0]
    assert precision == "fp32" and difference > bound, rows


def main():
    prove.common.need_gridseg()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        generated.make(folder / "published")
        found = prove.find(folder / "published")
        assert len({model for _, _, model, _ in found} & {"unet", "unetpp", "deeplabv3plus"}) == 3, found
        altered_is_told(folder / "published", folder)
        (folder / "empty").mkdir()
        run = pathlib.Path(__file__).with_name("run.sh")
        assert subprocess.run([run, folder / "empty"], check=False).returncode == 2
        assert subprocess.run([run], check=False, stderr=subprocess.DEVNULL).returncode == 2
        return prove.prove(folder / "published")


if __name__ == "__main__":
    sys.exit(main())
