"""Train the Stable Diffusion pipeline that ships: its autoencoder, then its text encoder and denoiser together.

``python -m domains.images.captioned.train_pipeline --config domains/images/captioned/pipeline.yaml --source FILE.npz``
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from domains.images.captioned import captions, networks, resumable, words
from domains.images.captioned.scenes import Scenes
from domains.images.pixels import to_float
from graft.cli.script import script
from graft.core import seeding
from graft.domain.feature_training import seeded_network
from graft.io import yaml_files
from graft.io.atomic import write_with


def train(
    out: str,
    source: str,
    work: str = "runs/text_to_image_pretrain",
    held_out: float = 0.15,
    autoencoder_steps: int = 1600,
    autoencoder_batch: int = 12,
    autoencoder_rate: float = 2e-3,
    pictures: int = 16,
    steps: int = 4200,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    prompt_dropout: float = 0.1,
    seed: int = 0,
) -> str:
    """Train a pipeline and return its folder; the same call resumes an interrupted training.

    Args:
        out: Folder of the pipeline.
        source: ``.npz`` file of emoji, as in `domains.images.captioned.scenes.Scenes`.
        work: Folder of the checkpoints.
        held_out: Share of the pairs of object and colour that are not trained on.
        autoencoder_steps: Number of steps of the autoencoder.
        autoencoder_batch: Pictures of a step of the autoencoder.
        autoencoder_rate: Highest learning rate of the autoencoder.
        pictures: Pictures of each caption that the denoiser is trained on.
        steps: Number of steps of the text encoder and the denoiser.
        batch_size: Latents of a step of the denoiser.
        learning_rate: Highest learning rate of the text encoder and the denoiser.
        prompt_dropout: Share of the latents with an empty prompt, for classifier-free guidance.
        seed: Seed of the weights and the batches; the captions that are held out do not depend on it.

    Raises:
        GraftError: The source holds no emoji, or the checkpoints are of another training.
        NotFiniteError: The loss or the gradient of a step is not finite.
    """
    scenes, seen = Scenes(source), captions.split(held_out)[0]
    shared = {"held_out": held_out, "seed": seed}

    vae = seeded_network(networks.autoencoder, seed)
    folder = Path(work)
    finished = folder / "vae"
    if (finished / "config.json").is_file():
        vae = type(vae).from_pretrained(finished)
    else:
        about = {**shared, "steps": autoencoder_steps, "batch": autoencoder_batch, "rate": autoencoder_rate}

        def reconstruction(step: int) -> Tensor:
            return _reconstruction(vae, scenes, seen, autoencoder_batch, seed, step)

        resumable.train(
            vae, reconstruction, autoencoder_steps, autoencoder_rate, folder / "autoencoder.safetensors", about
        )
        vae.register_to_config(scaling_factor=1 / float(_latents(vae, scenes, seen, 1, seed).std()))
        write_with(finished, vae.save_pretrained)
    latents = _latents(vae, scenes, seen, pictures, seed)

    tokenizer = words.tokenizer()
    both = seeded_network(lambda: nn.ModuleDict(networks.text_encoder_and_denoiser(tokenizer)), seed)
    scheduler = networks.scheduler()
    tokens = _tokens(tokenizer, [caption.text(form) for caption in seen for form in captions.TEMPLATES])
    tokens = tokens.view(len(seen), len(captions.TEMPLATES), -1)
    empty = _tokens(tokenizer, [""])

    def denoising(step: int) -> Tensor:
        generator = seeding.make_generator(seed, "denoiser", step)
        rows = torch.randint(len(latents), (batch_size,), generator=generator)
        forms = torch.randint(len(captions.TEMPLATES), (batch_size,), generator=generator)
        dropped = torch.rand(batch_size, 1, generator=generator) < prompt_dropout
        prompts = torch.where(dropped, empty, tokens[rows // pictures, forms])
        x = latents[rows]
        noise = torch.randn(x.shape, generator=generator)
        times = torch.randint(scheduler.config.num_train_timesteps, (batch_size,), generator=generator)
        text = both["text_encoder"](prompts)[0]
        output = both["unet"](scheduler.add_noise(x, noise, times), times, encoder_hidden_states=text).sample
        return nn.functional.mse_loss(output, scheduler.get_velocity(x, noise, times))

    about = {**shared, "steps": steps, "batch": batch_size, "rate": learning_rate, "pictures": pictures}
    resumable.train(both, denoising, steps, learning_rate, folder / "denoiser.safetensors", about, average=0.998)
    write_pipeline(vae, tokenizer, both["text_encoder"], both["unet"], scheduler, Path(out))
    shutil.rmtree(folder)
    return out


def write_pipeline(vae: Any, tokenizer: Any, text_encoder: Any, unet: Any, scheduler: Any, out: Path) -> None:
    """Write a ``StableDiffusionPipeline``, its autoencoder and its denoiser in half precision.

    The text encoder stays in full precision, since transformers loads it in the type of its file and diffusers the
    others in full precision.
    """
    from diffusers import StableDiffusionPipeline

    vae.register_to_config(_name_or_path="")  # the folder of the checkpoints
    pipe = StableDiffusionPipeline(
        vae=vae.half(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet.half(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(out)
    words.write_older_files(out / "tokenizer")


def _reconstruction(
    vae: Any, scenes: Scenes, seen: "list[captions.Caption]", count: int, seed: int, step: int
) -> Tensor:
    """Return the loss of the autoencoder: errors of pixels and of their differences, and a weak prior."""
    generator = seeding.make_generator(seed, "autoencoder", step)
    x = _pictures(scenes, seen, count, generator)
    posterior = vae.encode(x).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator)
    error = vae.decode(posterior.mean + posterior.std * noise).sample - x
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    loss: Tensor = error.abs().mean() + error.square().mean() + 0.5 * edges + 1e-4 * posterior.kl().mean() / 64
    return loss


def _pictures(scenes: Scenes, seen: "list[captions.Caption]", count: int, generator: torch.Generator) -> Tensor:
    rows = torch.randint(len(seen), (count,), generator=generator).tolist()
    return to_float(scenes.draw([seen[row] for row in rows], generator))


@torch.no_grad()
def _latents(vae: Any, scenes: Scenes, seen: "list[captions.Caption]", each: int, seed: int) -> Tensor:
    """Return (captions · each, 8, 8, 8) scaled latents, those of a caption in a row."""
    found = []
    for i, caption in enumerate(seen):
        pixels = scenes.draw([caption] * each, seeding.make_generator(seed, "latents", i))
        found.append(vae.encode(to_float(pixels)).latent_dist.mode() * vae.config.scaling_factor)
    return torch.cat(found)


def _tokens(tokenizer: Any, texts: list[str]) -> Tensor:
    found: Tensor = tokenizer(
        texts, padding="max_length", truncation=True, max_length=words.LENGTH, return_tensors="pt"
    ).input_ids
    return found


if __name__ == "__main__":
    yaml_files.check_yaml_in_parser()
    script(train, __doc__)
