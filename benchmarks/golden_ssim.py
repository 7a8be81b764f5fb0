"""Write tests/vision/golden/ssim_skimage.npz: scikit-image's SSIM map of two toy images.

    PYTHONPATH=src:tests python benchmarks/golden_ssim.py

in an environment with scikit-image. Beyond an image it sees the mirrored image, and ours black: compare inside.
"""

from pathlib import Path

import numpy as np
from skimage.metrics import structural_similarity
from toys import images_of

a, b = images_of(1, 2, defects=True, seed=0).images / 255.0
_, full = structural_similarity(
    a, b, channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
)
path = Path(__file__).parents[1] / "tests" / "vision" / "golden" / "ssim_skimage.npz"
np.savez_compressed(path, map=full[:, ::2, ::2].astype(np.float32))
print(path, full.mean(), path.stat().st_size)
