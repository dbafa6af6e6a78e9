"""VQAScore: probability, by a question-answering model, that a picture shows its prompt."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from typing_extensions import override

from domains.images import pretrained
from domains.images.rewards.network import Dtype, NetworkReward
from domains.images.rewards.parts import load_network
from graft.errors import GraftError
from graft.io.json_files import parse_json

# The protocol that CLIP-FlanT5 was trained with: the text before and after the picture
BEFORE = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. USER: "
)
BEHIND = '\nDoes this figure show "{}"? Please answer yes or no. ASSISTANT: '
ANSWER = "Yes"
HIDDEN = -2  # layer of the vision tower that gives the patches for the language model


class VQAScore(NetworkReward):
    """Likelihood of the answer "Yes" to 'Does this figure show "…"?', 0 to 1.

    Lin et al. 2024, arXiv 2404.01291. It is exp of the mean log-likelihood of the answer's tokens, its end included, as
    in their code.

    Model: CLIP-FlanT5, ``zhiqiulin/clip-flant5-xxl`` (11 billion parameters) or ``-xl`` (3 billion), Apache-2.0
    licence: FlanT5's encoder and decoder (transformers' `T5ForConditionalGeneration`). Its input has the patches of
    CLIP's vision tower (``openai/clip-vit-large-patch14-336``, MIT licence), through a projector of two layers, in
    place of the picture. Tokens are those of ``google/flan-t5-xxl``, Apache-2.0 licence.

    Args:
        model: Folder of the weights, or their name on the hub.
        tokenizer: Folder or name of the tokenizer; FlanT5's of the model's size if not given.
        vision: Folder or name of the vision tower; the one that the weights name if not given.
        dtype: Type of the computation; the xxl model takes 23 GB in bfloat16.
        device: Device of the model; a GPU if there is one, if not given.
        batch_size: Pictures at a time.
    """

    name = "VQAScore"

    def __init__(
        self,
        model: str = "zhiqiulin/clip-flant5-xxl",
        tokenizer: "str | None" = None,
        vision: "str | None" = None,
        dtype: Dtype = "bfloat16",
        device: "str | None" = None,
        batch_size: int = 8,
    ) -> None:
        super().__init__(model, dtype, device, batch_size)
        self.tokenizer = tokenizer or f"google/flan-t5-{'xl' if model.endswith('-xl') else 'xxl'}"
        self.vision = vision
        self._t5: Any = None
        self._tower: Any = None
        self._projector: Any = None
        self._tokens: Any = None
        self._processor: Any = None

    @override
    def load(self) -> list[nn.Module]:
        """Load T5, the vision tower and the projector.

        Raises:
            GraftError: The weights have no projector.
        """
        from transformers import CLIPVisionModel, T5Config, T5ForConditionalGeneration

        dtype = getattr(torch, self.dtype)
        folder = _folder(self.model)
        try:
            settings = parse_json((folder / "config.json").read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise GraftError(f"{folder / 'config.json'} is missing or damaged: {error}") from None
        foreign = {"model_type", "architectures", "auto_map", "torch_dtype", "dtype", "transformers_version"}
        own = {name: value for name, value in settings.items() if name not in foreign and not name.startswith("mm_")}
        config = T5Config(**{"decoder_start_token_id": 0, **own})
        what = f"the model {self.model!r}"
        self._t5 = pretrained.load_pretrained(T5ForConditionalGeneration, folder, what, config=config, dtype=dtype)
        self._projector = _projector(folder, dtype)
        tower = self.vision or settings.get("mm_vision_tower", "openai/clip-vit-large-patch14-336")
        self._tower = load_network(CLIPVisionModel, self.name, "the vision tower", tower, "vision", dtype=dtype)
        self._processor = self.image_processor(tower, "vision")
        self._tokens = self.tokenizer_of(self.tokenizer, "tokenizer")
        return [self._t5, self._tower, self._projector]

    @override
    def values(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        mean = tuple(int(255 * value) for value in self._processor.image_mean)
        pixels = self._processor(images=[_square(image, mean) for image in images], return_tensors="pt")["pixel_values"]
        hidden = self._tower(pixels.to(self._device, self._tower.dtype), output_hidden_states=True).hidden_states
        patches = self._projector(hidden[HIDDEN][:, 1:])  # without the class token
        before = self._ids(BEFORE)
        rows = [
            self._embedded(before, patch, self._ids(BEHIND.format(prompt)))
            for patch, prompt in zip(patches, prompts, strict=True)
        ]
        inputs = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        length = torch.tensor([len(row) for row in rows], device=self._device)
        mask = (torch.arange(inputs.shape[1], device=self._device) < length[:, None]).long()
        answer = self._ids(ANSWER).expand(len(rows), -1)
        logits = self._t5(inputs_embeds=inputs, attention_mask=mask, labels=answer).logits
        log_p = logits.float().log_softmax(-1).gather(-1, answer[..., None])[..., 0]
        likelihood: Tensor = log_p.mean(1).exp()
        return likelihood

    def _ids(self, text: str) -> Tensor:
        """Return the tokens of a text and the end token.

        In training an end token stood after each part.
        """
        return torch.tensor(self._tokens(text).input_ids, device=self._device)

    def _embedded(self, before: Tensor, patches: Tensor, behind: Tensor) -> Tensor:
        embed = self._t5.get_input_embeddings()
        return torch.cat([embed(before), patches.to(embed.weight.dtype), embed(behind)])


def _folder(name: str) -> Path:
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.bin", "*.model"]))


def _projector(folder: Path, dtype: torch.dtype) -> nn.Module:
    """Return the two layers from the vision tower's width to the language model's."""
    found: dict[str, Tensor] = {}
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        for name, tensor in _tensors(path).items():
            if "mm_projector." in name:
                found[name.rpartition("mm_projector.")[2]] = tensor
    if not {"0.weight", "0.bias", "2.weight", "2.bias"} <= found.keys():
        raise GraftError(f"{folder} holds no CLIP-FlanT5: its weights have no mm_projector of two layers")
    (wide, narrow), out = found["0.weight"].shape, found["2.weight"].shape[0]
    network = nn.Sequential(nn.Linear(narrow, wide), nn.GELU(), nn.Linear(wide, out))
    network.load_state_dict({name: found[name] for name in network.state_dict()})
    return network.to(dtype)


def _tensors(path: Path) -> dict[str, Tensor]:
    """Return the projector's tensors of a file, without reading the others where possible."""
    if path.suffix == ".bin":
        content: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return content
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys() if "mm_projector." in name}


def _square(image: Image.Image, colour: tuple[int, ...]) -> Image.Image:
    """Return the picture in the middle of a square of one colour."""
    size = max(image.size)
    if image.size == (size, size):
        return image
    canvas = Image.new("RGB", (size, size), colour)
    canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return canvas
