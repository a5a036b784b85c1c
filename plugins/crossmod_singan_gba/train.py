"""The training of SinGAN, scale after scale, on one slice: Shaham et al. 2019, section 3.2."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from crossmod import Context, FloatArray
from crossmod.torch import (
    autocast,
    require_finite,
    resumable,
    side_by_side,
    sum_gradients,
    to_numbers,
)
from crossmod_singan_gba.cascade import Cascade
from crossmod_singan_gba.choose import Choice
from crossmod_singan_gba.networks import Discriminator, Generator, initialize
from crossmod_singan_gba.panels import scale_rows
from crossmod_singan_gba.scales import ratios_of
from crossmod_singan_gba.schedule import ScalePlan, schedule_of

if TYPE_CHECKING:
    from crossmod_singan_gba import SinganGbaOptions

LEARNING_RATE_DROP = 0.1
DROP_AFTER = 0.8  # of the iterations of a scale
REPORT_EVERY = 100


def train(choice: Choice, options: SinganGbaOptions, ctx: Context) -> Cascade:
    """Learn one slice; notes losses now and then, and shows what every scale makes at the end.

    Args:
        choice: the slice.
        options: what the recipe says.
        ctx: the run; random numbers are torch's.

    Raises:
        CrossmodError: a loss is NaN or infinite.
    """
    pyramid = PyramidTrainer(choice.image, options, ctx)
    schedule, parts = pyramid.schedule, {"pyramid": pyramid}
    for number in resumable(ctx, schedule.total, parts, label="singan", phase=schedule.phase):
        scale, step = schedule.place(number)
        losses = to_numbers(pyramid.trainer_of(scale).step())
        where = f"step {step + 1} of scale {scale}, {choice.case} slice {choice.index}"
        require_finite(losses, where)
        if step % REPORT_EVERY == 0 or step == schedule.scales[scale].iterations - 1:
            ctx.metric(scale=scale, step=step, **losses)
    pyramid.finish_scale()
    ctx.panel("scales", scale_rows([images.numpy() for images in pyramid.shown]))
    return pyramid.cascade


class PyramidTrainer:
    """Trains scale after scale; its state is all that has been learned.

    Args:
        image: the slice, ``(H, W)`` in [0, 1].
        options: what the recipe says.
        ctx: the run.
    """

    def __init__(self, image: FloatArray, options: SinganGbaOptions, ctx: Context) -> None:
        shape = (image.shape[0], image.shape[1])
        ratios = ratios_of(shape, options.scale_factor, options.min_size, options.max_size)
        self.options, self.ctx = options, ctx
        self.schedule = schedule_of(options, len(ratios))
        self.whole = torch.from_numpy(image).to(ctx.device)[None, None] * 2 - 1
        self.cascade = Cascade(ratios, [], [], options.eight_bit)
        self.sides = self.cascade.sides(shape)
        self.fixed: list[Tensor] = []
        self.shown: list[Tensor] = []
        self.trainer: ScaleTrainer | None = None

    def trainer_of(self, scale: int) -> ScaleTrainer:
        """The trainer of a scale: the one at work, or that of the next scale."""
        if self.trainer is None or scale == len(self.cascade.generators):
            self.finish_scale()
            judge = self.trainer.discriminator if self.trainer else None
            self.trainer = ScaleTrainer.start(
                self.cascade,
                self._real(scale),
                self.fixed,
                judge,
                self.schedule.scales[scale],
                self.options,
                self.ctx,
            )
        return self.trainer

    def finish_scale(self) -> None:
        """Change the newest generator no more, and show what it makes."""
        if self.trainer is not None:
            self.trainer.generator.requires_grad_(False).eval()
            self.shown.append(torch.from_numpy(self.trainer.samples()))

    def state_dict(self) -> dict[str, Any]:
        """All scales so far."""
        assert self.trainer is not None
        return {
            "generators": [network.state_dict() for network in self.cascade.generators],
            "amplitudes": self.cascade.amplitudes,
            "fixed": self.fixed,
            "shown": self.shown,
            "trainer": self.trainer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state."""
        device, last = self.whole.device, len(state["generators"]) - 1
        for scale, weights in enumerate(state["generators"]):
            generator = Generator(self.schedule.scales[scale].width, self.options.kernel)
            generator.load_state_dict(weights)
            learning = scale == last
            self.cascade.generators.append(
                generator.to(device).requires_grad_(learning).train(learning)
            )
        self.cascade.amplitudes.extend(state["amplitudes"])
        self.fixed.extend(noise.to(device) for noise in state["fixed"])
        self.shown.extend(state["shown"])
        plan = self.schedule.scales[last]
        judge = Discriminator(plan.width, self.options.kernel).to(device)
        base = state["trainer"]["base"].to(device)
        self.trainer = ScaleTrainer(
            self.cascade, self._real(last), self.fixed, base, judge, plan, self.options, self.ctx
        )
        self.trainer.load_state_dict(state["trainer"])

    def _real(self, scale: int) -> Tensor:
        return self.cascade.resize(self.whole, self.sides[scale])


