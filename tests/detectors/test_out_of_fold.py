"""Predictions of learned images as if they had not been learned: the same as of a detector that never saw them."""

from __future__ import annotations

import pytest
import torch
from toys import images_of, ready

from continuad.core.batches import one_pass
from continuad.core.detector import Detector, OutOfFold, ask, owners_of
from continuad.core.state import Policy
from continuad.core.types import Prediction
from continuad.detectors.padim import Padim
from continuad.detectors.patchcore import PatchCore
from continuad.detectors.spade import Spade
from continuad.errors import ContinuadError
from continuad.vision.tiles import tiled

Learner = Padim | PatchCore | Spade
GOOD = torch.from_numpy(images_of(0, 9, defects=False, seed=0).images)
OTHER = torch.from_numpy(images_of(1, 6, defects=False, seed=0).images)
NEW = torch.from_numpy(images_of(0, 4, defects=True, seed=2).images)


def learn(detector: Detector, *tasks: torch.Tensor, policy: Policy = "restart") -> Detector:
    for images in tasks:
        detector.begin(iter(()), policy)
        for part in images.split(4):
            detector.step(part)
        detector.finish()
    return ready(detector)


def padim(epsilon: float = 0.01) -> Padim:
    return Padim(64, channels=12, epsilon=epsilon)


def patchcore(**options: object) -> PatchCore:
    return PatchCore(**({"image_size": 64, "bank": "100%"} | options))  # type: ignore[arg-type]


def spade(**options: object) -> Spade:
    return Spade(**({"image_size": 64, "neighbours": 3} | options))  # type: ignore[arg-type]


def scaled(images: int, copies: int = 1) -> float:
    """The epsilon of a Gaussian of the other images that stands for 0.01 in one of all."""
    return 0.01 * (images - 1) / (images - copies - 1)


def larger(found: Prediction, images: int, copies: int = 1) -> Prediction:
    """Distances as if the other images' scatter were divided as that of all is: so none comes out too low."""
    factor = ((images - 1) / (images - copies - 1)) ** 0.5
    return Prediction(found.score * factor, found.map * factor)


def without(images: torch.Tensor, place: int) -> torch.Tensor:
    """All but the copies of one image."""
    return images[torch.tensor([not torch.equal(image, images[place]) for image in images])]


def close(found: Prediction, wanted: Prediction, rtol: float) -> None:
    torch.testing.assert_close(found.map, wanted.map, rtol=rtol, atol=1e-4)
    torch.testing.assert_close(found.score, wanted.score, rtol=rtol, atol=1e-4)


def test_copies_alone_have_one_owner() -> None:
    owners = owners_of(torch.cat([GOOD, GOOD[:2]]))
    assert owners.dtype == torch.int64
    assert torch.equal(owners[9:], owners[:2])
    assert len(set(owners.tolist())) == 9
    other = GOOD[:1].clone()
    other[0, 2, 63, 63] ^= 1
    assert owners_of(other) != owners[0]


@pytest.mark.parametrize("images", [3, 5, 9])
def test_padim_without_an_image_is_the_gaussian_of_the_others(images: int) -> None:
    whole = learn(padim(), GOOD[:images])
    for place in range(images):
        found = ask(whole, GOOD[place : place + 1], out_of_fold=True)
        others = learn(padim(scaled(images)), without(GOOD[:images], place))
        close(found, larger(others.predict(GOOD[place : place + 1]), images), 1e-3)


@pytest.mark.parametrize("copies", [2, 3])
def test_padim_without_an_image_is_without_its_copies(copies: int) -> None:
    images = torch.cat([GOOD, *[GOOD[:1]] * (copies - 1)])
    found = ask(learn(padim(), images), GOOD[:2], out_of_fold=True)
    rest = learn(padim(scaled(len(images), copies)), GOOD[1:])
    close(Prediction(found.score[:1], found.map[:1]), larger(rest.predict(GOOD[:1]), len(images), copies), 5e-4)
    one_less = learn(padim(scaled(len(images))), without(images, 1))
    close(Prediction(found.score[1:], found.map[1:]), larger(one_less.predict(GOOD[1:2]), len(images)), 5e-4)


def test_padim_leaves_an_image_out_of_all_tasks_that_it_accumulated() -> None:
    whole = learn(padim(), GOOD, OTHER, policy="accumulate")
    for image, first, second in ((GOOD[3:4], without(GOOD, 3), OTHER), (OTHER[2:3], GOOD, without(OTHER, 2))):
        others = learn(padim(scaled(15)), first, second, policy="accumulate")
        close(ask(whole, image, out_of_fold=True), larger(others.predict(image), 15), 2e-3)


def test_padim_without_an_image_is_never_nearer_than_the_gaussian_of_the_others_with_the_epsilon_in_use() -> None:
    """Else few images would promise fewer false alarms than they give."""
    whole = learn(padim(), GOOD[:5])
    for place in range(5):
        found = ask(whole, GOOD[place : place + 1], out_of_fold=True)
        others = learn(padim(), without(GOOD[:5], place))
        assert (found.map >= 0.999 * others.predict(GOOD[place : place + 1]).map).all()


@pytest.mark.parametrize("images", [1, 2])
def test_padim_of_one_or_two_images_still_answers(images: int) -> None:
    """Of two, the other one alone, whose covariance is epsilon; of one there is nothing else to compare it with."""
    found = ask(learn(padim(), GOOD[:images]), GOOD[:images], out_of_fold=True)
    assert torch.isfinite(found.map).all()
    if images == 2:
        close(Prediction(found.score[:1], found.map[:1]), learn(padim(), GOOD[1:2]).predict(GOOD[:1]), 5e-3)


