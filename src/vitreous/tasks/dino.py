"""DINO: a student sees little parts of a picture and must answer as its own running average does from large ones.

Caron et al. 2021, "Emerging Properties in Self-Supervised Vision Transformers", sections 3.1, 3.2 and appendix C. What
ships is the teacher. Both could agree by saying the same of every picture, one prototype or all of them alike: centring
keeps them from the first, sharpening from the second (section 5.3), and the entropy of the teacher's mean answer, and
how much a single one tells beyond it, show whether they do. Knows any backbone; the heads are thrown away.

Other than published: weight decay stays what it is, there it rises from 0.04 to 0.4; and views differ in place, size
and side alone, there also in colour, blur and solarisation, as ``--set task.augment.policy=three`` makes them here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import Augment, AugmentConfig, Evaluate, Transform
from vitreous.data.views import MultiCrop
from vitreous.errors import UsageError
from vitreous.layers.attention import Attend
from vitreous.models.vit import ViT
from vitreous.network import Network
from vitreous.tasks.task import Loss, SelfSupervised, Watch
from vitreous.types import Batch

SHORTEST = 25  # steps that the teacher averages over at least
COLLAPSED = 0.1  # nats that the teacher's answer holds about its picture, below which it says the same of all
FEW = 3  # prototypes that all answers together are spread over, below which a few have swallowed the others
EVEN = 0.9  # share of ln K, above which the entropy of an answer makes it one that is spread over all prototypes
_LATEST = 0.2  # weight of the newest batch in the numbers that are held against these


@dataclass(frozen=True, kw_only=True)
class DinoConfig:
    """What the two networks see, and how their answers become a loss.

    Attributes:
        large: views of most of a picture, which both see.
        small: views of little parts, which only the student sees.
        large_scale: share of the picture's area that a large view keeps.
        small_scale: the same of a small one.
        small_size: side of a small view in pixels; None: half of the network's, in whole cells of its last map.
        prototypes: K, the outputs of a head.
        hidden: width of a head's two hidden layers.
        bottleneck: width of the unit vector that is compared with the prototypes.
        student: temperature of the student's answers.
        teacher: temperature of the teacher's, at the beginning and from ``warmup`` on, linear in between.
        warmup: share of training.
        momentum: of the teacher's weights at the beginning; it rises to 1 on a cosine.
        centre: momentum of the centre; 1 leaves it at zero.
        freeze: share of training in which the prototypes stay as they were drawn.
    """

    large: int = 2
    small: int = 2
    large_scale: tuple[float, float] = (0.7, 1.0)
    small_scale: tuple[float, float] = (0.2, 0.5)
    small_size: int | None = None
    prototypes: int = 1024
    hidden: int = 512
    bottleneck: int = 128
    student: float = 0.1
    teacher: tuple[float, float] = (0.04, 0.04)
    warmup: float = 0.3
    momentum: float = 0.996
    centre: float = 0.9
    freeze: float = 0.01

    def __post_init__(self) -> None:
        least = {"large": 2, "small": 0, "prototypes": 2, "hidden": 1, "bottleneck": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise UsageError(f"pretrain.dino.{name} must be at least {low}, not {getattr(self, name)}.")
        if self.small_size is not None and self.small_size < 1:
            raise UsageError(f"pretrain.dino.small_size must be at least 1 pixel, not {self.small_size}.")
        for name in ("warmup", "momentum", "centre", "freeze"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"pretrain.dino.{name} lies in [0, 1], not {getattr(self, name)}.")
        if not 0 < min(self.student, *self.teacher) < math.inf:
            raise UsageError(
                "The temperatures of pretrain.dino must be more than 0; student=0.1 and teacher=0.04,0.04 are usual."
            )

    def temperature(self, done: float) -> float:
        """Of the teacher, when a share ``done`` of training is over."""
        first, last = self.teacher
        return last if done >= self.warmup else first + (last - first) * done / self.warmup

    def weight(self, done: float, step: float) -> float:
        """Of the student in its running average, when a share ``done`` of training is over.

        The published momentum is for runs of 100,000 steps; in a short one such an average would be mostly its random
        start. So it reaches back over no more than a thirtieth of the run, but over ``SHORTEST`` steps at least.

        Args:
            step: share of training that one step is.
        """
        start = max(1 - self.momentum, min(30 * step, 1 / SHORTEST)) if self.momentum < 1 else 0.0
        return start * (1 + math.cos(math.pi * done)) / 2


class Head(nn.Module):
    """Three layers to a unit vector, and its cosines with K prototypes (appendix C, "Projection head").

    The layer of unit vectors is what the paper calls weight-normalised, with norms held at 1.
    """

    def __init__(self, width: int, config: DinoConfig) -> None:
        super().__init__()
        self.first = nn.Linear(width, config.hidden)
        self.second = nn.Linear(config.hidden, config.hidden)
        self.third = nn.Linear(config.hidden, config.bottleneck)
        self.prototypes = nn.Linear(config.bottleneck, config.prototypes, bias=False)
        for layer in (self.first, self.second, self.third, self.prototypes):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, frozen: bool = False) -> Tensor:
        """(b, d) -> (b, K) in [-1, 1]; with ``frozen`` the prototypes get no gradient."""
        x = self.third(F.gelu(self.second(F.gelu(self.first(x)))))
        weight = self.prototypes.weight.detach() if frozen else self.prototypes.weight
        return F.linear(F.normalize(x.float(), dim=1), F.normalize(weight, dim=1))


class Dino(SelfSupervised):
    """The cross-entropy between what the teacher says of a large view and the student of every other view.

    The heads see pooled vectors with the teacher's running mean taken off and its running deviation divided out:
    those of a network that is not trained yet are nearly parallel, and would need thousands of steps to part.

    The teacher's weights are a running average of the student's. Its batch norms are not: they measure the large views
    as they pass through the teacher itself, as in the published code, because statistics of the student's small views
    and other weights would not be its own. It drops nothing out.

    Args:
        network: the teacher; the student begins as its copy.
        augment: of both kinds of views, crops apart.
        total: adds a tensor up over all processes, in place.
        progress: share of training that is done before a step.

    Raises:
        UsageError: pictures that are less than two patches a side.
    """

    by_loss = False
    least = 8  # the smallest of section 5.5; the entropies that tell of a collapse need as many, too
    wanted = 64
    panels = ("the picture", "where it looks")
    done: Tensor
    centre: Tensor
    mean: Tensor
    variance: Tensor
    entropy: Tensor
    information: Tensor
    tally: Tensor

    def __init__(
        self,
        network: Network,
        config: DinoConfig,
        preprocess: Preprocess,
        augment: AugmentConfig,
        watch: Watch,
        *,
        total: Callable[[Tensor], Tensor],
        progress: Callable[[int], float],
    ) -> None:
        super().__init__(network, watch)
        patch = network.backbone.strides[0]
        if preprocess.size < 2 * patch:
            raise UsageError(
                f"Pictures of {preprocess.size} px are less than 2 patches of {patch} px a side, and have no parts to "
                f"tell alike; set --size {4 * patch} or more."
            )
        self.config, self.preprocess, self.augment = config, preprocess, augment
        self.total, self.progress = total, progress
        width, k = network.backbone.width, config.prototypes
        self.student = copy.deepcopy(network.backbone)
        self.head = Head(width, config)
        self.teacher_head = copy.deepcopy(self.head)
        network.requires_grad_(False)
        self.teacher_head.requires_grad_(False)
        # kept with the state: a resumed run knows no more than this before its first step is done
        self.register_buffer("done", torch.tensor(0.0))
        self.register_buffer("centre", torch.zeros(k))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        # of the teacher's mean answer, and of how much a single one tells: as if all were well, until it is known
        self.register_buffer("entropy", torch.tensor(math.log(k)))
        self.register_buffer("information", torch.tensor(1.0))
        self._parts = (k, k, width, width, 1, 1)
        self.register_buffer("tally", torch.zeros(sum(self._parts)), persistent=False)  # of this step's teacher

    def groups(self) -> list[list[str]]:
        student = [[f"student.{name}" for name in group] for group in self.student.groups()]
        return [*student, [f"head.{name}" for name, _ in self.head.named_parameters()]]

    def train(self, mode: bool = True) -> Dino:
        """As in torch; of the teacher only the batch norms are ever in training mode."""
        super().train(mode)
        self.network.eval()
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train(mode)
        return self

    def views(self, train: bool, done: float = 0.0) -> Transform:
        if not train:
            return Evaluate(self.preprocess)
        config, augment = self.config, replace(self.augment, pad=0)
        cell = self.network.backbone.strides[-1]
        side = config.small_size or max(round(self.preprocess.size / 2 / cell), 1) * cell
        large = Augment(replace(augment, crop_scale=config.large_scale), self.preprocess)
        small = Augment(replace(augment, crop_scale=config.small_scale), replace(self.preprocess, size=side))
        return MultiCrop(large, small, (config.large, config.small))

    def loss(self, batch: Batch) -> Loss:
        assert batch.views is not None
        config, done, b = self.config, float(self.done), len(batch.label)
        large = self.network.normalise(torch.cat([batch.image, *batch.views.unbind(1)]))  # (v b, 3, h, w)
        groups = [large]
        if batch.crops is not None:
            groups.append(self.network.normalise(torch.cat(batch.crops.unbind(1))))
        answers = self._teach(large, config.temperature(done)).unflatten(0, (-1, b))  # (v, b, K)
        frozen = done < config.freeze
        logits = torch.cat([self.head(self._even(self.student(group).pooled), frozen) for group in groups])
        guesses = (logits.float() / config.student).log_softmax(dim=1).unflatten(0, (-1, b))  # (v + m, b, K)
        # those of the batches so far: they are the whole batch's, over all processes, and the same in all of them
        parts = {"entropy": self.entropy.clone(), "information": self.information.clone()}
        return Loss(cross_entropy(answers, guesses), parts)

    @torch.no_grad()
    def _teach(self, large: Tensor, temperature: float) -> Tensor:
        """(n, 3, h, w) normalised -> probabilities (n, K), and what ``after_step`` has to know of them."""
        pooled: Tensor = self.network.backbone(large).pooled.float()
        logits: Tensor = self.teacher_head(self._even(pooled)).float()
        answers = ((logits - self.centre) / temperature).softmax(dim=1)
        if self.training:
            moved = pooled - self.mean
            sums = (logits, answers, moved, moved.square(), torch.special.entr(answers).sum(1, keepdim=True))
            self.tally += torch.cat([*(x.sum(dim=0) for x in sums), pooled.new_tensor([len(pooled)])])
        return answers

    def _even(self, pooled: Tensor) -> Tensor:
        """(n, d) -> (n, d) of about mean 0 and deviation 1 over the teacher's pictures."""
        return (pooled.float() - self.mean) / (self.variance + 1e-6).sqrt()

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        super().after_step(step)
        *sums, count = self.total(self.tally).split(self._parts)
        logits, answers, moved, squares, entropy = (x / count for x in sums)
        self.tally.zero_()
        self.centre.lerp_(logits, 1 - self.config.centre)
        pace = max(0.1, 1 / (step + 1))
        self.mean.add_(moved, alpha=pace)
        self.variance.lerp_(squares - moved.square(), pace)
        together = torch.special.entr(answers).sum()
        self.entropy.lerp_(together, _LATEST)
        self.information.lerp_(together - entropy[0], _LATEST)
        teacher: list[Tensor] = [*self.network.backbone.parameters(), *self.teacher_head.parameters()]
        student: list[Tensor] = [*self.student.parameters(), *self.head.parameters()]
        done, then = self.progress(step), self.progress(step + 1)
        torch._foreach_lerp_(teacher, student, self.config.weight(done, then - done))
        self.done.fill_(then)

    def halted(self) -> str:
        told, together, k = float(self.information), float(self.entropy), self.config.prototypes
        begin, most = f"Collapse: at step {self.step}", f"ln K = {math.log(k):.3f}"
        rates = "lower train.optim.lr and train.optim.muon_lr tenfold with --set"
        if together < math.log(FEW):  # in good time: what is left is told long, and is always the same
            return (
                f"{begin} the teacher's answers to all pictures are spread over {math.exp(together):.1f} of its {k} "
                f"prototypes (the entropy of their mean is {together:.3f} nats, at most {most}), so soon one stands "
                f"for everything; go back to --set pretrain.dino.centre=0.9, or {rates}."
            )
        if told >= COLLAPSED:
            return super().halted()
        if together - told > EVEN * math.log(k):
            return (
                f"{begin} each of the teacher's answers is spread evenly over its {k} prototypes (their entropy is "
                f"{together - told:.3f} nats, at most {most}), so none tells anything about its picture; go back to "
                f"--set pretrain.dino.teacher=0.04,0.04, or {rates}."
            )
        return (
            f"{begin} the teacher's answer tells {told:.3f} nats about its picture, so it says nearly the same of all; "
            f"{rates}, or go back to --set pretrain.dino.teacher=0.04,0.04 --set pretrain.dino.centre=0.9."
        )

    @torch.no_grad()
    def show(self, batch: Batch) -> Tensor:
        """The picture, and in warm colours where the class token looks, or which cells are like the pooled vector."""
        image = self.network.normalise(batch.image)
        heat = self._looked(image)[:, None].float()  # (b, 1, h, w)
        low, high = heat.amin((2, 3), keepdim=True), heat.amax((2, 3), keepdim=True)
        heat = F.interpolate((heat - low) / (high - low).clamp(min=1e-12), image.shape[-2:], mode="bilinear")
        picture = self.network.pixels(image)
        colours = (3 * heat - heat.new_tensor([0.0, 1.0, 2.0]).view(3, 1, 1)).clamp(0, 1)  # black, red, yellow, white
        return torch.stack([picture, (picture + colours) / 2], dim=1)

    def _looked(self, image: Tensor) -> Tensor:
        """(b, 3, h, w) normalised -> (b, h', w') over the cells of the last map."""
        backbone = self.network.backbone
        if isinstance(backbone, ViT) and backbone.config.pool in ("token", "distilled", "both"):
            seen: list[tuple[Tensor, ...]] = []
            last = [module for module in backbone.modules() if isinstance(module, Attend)][-1]
            hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
            try:
                rows, columns = backbone(image).maps[-1].shape[-2:]
            finally:
                hook.remove()
            q, k = seen[0][:2]  # (b, heads, p + n, d_h)
            scores = (q[:, :, :1] @ k.transpose(-2, -1)).squeeze(2) / math.sqrt(q.shape[-1])
            weights = scores.softmax(dim=-1).mean(dim=1)  # (b, p + n)
            looked: Tensor = weights[:, -rows * columns :].unflatten(1, (rows, columns))
            return looked
        features = backbone(image)
        cells, pooled = features.maps[-1], features.pooled
        if pooled.shape[1] != cells.shape[1]:  # where another layer stands between the map and the pooled vector
            pooled = cells.mean(dim=(2, 3))
        return F.cosine_similarity(cells, pooled[:, :, None, None], dim=1)


def cross_entropy(answers: Tensor, guesses: Tensor) -> Tensor:
    """Mean over pictures and over all pairs of a large view and another view (the paper's equation 3).

    Args:
        answers: (v, b, K), the teacher's probabilities of the large views.
        guesses: (v + m, b, K), the student's log-probabilities of the same, and then of the small views.
    """
    v, b = answers.shape[:2]
    same = (answers * guesses[:v]).sum()
    return (same - (answers.sum(dim=0) * guesses.sum(dim=0)).sum()) / (v * (len(guesses) - 1) * b)
