"""RIAD: cells by hand, nothing seen of what is inpainted, the map's equation, and it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from toys import ready, stream

from continuad.core.detector import validation_loss_of
from continuad.core.fit import Budget
from continuad.detectors.riad import Riad, removed_cells
from continuad.errors import ContinuadError
from continuad.metrics.pixel import pixel_metrics
from continuad.models.registry import make_detector
from continuad.strategies.naive import Naive
from continuad.vision.ssim import msgms_map


def small(**options: object) -> Riad:
    detector = make_detector("riad", image_size=64, **({"width": 0.0625} | options))
    assert isinstance(detector, Riad)
    ready(detector)
    return detector


@pytest.mark.parametrize(("size", "k"), [((64, 64), 2), ((64, 96), 16), ((37, 50), 8)])
def test_sets_are_disjoint_whole_and_equal(size: tuple[int, int], k: int) -> None:
    removed = removed_cells(size, k, 3)
    assert removed.shape == (3, *size)
    assert (removed.sum(0) == 1).all()
    corners = removed[:, ::k, ::k]
    counts = corners.flatten(1).sum(1)
    assert counts.max() - counts.min() <= 1
    whole = corners.repeat_interleave(k, 1)[:, : size[0]].repeat_interleave(k, 2)[:, :, : size[1]]
    assert torch.equal(whole, removed)


def test_cells_are_drawn_afresh_in_training_only() -> None:
    assert not torch.equal(removed_cells((64, 64), 4, 3), removed_cells((64, 64), 4, 3))
    detector, images = small(), torch.from_numpy(stream(1)[0].test.images)[:2]
    before = torch.get_rng_state()
    first = detector.predict(images)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(detector.predict(images).map, first.map)
    moved = small()
    moved.seed = 5
    assert not torch.equal(moved.predict(images).map, first.map)


def test_what_is_inpainted_was_not_seen() -> None:
    """A pixel of the rebuilt image does not follow the same pixel of the image, nor any of its set."""
    detector = small().double()
    removed = removed_cells((64, 64), 8, 3)
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    changed = torch.where(removed[0], torch.rand(1, 3, 64, 64, dtype=torch.float64), x)
    a, b = detector._rebuilt(x, removed), detector._rebuilt(changed, removed)
    inside = removed[0].expand_as(a)
    assert torch.equal(a[inside], b[inside])
    assert not torch.equal(a[~inside], b[~inside])


def test_pieces_are_joined_by_hand() -> None:
    """A network that answers the share of holes in what it sees: each piece is that of its own set."""
    detector = small()

    def share_of_holes(holes: Tensor) -> Tensor:
        return (holes == 0).float().mean((1, 2, 3), keepdim=True).expand_as(holes)

    detector.inpainter.forward = share_of_holes  # type: ignore[method-assign]
    removed = torch.zeros(3, 64, 64, dtype=torch.bool)
    removed[0, :16], removed[1, 16:32], removed[2, 32:] = True, True, True
    rebuilt = detector._rebuilt(torch.ones(2, 3, 64, 64), removed)
    assert rebuilt[:, :, [0, 20, 40], 0].flatten(0, 1).tolist() == [[0.25, 0.25, 0.5]] * 6


def test_map_is_the_papers_equation() -> None:
    """1 - MSGMS * f, averaged over the sizes of the cells, and its maximum."""
    detector, images = small(), torch.from_numpy(stream(1)[0].test.images)[4:]
    each = [1 - F.avg_pool2d(msgms_map(y, images / 255), 21, 1, 10, count_include_pad=False) for y in detector(images)]
    found = detector.predict(images)
    torch.testing.assert_close(found.map, torch.stack(each).mean(0))
    assert torch.equal(found.score, found.map.flatten(1).amax(1))


def test_parameters_by_hand() -> None:
    def convolution(inputs: int, outputs: int, kernel: int) -> int:
        return inputs * outputs * kernel**2 + outputs

    def stage(inputs: int, outputs: int, kernel: int) -> int:
        return convolution(inputs, outputs, kernel) + convolution(outputs, outputs, 3) + 4 * outputs

    down = ((64, 128), (128, 256), (256, 512), (512, 512))
    up = ((512, 512), (512, 256), (256, 128), (128, 64))
    expected = stage(3, 64, 3) + sum(stage(a, b, 4) for a, b in down) + convolution(64, 3, 3)
    expected += sum(convolution(a, b, 4) + stage(2 * b, b, 3) for a, b in up)
    with torch.device("meta"):
        detector = Riad()
    assert sum(p.numel() for p in detector.parameters()) == expected == 28_805_699


def test_learning_rate_falls_after_five_sixths() -> None:
    assert [small().learning_rate(p) for p in (0.0, 0.83, 0.84)] == [1.0, 1.0, 0.1]


def test_refusals() -> None:
    with pytest.raises(ContinuadError, match="fewer than 3 cells of 64"):
        small(cells=(4, 64))
    with pytest.raises(ContinuadError, match=r"allowed: whole numbers, such as .*, 1 to 16 long"):
        small(cells=())
    with pytest.raises(ContinuadError, match="allowed: a whole number, 2 to 100"):
        small(sets=1)


def test_it_learns_toys() -> None:
    """A few steps on stripes lower the loss on val images, and patches stand out."""
    detector, task = small(cells=(8,)), stream(1)[0]
    detector.batch_size = 2
    val = torch.from_numpy(task.val.images)
    with torch.no_grad():
        torch.manual_seed(0)  # the same cells
        before = float(validation_loss_of(detector, val))
    model = Naive(detector)
    model.budget = Budget(steps=30)
    model.learn(task)
    with torch.no_grad():
        torch.manual_seed(0)
        assert float(validation_loss_of(detector, val)) < 0.95 * before
    maps = model.predict(torch.from_numpy(task.test.images)).map
    assert pixel_metrics(maps.numpy(), task.test.masks)["pixel_auroc"] > 0.8
