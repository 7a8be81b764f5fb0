"""Levels of every family of networks: as timm's own, from a file of the whole network's weights."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from continuad.errors import ContinuadError
from continuad.vision.backbones import Backbone, BackboneSpec, load_backbone
from continuad.vision.pyramids import fold_batch_norm, pyramid, takes, whole

FAMILIES = {  # name: indices of timm's intermediates, side of the image
    "convnext_atto": ((0, 1, 2), 64),
    "repvgg_a0": ((1, 2, 3), 64),
    "densenet121": ((1, 2, 3), 64),
    "vit_tiny_patch16_224": ((3, 7, 11), 64),
    "vit_small_patch14_dinov2": ((3, 7, 11), 56),
    "vit_small_patch16_dinov3": ((3, 7, 11), 64),
    "swin_tiny_patch4_window7_224": ((0, 1, 2), 64),
    "tf_efficientnet_lite0": ((1, 2, 3), 64),
    "mobilenetv3_small_050": ((1, 2, 3), 64),
    "resnet18": ((1, 2, 3), 64),
    "regnetx_002": ((1, 2, 3), 64),
    "dla34": ((2, 3, 4), 64),  # timm counts its levels from stride 1, and leaves that one out
    "pit_ti_224": ((0, 1), 224),  # strides 8 and 16, for one size of image
    "hrnet_w18_small": ((1, 2, 3), 64),  # what no level depends on cannot be taken out
}
OWN_STRIDES = {"vit_small_patch14_dinov2": (14,) * 3, "pit_ti_224": (8, 16)}


def shaken(net: nn.Module) -> nn.Module:
    """Statistics and scales as after learning: at their start they would hide what they do to features."""
    generator = torch.Generator().manual_seed(0)
    for name, value in net.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_(0, 0.1, generator=generator)
        elif name.endswith(("running_var", "gamma", "gamma_1", "gamma_2")):
            value.uniform_(0.5, 1.5, generator=generator)
    return net.eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_levels_are_those_of_the_whole_network_whose_weights_are_in_the_file(name: str, tmp_path: Path) -> None:
    indices, side = FAMILIES[name]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = shaken(whole(name))
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    backbone = load_backbone(BackboneSpec(name, str(tmp_path / "weights.safetensors")))
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = net.forward_intermediates(backbone.normalised(images), list(indices), intermediates_only=True)
    assert backbone.strides == OWN_STRIDES.get(name, (16,) * 3 if "vit" in name else (4, 8, 16))
    for level, (mine, theirs) in enumerate(zip(backbone(images), wanted, strict=True)):
        theirs = theirs.permute(0, 3, 1, 2) if theirs.shape[1] != backbone.channels[level] else theirs
        assert mine.shape == (2, backbone.channels[level], *theirs.shape[2:])
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


@pytest.fixture(scope="module")
def vit() -> Backbone:
    return load_backbone(BackboneSpec("vit_tiny_patch16_224", "random"))


@pytest.mark.parametrize(("strides", "blocks"), [((16,), [11]), ((8, 16), [5, 11]), ((4, 8, 16, 32), [2, 5, 8, 11])])
def test_a_transformer_gives_as_many_depths_as_levels_are_asked_for(
    strides: tuple[int, ...], blocks: list[int], vit: Backbone
) -> None:
    several = load_backbone(BackboneSpec("vit_tiny_patch16_224", "random"), strides)
    images = torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8)
    with torch.no_grad():
        wanted = vit.net.model.forward_intermediates(vit.normalised(images), blocks, intermediates_only=True)
    assert several.strides == (16,) * len(strides)
    for mine, theirs in zip(several(images), wanted, strict=True):
        assert mine.shape == (1, 192, 2, 3)
        torch.testing.assert_close(mine, theirs)


def test_a_transformer_in_bfloat16_answers_nearly_the_same(vit: Backbone) -> None:
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    short = load_backbone(BackboneSpec(vit.name, "random", "bfloat16"))
    for mine, theirs in zip(short(images), vit(images), strict=True):
        assert mine.dtype == torch.float32
        assert float((mine - theirs).norm() / theirs.norm()) < 0.05


@pytest.mark.parametrize(
    ("name", "size", "near"),
    [
        ("vit_tiny_patch16_224", (250, 256), "240 x 256 or 256 x 256"),
        ("vit_small_patch14_dinov2", (256, 256), "252 x 252 or 266 x 266"),
        ("mixer_s32_224", (256, 256), "224 x 224"),
        ("mixer_s32_224", (512, 512), "224 x 224"),
    ],
)
def test_a_size_that_a_network_does_not_take_is_refused_with_the_nearest(
    name: str, size: tuple[int, int], near: str
) -> None:
    backbone = load_backbone(BackboneSpec(name, "random"))
    with pytest.raises(ContinuadError, match=f"does not take images of {size[0]} x {size[1]}; .*: {near}$"):
        backbone.check_size(size)
    with pytest.raises(ContinuadError, match=near):
        backbone(torch.zeros(1, 3, *size, dtype=torch.uint8))
    taken = tuple(int(side) for side in near.split(" or ")[0].split(" x "))
    backbone.check_size((taken[0], taken[1]))
    assert backbone(torch.zeros(1, 3, *taken, dtype=torch.uint8))


def test_what_only_the_pass_itself_shows_is_said_by_name() -> None:
    """MViT looks its positions up in a table that ends at the size it was made for."""
    backbone = load_backbone(BackboneSpec("mvitv2_tiny", "random"), (16,))
    with pytest.raises(ContinuadError, match="'mvitv2_tiny' fails on images of 256 x 256"):
        backbone(torch.zeros(1, 3, 256, 256, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("name", "strides", "said"),
    [
        ("levit_128s", (4, 8, 16), "strides 16, 32, 64, not 4, 8; change the option strides, .*=16,32"),
        ("resnet18", (8, 8), "each once, not 8, 8"),
        ("mixer_s32_224", range(9), "has 8 levels, not 9"),
    ],
)
def test_strides_that_a_network_has_not_are_refused_with_those_it_has(
    name: str, strides: tuple[int, ...], said: str
) -> None:
    with pytest.raises(ContinuadError, match=said):
        pyramid(name, strides)


def test_without_strides_the_usual_ones_are_taken_that_a_network_has() -> None:
    assert load_backbone(BackboneSpec("levit_128s", "random")).strides == (16,)
    assert load_backbone(BackboneSpec("resnet10t", "random")).strides == (4, 8, 16)


def test_a_backbone_ends_behind_its_last_level() -> None:
    """The embedded network's stages of stride 32 and its head are 10 of its 13 MB."""
    sizes = {s: sum(p.nbytes for p in load_backbone(strides=s).parameters()) for s in ((4, 8, 16), (8, 16, 32))}
    assert sizes == {(4, 8, 16): 2770752, (8, 16, 32): 11756480}
    blocks = load_backbone(BackboneSpec("vit_tiny_patch16_224", "random")).net.model
    assert not any("head" in name or name.startswith("norm") for name, _ in blocks.named_parameters())


class _Shared(nn.Module):
    """A convolution whose output is normalised and also used as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        nn.init.constant_(self.norm.weight, 3)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.conv(x)
        return [x + self.norm(x)]


def test_a_network_that_folding_would_change_is_left_as_it_is() -> None:
    net, image = _Shared().eval(), torch.rand(1, 3, 64, 64)
    assert fold_batch_norm(net, image) is net
    chain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    folded = fold_batch_norm(chain, image)
    assert isinstance(folded[1], nn.Identity)
    assert isinstance(chain[1], nn.BatchNorm2d)


def test_asking_whether_a_size_is_taken_leaves_the_network_as_it_was() -> None:
    net = timm.create_model("resnet10t")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    assert takes(net, 64, 64)
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
