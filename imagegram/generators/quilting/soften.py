"""Softer seams: a picture whose differences between neighbours are those of its patches.

Pixels on the two sides of a seam differ for no reason but that they are of two images. A part of
that step is taken away, all other steps between neighbours are wanted as they are, and the picture
that comes nearest to all these wishes in the mean of squares, with the colours of before on the
whole, is the solution of a discrete Poisson equation (Perez, Gangnet and Blake, "Poisson image
editing", SIGGRAPH 2003), which a cosine transform solves exactly.

Array names: ``B`` pictures, ``H`` and ``W`` their sides.

>>> owners = np.array([[[1, 1, 2, 2]]])
>>> gray = np.repeat(np.array([[[10, 10, 90, 90]]], dtype=np.uint8)[..., None], 3, axis=-1)
>>> soften_seams(gray, owners, 0.5)[0, 0, :, 0].tolist()
[30, 30, 70, 70]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

from imagegram.records import Images


def soften_seams(images: Images, owners: NDArray[np.integer], seam_step: float) -> Images:
    """Return (B, H, W, 3) uint8 pictures with a part of the step over every seam.

    Args:
        images: (B, H, W, 3) uint8.
        owners: (B, H, W) document of every pixel; a seam is where they change.
        seam_step: the part that is left; 1: the pictures stay as they are.
    """
    if seam_step == 1.0:
        return images
    # One by one: a picture does not depend, by its last bit, on how many are solved at once.
    solved = [solve_steps(*pair, seam_step) for pair in zip(images, owners, strict=True)]
    return np.clip(np.rint(np.stack(solved)), 0, 255).astype(np.uint8)


def solve_steps(
    image: NDArray[np.uint8], owners: NDArray[np.integer], seam_step: float
) -> NDArray[np.float64]:
    """Return the (H, W, 3) picture that comes nearest to all steps; arguments as above, of one."""
    picture = image.astype(np.float64)
    divergence = np.zeros_like(picture)
    for axis in range(2):
        wanted = np.diff(picture, axis=axis)
        wanted[np.diff(owners, axis=axis) != 0] *= seam_step
        ahead = [(0, 0), (0, 0), (0, 0)]
        ahead[axis] = (1, 1)
        divergence += np.diff(np.pad(wanted, ahead), axis=axis)
    waves = dctn(divergence, axes=(0, 1), norm="ortho")
    sizes = [2.0 * np.cos(np.pi * np.arange(size) / size) - 2.0 for size in picture.shape[:2]]
    scale = sizes[0][:, None] + sizes[1]
    scale[0, 0] = 1.0  # the mean is in no step
    waves /= scale[..., None]
    waves[0, 0] = picture.mean(axis=(0, 1)) * np.sqrt(scale.size)
    return np.asarray(idctn(waves, axes=(0, 1), norm="ortho"))