@pytest.mark.parametrize(
    "make", [patchcore, spade, lambda: patchcore(neighbours=1), lambda: spade(strides=(8,), neighbours=20)]
)
@pytest.mark.parametrize("copied", [False, True])
def test_a_bank_without_an_image_is_that_of_the_others(make: type[Learner], copied: bool) -> None:
    images = torch.cat([GOOD, GOOD[4:5]]) if copied else GOOD
    whole = learn(make(), images)
    found = ask(whole, images, out_of_fold=True)
    for place in (0, 4, 8):
        wanted = learn(make(), without(images, place)).predict(images[place : place + 1])
        close(Prediction(found.score[place : place + 1], found.map[place : place + 1]), wanted, 1e-5)


@pytest.mark.parametrize("make", [patchcore, spade])
def test_a_bank_leaves_an_image_out_of_all_tasks_that_it_accumulated(make: type[Learner]) -> None:
    whole = learn(make(), GOOD, OTHER, policy="accumulate")
    for image, first, second in ((GOOD[3:4], without(GOOD, 3), OTHER), (OTHER[2:3], GOOD, without(OTHER, 2))):
        others = learn(make(), first, second, policy="accumulate")
        close(ask(whole, image, out_of_fold=True), others.predict(image), 1e-5)


@pytest.mark.parametrize("make", [patchcore, spade])
def test_owners_stay_with_their_vectors_when_shares_are_cut(make: type[Learner]) -> None:
    """A bank of 6: each vector that is left is found, by its distance of 0, in the image that it belongs to."""
    whole = learn(make(bank=6, neighbours=6), GOOD, OTHER, policy="accumulate")
    assert len(whole.stats["owners"]) == 6
    assert set(whole.stats["owners"][:3].tolist()) <= set(owners_of(GOOD).tolist())
    assert set(whole.stats["owners"][3:].tolist()) <= set(owners_of(OTHER).tolist())
    for images in (GOOD, OTHER):
        mine = torch.tensor([owner in whole.stats["owners"].tolist() for owner in owners_of(images)])
        assert mine.any()
        inside, outside = whole.predict(images), ask(whole, images, out_of_fold=True)
        changed = (inside.map != outside.map).flatten(1).any(1)
        assert torch.equal(changed, mine), "an image that has a vector in the bank, and no other, is answered otherwise"


@pytest.mark.parametrize("make", [padim, patchcore, spade])
def test_an_image_that_was_never_learned_is_predicted_as_ever(make: type[Learner]) -> None:
    whole = learn(make(), GOOD)
    close(ask(whole, NEW, out_of_fold=True), whole.predict(NEW), 1e-5)


@pytest.mark.parametrize("make", [padim, patchcore, spade])
def test_a_learned_image_scores_far_lower_than_out_of_fold(make: type[Learner]) -> None:
    whole = learn(make(), GOOD)
    inside, outside = whole.predict(GOOD).score, ask(whole, GOOD, out_of_fold=True).score
    assert (inside < 0.75 * outside).all()
    assert torch.equal(ask(whole, GOOD, out_of_fold=False).score, inside)


@pytest.mark.parametrize("make", [padim, patchcore, spade])
def test_company_and_order_do_not_matter_out_of_fold(make: type[Learner]) -> None:
    whole = learn(make(), GOOD)
    together = ask(whole, torch.cat([NEW, GOOD]), out_of_fold=True)
    alone = ask(whole, GOOD[5:6], out_of_fold=True)
    close(Prediction(together.score[9:10], together.map[9:10]), alone, 1e-3)


@pytest.mark.parametrize("make", [patchcore, spade])
def test_a_bank_of_one_image_compares_it_with_itself(make: type[Learner]) -> None:
    whole = learn(make(neighbours=1), GOOD[:1])
    found = ask(whole, GOOD[:1], out_of_fold=True)
    assert float(found.map.abs().max()) == pytest.approx(0, abs=2e-3)


@pytest.mark.parametrize("make", [padim, patchcore, spade])
def test_questions_out_of_fold_are_refused_as_others_are(make: type[Learner]) -> None:
    with pytest.raises(ContinuadError, match="not trained yet"):
        ask(make(), GOOD, out_of_fold=True)
    with pytest.raises(ContinuadError, match="images are 32 x 64, but the model learned 64 x 64"):
        ask(learn(make(), GOOD), GOOD[:, :, :32], out_of_fold=True)


def test_learning_order_is_that_of_the_images() -> None:
    """Owners are noted batch by batch, as images are absorbed."""
    detector = padim()
    detector.begin(iter(()), "restart")
    for batch in one_pass(images_of(0, 9, defects=False, seed=0), None, 4):
        detector.step(batch)
    assert torch.equal(detector.stats["owners"], owners_of(GOOD))


@pytest.mark.parametrize("make", [PatchCore, Spade])
def test_a_picture_on_tiles_is_left_out_with_all_its_tiles(make: type[Detector]) -> None:
    def on_tiles() -> Detector:
        options = {"bank": "100%"} if make is PatchCore else {"neighbours": 3}
        return tiled(make)(96, tile=64, **options)

    pictures = torch.from_numpy(images_of(0, 4, defects=False, seed=0, size=96).images)
    whole = learn(on_tiles(), pictures)
    assert isinstance(whole, OutOfFold)
    wanted = learn(on_tiles(), without(pictures, 1)).predict(pictures[1:2])
    close(ask(whole, pictures[1:2], out_of_fold=True), wanted, 1e-5)


def test_padim_cannot_leave_out_the_tiles_of_a_picture() -> None:
    """Its closed form is that of copies of one image."""
    assert isinstance(padim(), OutOfFold)
    assert not isinstance(tiled(Padim)(96, tile=64, channels=12), OutOfFold)
