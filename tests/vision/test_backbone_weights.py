"""Files of weights: the forms they come in, and what is said of those that do not serve."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from continuad.errors import ContinuadError
from continuad.vision.backbones import BackboneSpec, load_backbone

NAME = "resnet10t"
IMAGES = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return timm.create_model(NAME).state_dict()


def levels(path: Path, name: str = NAME) -> list[Tensor]:
    return load_backbone(BackboneSpec(name, str(path)))(IMAGES)


@pytest.mark.parametrize("form", ["plain", "state_dict", "model", "safetensors", "old", "other_classes", "no_head"])
def test_every_form_of_a_file_gives_the_same_features(form: str, tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save(weights, tmp_path / "reference.pth")
    given, path = dict(weights), tmp_path / "given.pth"
    if form == "safetensors":
        save_file(given, path := tmp_path / "given.safetensors")
    elif form in ("state_dict", "model"):
        torch.save({"epoch": 3, form: given}, path)
    else:
        if form == "old":
            given = {k: v for k, v in given.items() if not k.endswith("num_batches_tracked")}
        elif form == "other_classes":
            given |= {"fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}
        elif form == "no_head":
            del given["fc.weight"], given["fc.bias"]
        torch.save(given, path)
    same = zip(levels(path), levels(tmp_path / "reference.pth"), strict=True)
    assert all(torch.equal(a, b) for a, b in same)


def test_names_that_a_networks_authors_use_are_taken_where_timm_knows_them(tmp_path: Path) -> None:
    """DINOv2 with registers as Meta publishes it: other names, and one position more."""
    name = "vit_small_patch14_reg4_dinov2"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        own = timm.create_model(name).state_dict()
    theirs = {k.replace("reg_token", "register_tokens"): v for k, v in own.items()}
    theirs["pos_embed"] = torch.cat([torch.zeros(1, 1, 384), own["pos_embed"]], 1)
    theirs["mask_token"] = torch.zeros(1, 384)
    theirs["cls_token"] = own["cls_token"]
    torch.save(own, tmp_path / "own.pth")
    torch.save(theirs, tmp_path / "theirs.pth")
    images = torch.randint(0, 256, (1, 3, 56, 56), dtype=torch.uint8)
    mine, others = (load_backbone(BackboneSpec(name, str(tmp_path / f)))(images) for f in ("own.pth", "theirs.pth"))
    assert all(torch.equal(a, b) for a, b in zip(mine, others, strict=True))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        (b"nothing of the kind", "cannot be read as a plain state dict"),
        ({"state_dict": {}}, "holds no state dict"),
        ([torch.zeros(1)], "holds no state dict"),
        (
            {"other": torch.zeros(1)},
            "does not fit backbone 'resnet10t': .* tensors are missing .*, first conv1.0.weight",
        ),
        ("resnet18", "does not fit backbone 'resnet10t'"),
        ("vit_tiny_patch16_224", "does not fit backbone 'resnet10t'"),
    ],
)
def test_a_file_that_does_not_serve_is_refused_by_name(content: object, said: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(timm.create_model(content).state_dict() if isinstance(content, str) else content, path)
    with pytest.raises(ContinuadError, match=said) as refusal:
        load_backbone(BackboneSpec(NAME, str(path)))
    assert str(path) in str(refusal.value)


def test_a_transformer_of_another_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model("vit_tiny_patch16_224").state_dict(), path)
    with pytest.raises(ContinuadError, match="does not fit backbone 'vit_small_patch16_224'"):
        load_backbone(BackboneSpec("vit_small_patch16_224", str(path)))


def test_weights_that_lack_a_block_are_refused(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / "weights.pth"
    torch.save({k: v for k, v in weights.items() if not k.startswith("layer2")}, path)
    with pytest.raises(ContinuadError, match="first layer2"):
        levels(path)