@dataclass
class ScaleTrainer:
    """The two networks of one scale, taking turns.

    Attributes:
        cascade: all generators including the one in training, which is the last.
        real: the slice at this scale, ``(1, 1, h, w)`` in [-1, 1].
        fixed: noise per scale that shall reproduce the slice: a draw at scale 0, then zeros.
        base: what the scales below make of the fixed noise, at the size of this scale.
        discriminator: the opponent.
        plan: how wide the networks are and how long they learn.
        options: what the recipe says.
        ctx: the run.
    """

    cascade: Cascade
    real: Tensor
    fixed: list[Tensor]
    base: Tensor
    discriminator: Discriminator
    plan: ScalePlan
    options: SinganGbaOptions
    ctx: Context

    @classmethod
    def start(
        cls,
        cascade: Cascade,
        real: Tensor,
        fixed: list[Tensor],
        previous: Discriminator | None,
        plan: ScalePlan,
        options: SinganGbaOptions,
        ctx: Context,
    ) -> ScaleTrainer:
        """Add a generator to the cascade; ``fixed`` grows by the noise of this scale."""
        scale = len(cascade.generators)
        side = (real.shape[-2], real.shape[-1])
        with torch.no_grad():
            base = cascade.resize(cascade.run(torch.zeros_like(real), fixed), side)
        if scale == 0:
            fixed.append(torch.randn_like(real))
            cascade.amplitudes.append(1.0)
        else:
            fixed.append(torch.zeros_like(real))
            cascade.amplitudes.append(amplitude(real, base, options.noise_weight))
        generator = Generator(plan.width, options.kernel)
        discriminator = Discriminator(plan.width, options.kernel)
        inherit(generator, cascade.generators[-1] if scale else None)
        inherit(discriminator, previous)
        cascade.generators.append(generator.to(real.device))
        judge = discriminator.to(real.device)
        return cls(cascade, real, fixed, base, judge, plan, options, ctx)

    def __post_init__(self) -> None:
        self.generator = self.cascade.generators[-1]
        self.optimizers = [
            torch.optim.Adam(
                network.parameters(), self.options.learning_rate, (0.5, 0.999), fused=True
            )
            for network in (self.discriminator, self.generator)
        ]
        drop = [max(1, int(DROP_AFTER * self.plan.iterations))]
        self.schedules = [
            torch.optim.lr_scheduler.MultiStepLR(optimizer, drop, LEARNING_RATE_DROP)
            for optimizer in self.optimizers
        ]

    def state_dict(self) -> dict[str, Any]:
        """What changes during a scale, and its base; the generator belongs to the cascade."""
        return {
            "base": self.base,
            "discriminator": self.discriminator.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedules": [schedule.state_dict() for schedule in self.schedules],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state; the base was given already."""
        self.discriminator.load_state_dict(state["discriminator"])
        for optimizer, own in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)
        for schedule, own in zip(self.schedules, state["schedules"], strict=True):
            schedule.load_state_dict(own)

    def autocast(self) -> torch.autocast:
        """The number format: fp32 as in the official code, or that of the run."""
        paper = self.options.schedule == "paper"
        return autocast(self.ctx.device, "fp32" if paper else self.ctx.precision)

    def step(self) -> dict[str, Tensor]:
        """One iteration: a few steps of the discriminator, then as many of the generator."""
        bases = self.random_bases(self.options.steps)
        noises = torch.randn_like(bases)
        with torch.no_grad():
            fakes = self.generate(noises, bases)
        for fake in fakes:
            losses = self.step_discriminator(fake[None])
        self.discriminator.requires_grad_(False)
        for _ in range(self.options.steps):
            losses |= self.step_generator(noises[-1:], bases[-1:])
        self.discriminator.requires_grad_(True)
        for schedule in self.schedules:
            schedule.step()
        return losses

    def random_bases(self, count: int) -> Tensor:
        """Images ``(count, 1, h, w)`` made from noise by the scales below, at this size."""
        *below, own = self.fixed
        noises = [torch.randn(count, *fixed.shape[1:], device=fixed.device) for fixed in below]
        with torch.no_grad(), self.autocast():
            black = torch.zeros(count, *own.shape[1:], device=own.device)
            return self.cascade.resize(
                self.cascade.run(black, noises), (own.shape[-2], own.shape[-1])
            )

    def generate(self, noise: Tensor, base: Tensor) -> Tensor:
        """Run the generator in training."""
        with self.autocast():
            images: Tensor = self.generator(base + self.cascade.amplitudes[-1] * noise, base)
        return images

    def step_discriminator(self, fake: Tensor) -> dict[str, Tensor]:
        """Score the slice higher than a fake, with a gradient near 1 (WGAN-GP)."""
        share = torch.rand(1, device=self.real.device)
        mix = share * self.real + (1 - share) * fake
        parameters = list(self.discriminator.parameters())

        def piece(name: str) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
            with self.autocast():
                if name == "critic":
                    loss = part = critic(self.discriminator, self.real, fake)
                else:
                    loss = gradient_penalty(self.discriminator, mix)
                    part = self.options.penalty_weight * loss
            return (
                loss.detach(),
                part.detach(),
                torch.autograd.grad(part, parameters, materialize_grads=True),
            )

        names = ["critic", "penalty"]
        pieces = list(side_by_side(piece, names, self.ctx))
        sum_gradients(parameters, [(part, gradients) for _, part, gradients in pieces])
        self.optimizers[0].step()
        return {name: loss for name, (loss, *_) in zip(names, pieces, strict=True)}

    def step_generator(self, noise: Tensor, base: Tensor) -> dict[str, Tensor]:
        """Raise the score of a fake and reproduce the slice from the fixed noise."""
        noises = torch.cat([noise, self.fixed[-1]])
        # The fake is the last that the discriminator saw, made again: it counts once.
        with self.generator.counted(1):
            images = self.generate(noises, torch.cat([base, self.base]))
        fake, rebuilt = images[:1], images[1:]
        with self.autocast():
            adversarial = -self.discriminator(fake).float().mean()
        reconstruction = mse_loss(rebuilt, self.real)
        weight = self.options.reconstruction_weight
        optimize(self.optimizers[1], adversarial + weight * reconstruction)
        return {"adversarial": adversarial.detach(), "reconstruction": reconstruction.detach()}

    @torch.no_grad()
    def samples(self) -> FloatArray:
        """The slice, its reconstruction and two images from noise, ``(4, h, w)`` in [0, 1]."""
        rebuilt = self.generate(self.fixed[-1], self.base)
        fakes = self.generate(torch.randn_like(self.real).repeat(2, 1, 1, 1), self.random_bases(2))
        images = torch.cat([self.real, rebuilt, fakes])[:, 0]
        return ((images.clamp(-1, 1) + 1) / 2).cpu().numpy()


def amplitude(real: Tensor, base: Tensor, weight: float) -> float:
    """Noise in proportion to what a scale has to add: weight x root mean square error."""
    return weight * math.sqrt(float(mse_loss(real, base)))


def inherit(network: Generator | Discriminator, previous: Generator | Discriminator | None) -> None:
    """Start from the weights of the scale below where the widths agree, else from random ones."""
    if previous is not None and previous.width == network.width:
        network.load_state_dict(previous.state_dict())
    else:
        initialize(network)


def critic(discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
    """How much higher a fake is scored than the slice."""
    real_scores, fake_scores = discriminator(torch.cat([real, fake])).float()
    difference: Tensor = fake_scores.mean() - real_scores.mean()
    return difference


def gradient_penalty(discriminator: Discriminator, mix: Tensor) -> Tensor:
    """Mean of (|gradient| - 1)^2 over the pixels of an image, as in the official code."""
    image = mix.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(image).sum(), image, create_graph=True)
    penalty: Tensor = (torch.linalg.vector_norm(gradient.float(), dim=1) - 1) ** 2
    return penalty.mean()


def optimize(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down the gradient."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
