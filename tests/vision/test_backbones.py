"""Frozen pyramids: right weights, right shapes, shared bytes, offline."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from continuad.core.footprint import footprint, held_bytes
from continuad.errors import ContinuadError
from continuad.vision.backbone_weights import embedded
from continuad.vision.backbones import BackboneSpec, _load, load_backbone
from continuad.vision.feature_cache import FeatureStore, remembering


def test_folding_leaves_the_features_as_they_were() -> None:
    backbone = load_backbone()
    assert backbone.channels == (24, 40, 112)
    full = timm.create_model("tf_efficientnet_lite0").eval()
    full.load_state_dict(embedded(full.state_dict()))
    plain = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3)).eval()
    plain.load_state_dict({k: full.state_dict()[k] for k in plain.state_dict()})
    images = torch.randint(0, 256, (2, 3, 96, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = plain((images / 255 - 0.5) / 0.5)
    for level, (mine, theirs) in enumerate(zip(backbone(images), wanted, strict=True)):
        assert mine.shape[-2:] == (24 >> level, 16 >> level)
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3)


def test_the_embedded_weights_know_imagenet(real_data: Path) -> None:
    """Top-1 0.76 on these 100 of the 1,000 photographs: wrong tensors or wrong normalisation give 0.00."""
    files = sorted((real_data / "generic" / "imagenet_samples").glob("*.jpg"))
    full = timm.create_model("tf_efficientnet_lite0").eval()
    full.load_state_dict(embedded(full.state_dict()))
    chosen = range(0, 1000, 10)
    pictures = [Image.open(files[i]).convert("RGB").resize((224, 224)) for i in chosen]
    x = torch.from_numpy(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        found = torch.cat([full(part).argmax(1) for part in x.split(10)])
    assert float((found == torch.tensor(chosen)).float().mean()) > 0.6


def test_a_frozen_backbone_ignores_training_mode_and_repeats() -> None:
    backbone = load_backbone().train()
    assert not any(m.training for m in backbone.modules())
    assert not any(p.requires_grad for p in backbone.parameters())
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    assert all(torch.equal(a, b) for a, b in zip(backbone(images), backbone(images), strict=True))


@pytest.mark.parametrize("change", ["double", "half", "to_meta", "overwritten"])
def test_what_happens_to_one_pyramid_leaves_the_other_as_it_was(change: str) -> None:
    """Two requests give two pyramids: what is moved, halved or given other weights is one alone."""
    one, other = load_backbone(), load_backbone()
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = [level.clone() for level in other(images)]
    if change == "to_meta":
        one.to("meta")
    elif change == "overwritten":
        parent, _, child = next(iter(dict(one.named_parameters()))).rpartition(".")
        setattr(one.get_submodule(parent), child, torch.nn.Parameter(torch.zeros(32, 3, 3, 3)))
        assert not torch.equal(one(images)[0], before[0])
    else:
        getattr(one, change)()
    assert {p.dtype for p in other.parameters()} == {torch.float32}
    assert {p.device.type for p in other.parameters()} == {"cpu"}
    again = load_backbone()
    for mine in (other, again):
        assert all(torch.equal(a, b) for a, b in zip(mine(images), before, strict=True))


def test_two_pyramids_share_the_bytes_of_their_weights() -> None:
    one, other = load_backbone(), load_backbone()
    assert one is not other
    both = torch.nn.ModuleList([one, other])
    assert footprint(both) == footprint(one)
    assert held_bytes(both) == held_bytes(one)
    other.double()
    assert footprint(both).architecture == pytest.approx(3 * footprint(one).architecture)


@pytest.mark.parametrize("store", [None, FeatureStore()])
def test_a_buffer_that_is_used_again_gets_the_new_pictures_answer(store: FeatureStore | None) -> None:
    """A camera writes every picture to the same place: neither the backbone nor a store mistakes it for the last."""
    backbone, buffer = load_backbone(), np.zeros((1, 3, 64, 64), np.uint8)
    images = torch.from_numpy(buffer)
    with remembering(store):
        first = [level.clone() for level in backbone(images)]
        buffer[:] = np.random.default_rng(0).integers(0, 256, buffer.shape)
        second = backbone(images)
    assert not torch.equal(second[0], first[0])
    assert all(torch.equal(a, b) for a, b in zip(load_backbone()(images.clone()), second, strict=True))


@pytest.fixture
def _nothing_loaded() -> Iterator[None]:
    """The next request reads its weights, and no later one meets what it left behind."""
    _load.cache_clear()
    yield
    _load.cache_clear()


@pytest.mark.usefixtures("_nothing_loaded")
def test_features_of_a_pyramid_first_loaded_in_inference_mode_can_be_learned_on() -> None:
    with torch.inference_mode():
        backbone = load_backbone()
    level = backbone(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))[0]
    layer = torch.nn.Conv2d(level.shape[1], 1, 1)
    layer(level).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.usefixtures("_nothing_loaded")
def test_gradients_pass_through_a_pyramid_first_loaded_in_inference_mode() -> None:
    with torch.inference_mode():
        load_backbone()
    backbone = load_backbone()
    x = torch.zeros(1, 3, 64, 64, requires_grad=True)
    torch.stack([level.sum() for level in backbone.net(x * backbone.scale - backbone.offset)]).sum().backward()
    assert x.grad is not None


def test_a_name_a_spec_and_a_saved_specs_values_ask_for_the_same() -> None:
    spec = BackboneSpec("resnet10t", "random", "bfloat16")
    assert BackboneSpec.of("resnet10t") == BackboneSpec("resnet10t")
    assert BackboneSpec.of(asdict(spec)) == BackboneSpec.of(spec) == spec
    assert load_backbone(asdict(spec)).answers_like(load_backbone(spec))
    assert not load_backbone(spec).answers_like(load_backbone(BackboneSpec("resnet10t", "random")))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_come_from_a_path_without_internet(tmp_path: Path, suffix: str) -> None:
    net = timm.create_model("resnet18")
    path = tmp_path / f"weights{suffix}"
    save_file(net.state_dict(), path) if suffix == ".safetensors" else torch.save(net.state_dict(), path)
    backbone = load_backbone(BackboneSpec("resnet18", str(path)))
    assert backbone.channels == (64, 128, 256)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"spec": "resnet18"}, "--weights-file FILE"),
        ({"spec": {"name": "resnet18", "weights_file": "missing.pth"}}, "missing.pth"),
        ({"spec": "no_such_net"}, "unknown backbone"),
        ({"strides": (4, 7)}, "strides"),
        ({"spec": {"precision": "float8"}}, "precision"),
        ({"spec": {"weight_file": "a.pth"}}, "no weight_file"),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(arguments: dict, said: str) -> None:
    with pytest.raises(ContinuadError, match=said):
        load_backbone(**arguments)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(timm.create_model("resnet10t").state_dict(), path)
    with pytest.raises(ContinuadError, match="does not fit backbone 'resnet18'"):
        load_backbone(BackboneSpec("resnet18", str(path)))


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(timm.create_model("resnet10t"), path)
    with pytest.raises(ContinuadError, match="plain state dict"):
        load_backbone(BackboneSpec("resnet10t", str(path)))


def test_a_feature_store_knows_images_in_any_company_and_computes_none_twice() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 3, 64, 64), np.uint8))
    backbone, computed = load_backbone(), []
    whole = backbone(images)

    def compute(some: torch.Tensor) -> list[torch.Tensor]:
        computed.append(len(some))
        return backbone(some)

    store = FeatureStore(limit=4 * sum(level[0].nbytes for level in whole))  # room for four
    for chosen in ([3, 1], [0, 1, 2], [0, 1, 2, 3], [4], [1, 4]):
        for level, all_of in zip(store.get("owner", images[chosen], compute), whole, strict=True):
            torch.testing.assert_close(level, all_of[chosen])
            assert level.is_contiguous(memory_format=torch.channels_last)
    assert computed == [2, 2, 1, 1]


def test_a_feature_store_tells_levels_of_the_same_network_apart() -> None:
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    with remembering(FeatureStore()):
        fine, coarse = (load_backbone(strides=strides)(images) for strides in ((4, 8), (8, 16)))
    assert [level.shape[-1] for level in (*fine, *coarse)] == [16, 8, 8, 4]
