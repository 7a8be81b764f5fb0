"""Frozen pyramids: right weights, right shapes, offline."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from continuad.errors import ContinuadError
from continuad.vision.backbones import _embedded_weights, load_backbone
from continuad.vision.feature_cache import FeatureStore, remembering


def test_folding_leaves_the_features_as_they_were() -> None:
    backbone = load_backbone()
    assert backbone.channels == (24, 40, 112)
    full = timm.create_model("tf_efficientnet_lite0").eval()
    full.load_state_dict(_embedded_weights(full.state_dict()))
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
    full.load_state_dict(_embedded_weights(full.state_dict()))
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


def test_the_same_request_is_the_same_object() -> None:
    assert load_backbone() is load_backbone()


def test_remembered_features_follow_the_images() -> None:
    backbone = load_backbone()
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    first = backbone(images)
    assert backbone(images) is first
    images += 200  # the same object, changed in place
    second = backbone(images)
    assert not torch.equal(second[0], first[0])
    assert torch.equal(backbone(images.clone())[0], second[0])


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_come_from_a_path_without_internet(tmp_path: Path, suffix: str) -> None:
    net = timm.create_model("resnet18")
    path = tmp_path / f"weights{suffix}"
    save_file(net.state_dict(), path) if suffix == ".safetensors" else torch.save(net.state_dict(), path)
    backbone = load_backbone("resnet18", weights_file=str(path))
    assert backbone.channels == (64, 128, 256)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "resnet18"}, "--weights-file FILE"),
        ({"name": "resnet18", "weights_file": "missing.pth"}, "missing.pth"),
        ({"name": "no_such_net"}, "unknown backbone"),
        ({"strides": (4, 7)}, "strides"),
        ({"precision": "float8"}, "precision"),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(arguments: dict, said: str) -> None:
    with pytest.raises(ContinuadError, match=said):
        load_backbone(**arguments)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(timm.create_model("resnet10t").state_dict(), path)
    with pytest.raises(ContinuadError, match="does not fit backbone 'resnet18'"):
        load_backbone("resnet18", weights_file=str(path))


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(timm.create_model("resnet10t"), path)
    with pytest.raises(ContinuadError, match="plain state dict"):
        load_backbone("resnet10t", weights_file=str(path))


def test_a_feature_store_tells_levels_of_the_same_network_apart() -> None:
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    with remembering(FeatureStore()):
        fine, coarse = (load_backbone(strides=strides)(images) for strides in ((4, 8), (8, 16)))
    assert [level.shape[-1] for level in (*fine, *coarse)] == [16, 8, 8, 4]
