"""Extra passes beside the step that teaches: they leave nothing behind."""

from __future__ import annotations

import contextlib
import pickle

import torch
from toys import ToyAutoencoder, images_of, stream

from continuad.core.detector import Detector
from continuad.strategies._passes import aside, drawn, evaluating, gradients, loss_gradients
from continuad.strategies._snapshots import Snapshots, light_view


def test_a_pass_aside_moves_no_running_statistics() -> None:
    detector = ToyAutoencoder().train()
    images = torch.from_numpy(stream(1)[0].train.images)
    before = {name: buffer.clone() for name, buffer in detector.named_buffers()}
    loss_gradients(detector, images)
    assert all(torch.equal(buffer, before[name]) for name, buffer in detector.named_buffers())
    detector.step(images)  # the same pass, not aside, does move them
    assert not all(torch.equal(buffer, before[name]) for name, buffer in detector.named_buffers())


def test_what_was_put_aside_comes_back_after_an_error_too() -> None:
    detector = ToyAutoencoder().train()
    norm = detector.encode[1]
    try:
        with aside(detector), torch.no_grad():
            norm.running_mean += 1  # type: ignore[operator]
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert not norm.running_mean.any()  # type: ignore[union-attr, operator]


def test_evaluation_mode_ends_as_it_began() -> None:
    for learning in (True, False):
        detector = ToyAutoencoder().train(learning)
        with evaluating(detector):
            assert not detector.training
        assert detector.training is learning


def test_evaluation_mode_ends_after_an_error_too() -> None:
    detector = ToyAutoencoder().train()
    with contextlib.suppress(KeyboardInterrupt), evaluating(detector):
        raise KeyboardInterrupt
    assert detector.training


def test_a_weight_that_the_loss_does_not_depend_on_has_slope_zero() -> None:
    detector = ToyAutoencoder()
    found = gradients(detector, (3 * detector.decode.bias).sum())
    assert found.keys() == detector.weights().keys()
    assert found["decode.bias"].tolist() == [3, 3, 3]
    assert not any(value.any() for name, value in found.items() if name != "decode.bias")
    assert found["encode.0.weight"].shape == detector.encode[0].weight.shape


def test_images_are_drawn_at_random_and_none_twice() -> None:
    images = images_of(0, 6, defects=False, seed=0, size=32)
    images.images[:] = torch.arange(6).view(6, 1, 1, 1).numpy()
    torch.manual_seed(0)
    found = [drawn(images, 4)[:, 0, 0, 0].tolist() for _ in range(5)]
    assert all(len(set(each)) == 4 for each in found)
    assert len({tuple(each) for each in found}) > 1
    assert sorted(drawn(images, 9)[:, 0, 0, 0].tolist()) == list(range(6))


def test_a_view_answers_with_its_state_and_shares_the_rest() -> None:
    detector = ToyAutoencoder().train()
    detector.stats["count"] = torch.tensor(5)
    state = {name: value.clone() for name, value in detector.learned().items()}
    state["decode.bias"] += 1
    state["stats.count"] = torch.tensor(3)
    del state["encode.0.weight"]
    view = light_view(detector, state)
    assert not view.training
    assert detector.training
    assert view.decode.bias.data_ptr() == state["decode.bias"].data_ptr()  # by reference
    assert view.encode[0].weight is detector.encode[0].weight  # not in the state
    assert list(view.stats) == ["count"]
    assert view.stats["count"] is state["stats.count"]
    assert detector.stats["count"].item() == 5
    assert not view.decode.bias.requires_grad
    x = torch.from_numpy(images_of(0, 2, defects=False, seed=0).images)
    with torch.no_grad(), evaluating(detector):
        torch.testing.assert_close(view(x)[0], detector(x)[0] + 1)


def test_a_snapshot_is_viewed_once_until_it_is_kept_anew_or_moved() -> None:
    detector: Detector = ToyAutoencoder()
    snapshots = Snapshots(detector)
    fresh = {name: value.clone() for name, value in snapshots.fresh.items()}
    snapshots.keep(2)
    first = snapshots.view(2)
    assert snapshots.view(2) is first
    with torch.no_grad():
        detector.decode.bias += 1  # type: ignore[operator, union-attr]
    snapshots.keep(3)
    assert snapshots.view(2) is first
    assert torch.equal(snapshots.view(3).decode.bias, first.decode.bias + 1)  # type: ignore[union-attr, operator]
    snapshots.keep(2)
    assert torch.equal(snapshots.view(2).decode.bias, snapshots.view(3).decode.bias)  # type: ignore[union-attr]
    assert all(torch.equal(value, fresh[name]) for name, value in snapshots.fresh.items())
    before = snapshots.view(2)
    snapshots.double()
    assert snapshots.view(2) is not before
    assert snapshots.fresh["decode.bias"].dtype == torch.float64
    again = Snapshots(ToyAutoencoder())
    again.load_state_dict(snapshots.state_dict())
    assert sorted(again.kept.under("2/")) == sorted(snapshots.kept.under("2/"))


def test_a_second_load_and_a_pickle_make_views_of_what_came_in() -> None:
    """Not of what was viewed before, nor of copies beside it."""
    detector = ToyAutoencoder()
    snapshots, other = Snapshots(detector), Snapshots(ToyAutoencoder(seed=1))
    for each in (snapshots, other):
        each.keep(0)
    loaded = Snapshots(ToyAutoencoder())
    for source in (snapshots, other):
        loaded.load_state_dict(source.state_dict())
        assert torch.equal(loaded.view(0).decode.bias, source.kept["0/decode.bias"])  # type: ignore[union-attr]
    assert loaded.view(0).decode.bias.data_ptr() == loaded.kept["0/decode.bias"].data_ptr()  # type: ignore
    again = pickle.loads(pickle.dumps(loaded))
    assert torch.equal(again.view(0).decode.bias, loaded.kept["0/decode.bias"])
    assert again.view(0).decode.bias.data_ptr() == again.kept["0/decode.bias"].data_ptr()


def test_kept_weights_lie_in_memory_as_the_detectors_do() -> None:
    """A file gives contiguous tensors; kernels round by the layout."""
    detector = ToyAutoencoder().to(memory_format=torch.channels_last)
    first, second = Snapshots(detector), Snapshots(detector)
    first.keep(0)
    assert first.view(0) is first.view(0)
    second.load_state_dict({name: value.contiguous() for name, value in first.state_dict().items()})
    weight = second.kept["0/encode.0.weight"]
    assert weight.stride() == detector.encode[0].weight.stride()
    assert torch.equal(weight, first.kept["0/encode.0.weight"])
    assert second.view(0).encode[0].weight.data_ptr() == weight.data_ptr()  # type: ignore[union-attr, operator]
