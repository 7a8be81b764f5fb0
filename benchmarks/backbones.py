"""Which timm networks serve as backbones: 63 of many families, each with the weights of a file.

    PYTHONPATH=src python benchmarks/backbones.py

For every network random weights of the whole network are saved to a file and loaded as a backbone without strides. Its
levels are compared with those of timm's own `forward_intermediates` on a random image. Prints rows of a Markdown table,
with the sides of squares that the network takes among 224, 250, 252 and 256 pixels and the one it was made for.
"""

import tempfile
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

from continuad.errors import ContinuadError
from continuad.vision.backbones import Backbone, BackboneSpec, load_backbone
from continuad.vision.pyramids import whole

SIDES = (224, 250, 252, 256)
NETWORKS = (  # noqa: SIM905 - one a line would be long
    "resnet18 wide_resnet50_2 resnetv2_50 nf_resnet26 resnest14d skresnet18 regnety_002 densenet121 dla34 "
    "hrnet_w18_small vgg11_bn inception_v4 xception41 cspresnet50 dpn48b vovnet39a ghostnet_050 hgnetv2_b0 "
    "repvgg_a0 repvit_m0_9 fastvit_t8 mobilenetv2_050 mobilenetv3_small_050 mobilenetv4_conv_small "
    "tf_efficientnet_lite0 efficientnet_b0 mixnet_s starnet_s1 convnext_atto convnextv2_atto inception_next_atto "
    "focalnet_tiny_srf mambaout_femto poolformer_s12 edgenext_xx_small mobilevit_xxs efficientvit_b0 pvt_v2_b0 "
    "twins_svt_small davit_tiny swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 maxvit_rmlp_pico_rw_256 "
    "coatnet_nano_rw_224 hiera_tiny_224 mvitv2_tiny tiny_vit_5m_224 levit_128s pit_ti_224 vit_tiny_patch16_224 "
    "deit3_small_patch16_224 vit_small_patch14_dinov2 vit_small_patch14_reg4_dinov2 vit_small_patch16_dinov3 "
    "eva02_tiny_patch14_224 beit_base_patch16_224 vit_base_patch32_clip_224 samvit_base_patch16 cait_xxs24_224 "
    "xcit_nano_12_p16_224 convit_tiny volo_d1_224 mixer_s32_224 "
).split()


def sides_taken(backbone: Backbone) -> list[int]:
    """Of the sides tried and the one that the network was made for."""
    own: int = timm.get_pretrained_cfg(backbone.name).input_size[-1]
    taken = []
    for side in sorted({*SIDES, own}):
        try:
            backbone(torch.zeros(1, 3, side, side, dtype=torch.uint8))
        except ContinuadError:
            continue
        taken.append(side)
    return taken


@torch.no_grad()
def tried(name: str, folder: Path) -> str:
    """A row of the table."""
    torch.manual_seed(1)
    net = whole(name).eval()
    save_file(net.state_dict(), folder / "weights.safetensors")
    backbone = load_backbone(BackboneSpec(name, str(folder / "weights.safetensors")))
    sides = sides_taken(backbone)
    images = torch.randint(0, 256, (1, 3, sides[0], sides[0]), dtype=torch.uint8)
    theirs = net.forward_intermediates(backbone.normalised(images), intermediates_only=True)
    theirs = [level.permute(0, 3, 1, 2) for level in theirs] + theirs  # some are channels-last
    for mine in backbone(images):
        bound = 1e-3 * float(mine.abs().max())
        if not any(level.shape == mine.shape and torch.allclose(level, mine, 1e-3, bound) for level in theirs):
            raise ContinuadError("levels differ from timm's")
    cells = (f"`{name}`", *(", ".join(map(str, part)) for part in (backbone.strides, backbone.channels, sides)))
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Try them all."""
    print("| network | strides | channels | sides taken |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in NETWORKS:
            try:
                print(tried(name, Path(folder)), flush=True)
            except ContinuadError as error:
                print(f"| `{name}` | refused: {error} | | |", flush=True)


if __name__ == "__main__":
    main()
