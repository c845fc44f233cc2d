"""Export the samples of a run as one .npz, or what it trained as a folder of the hub.

    python -m imagegram.tools.export run=outputs/latest out=samples.npz
    python -m imagegram.tools.export run=outputs/latest out=small.npz num=1000 size=64
    python -m imagegram.tools.export run=outputs/latest part=tokenizer out=FOLDER
    python -m imagegram.tools.export run=outputs/latest part=generator out=FOLDER push=OWNER/NAME
    python -m imagegram.tools.export weights=outputs/artifacts/generator/DIGEST out=FOLDER

A folder of the Hugging Face Hub holds config.json (family and sizes), model.safetensors, README.md
(what was trained on what, from the records of the run) and the labels of classes, if there are any.
tokenizer.checkpoint= and generator.checkpoint= take it, or the page that it was pushed to.

The .npz is what the evaluator of ADM reads (``guided-diffusion/evaluations``). It holds one
array, ``arr_0``, (num, size, size, 3) uint8, uncompressed: the first samples of the run. The
evaluator computes FID, Inception Score and more from it beside a reference file; they are
Inception's numbers, and this package computes none of them. Published ones are of 50,000 samples of
256 pixels, which is why these are asked for.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from rich.progress import track

from imagegram.errors import ConfigError, StageError, did_you_mean
from imagegram.executors.commands import exit_cleanly
from imagegram.finished_run import open_run
from imagegram.records import Images
from imagegram.store.hub import push
from imagegram.tools.arguments import parse, tool_parser
from imagegram.tools.networks import STAGES, Trained

#: Name of the array; numpy's for an unnamed one.
ARRAY: Final = "arr_0"
#: Bytes that are copied at a time.
_BLOCK: Final = 1 << 26
_EPILOG: Final = """\
run      a run folder
part     samples (default), tokenizer or generator
weights  instead of run: a model.safetensors that a training wrote, or its folder
out      file or folder to write
num      of samples: how many, the first ones (50000)
size     of samples: side in pixels (256), the run's output_size
push     of a network: OWNER/NAME, the page of the hub that it is uploaded to; log in before, with
         hf auth login or HF_TOKEN
private  of a page that is made: true or false (false)
"""
_PARTS: Final = ("samples", *STAGES)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file or the folder; return the exit status."""
    keys = {"run": "", "part": "samples", "weights": "", "out": "", "num": "50000", "size": "256"}
    keys |= {"push": "", "private": "false"}
    _, values = parse(tool_parser("export", __doc__, epilog=_EPILOG), argv, keys)
    for key in ("out",) if values["weights"] else ("run", "out"):
        if not values[key]:
            raise ConfigError(
                f"{key}= is missing; type python -m imagegram.tools.export run=outputs/latest "
                "out=samples.npz"
            )
    if values["part"] not in _PARTS:
        raise ConfigError(f"part={values['part']}: {did_you_mean(values['part'], _PARTS)}")
    if values["weights"] or values["part"] != "samples":
        return _export_network(values)
    if values["push"]:
        raise ConfigError("push= is of networks; add part=tokenizer or part=generator")
    num, size = (_count(key, values[key]) for key in ("num", "size"))
    images = open_run(values["run"]).samples.images
    check(images, num=num, size=size, run=values["run"])
    out = Path(values["out"])
    write_npz(out, images[:num])
    print(f"{num:,} images of {size} pixels: {out}")
    return 0


def _export_network(values: Mapping[str, str]) -> int:
    """Write the folder of a network, and push it; return the exit status."""
    out, page = Path(values["out"]), values["push"]
    if values["private"] not in ("true", "false"):
        raise ConfigError(f"private={values['private']} must be true or false")
    if values["run"] and values["weights"]:
        raise ConfigError("run= and weights= are two ways to say the same; leave one out")
    if values["weights"]:
        trained = Trained.at(values["weights"])
    else:
        trained = Trained.of(open_run(values["run"]), values["part"])
    network = trained.export(out, page=page or "FOLDER")
    print(f"{trained.name or network.FAMILY}, {type(network).__name__}: {out}")
    if page:
        print(push(out, page, private=values["private"] == "true"))
    return 0


def _count(key: str, value: str) -> int:
    """Return a whole number of at least 1.

    Raises:
        ConfigError: for anything else.
    """
    if not value.isdecimal() or int(value) < 1:
        raise ConfigError(f"{key}={value} must be a whole number of at least 1; type {key}=1000")
    return int(value)


def check(images: Images, *, num: int, size: int, run: str) -> None:
    """Refuse samples of another number or another size than asked for.

    Args:
        images: (N, S, S, 3) uint8.
        num: number of samples that is asked for.
        size: side in pixels that is asked for.
        run: the run folder, for messages.

    Raises:
        ConfigError: with what to type instead.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ConfigError(
            f"{run}: its samples are {images.dtype} of shape {images.shape}, not (N, H, W, 3) "
            "uint8; give the folder of a run of images"
        )
    height, width = images.shape[1:3]
    if (height, width) != (size, size):
        asked = f", or size={height} for a file of that size" if height == width else ""
        raise ConfigError(
            f"{run}: its samples are {width} x {height} pixels, but size={size} is asked for; run "
            f"it with output_size={size}{asked}"
        )
    if len(images) < num:
        raise ConfigError(
            f"{run}: it has {len(images):,} samples, but num={num} are asked for; run it with "
            f"num_samples={num}, or type num={len(images)}, whose scores compare with those of "
            "as many samples only"
        )


def write_npz(out: Path, images: Images) -> None:
    """Write images as the array ``arr_0`` of an uncompressed .npz, block by block.

    Args:
        out: the file; one that is there already is refused.
        images: (N, H, W, 3) uint8, may be a memory map.

    Raises:
        StageError: when it cannot be written; nothing half-written is left.
    """
    if out.exists():
        raise ConfigError(f"{out} exists already; type another out=FILE.npz, or remove it")
    partial = out.with_name(f"{out.name}.partial")
    rows = max(_BLOCK // images[0].nbytes, 1)
    try:
        with (
            zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive,
            archive.open(f"{ARRAY}.npy", "w", force_zip64=True) as stream,
        ):
            header = np.lib.format.header_data_from_array_1_0(images)
            np.lib.format.write_array_header_1_0(stream, header)
            for first in track(range(0, len(images), rows), "export", transient=True):
                stream.write(images[first : first + rows].tobytes())
        partial.rename(out)
    except OSError as error:
        raise StageError(
            f"cannot write {out}: {error}; give an out= on a disk with "
            f"{images.nbytes / 1e9:.1f} GB of space that you may write"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(exit_cleanly(main))
