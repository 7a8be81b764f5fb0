"""Extra passes beside the step that teaches: they leave nothing behind."""

from __future__ import annotations

import torch
from toys import ToyAutoencoder, stream

from continuad.strategies._passes import aside, evaluating, loss_gradients


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
