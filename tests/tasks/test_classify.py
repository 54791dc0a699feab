"""The classification task against torch's own loss, scikit-learn's metrics, and eight pictures learned by heart."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss

from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import Augment, Evaluate
from vitreous.errors import UsageError
from vitreous.network import NetworkConfig, build_network
from vitreous.tasks.classify import ClassifyConfig, ClassifyTask, inverse_frequency, metrics
from vitreous.types import Batch

PREPROCESS = Preprocess(size=32, store=32)


def make(counts: tuple[int, ...] = (10, 10, 10), **options: object) -> ClassifyTask:
    torch.manual_seed(0)
    network = build_network(NetworkConfig(model="vit_pico_patch4_32", classes=len(counts), size=32))
    return ClassifyTask(network, ClassifyConfig(**options), PREPROCESS, counts)


def batch(n: int = 8, k: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return Batch(image, torch.arange(n) % k, torch.arange(n))


def test_the_loss_is_the_smoothed_cross_entropy_by_hand() -> None:
    task, given = make(label_smoothing=0.2), batch()
    logits = task.network(given.image).double()
    target = F.one_hot(given.label, 3) * 0.8 + 0.2 / 3
    wanted = -(target * logits.log_softmax(1)).sum(1).mean()
    assert task.loss(given).total.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_soft_targets_of_one_class_are_labels() -> None:
    task, given = make(), batch()
    soft = given._replace(target=F.one_hot(given.label, 3).float())
    assert task.loss(soft).total.item() == pytest.approx(task.loss(given).total.item(), rel=1e-5)


def test_class_weights_make_rare_classes_count_as_much() -> None:
    weight = inverse_frequency((90, 9, 1))
    assert torch.allclose(weight * torch.tensor([90.0, 9, 1]), torch.tensor(100 / 3).expand(3))
    given = batch()
    plain, weighted = make((90, 9, 1)), make((90, 9, 1), class_weights=True)
    assert plain.loss(given).total.item() != pytest.approx(weighted.loss(given).total.item(), rel=1e-3)
    assert "weight" not in weighted.state_dict(), "it follows from the data and is not saved"


class Table(torch.nn.Module):
    """Free logits for each kind of picture, which is the value of its first pixel: all that a perfect network knows."""

    def __init__(self, k: int = 3) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(k, k))
        self.head = torch.nn.Identity()

    def features(self, image: torch.Tensor) -> torch.Tensor:
        return self.logits[image[:, 0, 0, 0].long()]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(image))


def tabled(counts: tuple[int, ...], **options: object) -> tuple[ClassifyTask, Batch]:
    """A task whose network is a ``Table``, and every training picture."""
    task = make(counts, class_weights=True, **options)
    task.network = Table(len(counts))
    label = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    image = label[:, None, None, None].to(torch.uint8).expand(-1, 3, 1, 1)
    return task, Batch(image, label, torch.arange(len(label)))


@pytest.mark.parametrize("soft", [False, True])
def test_the_best_answers_under_class_weights_are_the_right_ones(soft: bool) -> None:
    task, given = tabled((900, 90, 10), label_smoothing=0.1)
    if soft:
        given = given._replace(target=F.one_hot(given.label, 3).float())
    optimiser = torch.optim.LBFGS(task.network.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = task.loss(given).total
        loss.backward()
        return loss

    optimiser.step(closure)
    assert task.network.logits.argmax(1).tolist() == [0, 1, 2]
    smoothed = torch.eye(3) * 0.9 + 0.1 / 3
    assert torch.allclose(task.network.logits.softmax(1), smoothed, atol=1e-3), "nor do weights move what is answered"


def test_the_gradient_of_two_halves_is_that_of_the_whole_under_class_weights() -> None:
    task, given = tabled((40, 8, 2))
    (weight,) = task.network.parameters()
    (whole,) = torch.autograd.grad(task.loss(given).total, weight)
    halves = [Batch(*(None if t is None else t[part] for t in given)) for part in (slice(25), slice(25, 50))]
    parts = torch.stack([torch.autograd.grad(task.loss(half).total, weight)[0] for half in halves])
    assert torch.allclose(parts.mean(0), whole, atol=1e-7)


def test_a_mixed_label_weighs_what_its_parts_do() -> None:
    task, given = tabled((6, 3, 1), label_smoothing=0.0)
    torch.nn.init.normal_(task.network.logits)
    target = 0.3 * F.one_hot(given.label, 3).float() + 0.7 * F.one_hot(given.label.roll(1), 3)
    own = -(target * task.network(given.image).log_softmax(1)).sum(1)
    wanted = (own * (target @ inverse_frequency((6, 3, 1)))).mean()
    assert task.loss(given._replace(target=target)).total.item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan")])
def test_a_smoothing_that_leaves_nothing_of_the_label_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="label_smoothing"):
        ClassifyConfig(label_smoothing=share)


def test_metrics_are_those_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(200, 4, generator=generator)
    label = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), 200, True, generator=generator)  # class 3 never comes
    found = metrics(logits, label)
    guess = logits.argmax(1)
    assert found["accuracy"] == pytest.approx(accuracy_score(label, guess))
    with pytest.warns(UserWarning, match="classes not in y_true"):
        assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(label, guess))
    wanted = log_loss(label, logits.double().softmax(1).numpy(), labels=[0, 1, 2, 3])
    assert found["loss"] == pytest.approx(wanted, rel=1e-6)


def test_the_score_orders_by_accuracy_and_breaks_ties_by_the_loss() -> None:
    label = torch.tensor([0, 1])
    sure, unsure = torch.tensor([[5.0, 0], [0, 5]]), torch.tensor([[1.0, 0], [0, 1]])
    wrong = torch.tensor([[9.0, 0], [9, 0]])
    scores = [metrics(logits, label)["score"] for logits in (sure, unsure, wrong)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 3


def test_evaluation_asks_gather_for_the_share_of_the_others_even_with_none_of_its_own() -> None:
    task = make().eval()
    with torch.no_grad():
        whole = task.evaluate([batch(8)], lambda t: t)
        logits, label = task.network(batch(8).image).float(), batch(8).label
        other = task.evaluate([], lambda t: torch.cat([t, logits if t.ndim == 2 else label]))
    assert other == pytest.approx(whole)


def test_views_are_augmented_in_training_alone() -> None:
    task = make()
    assert isinstance(task.views(True), Augment)
    assert isinstance(task.views(False), Evaluate)


@pytest.mark.parametrize("model", ["vit_pico_patch4_32", "resnet20_cifar"])
def test_eight_pictures_are_learned_by_heart(model: str) -> None:
    torch.manual_seed(0)
    network = build_network(NetworkConfig(model=model, classes=3, size=32))
    task, given = ClassifyTask(network, ClassifyConfig(label_smoothing=0.0), PREPROCESS, (3, 3, 2)), batch()
    optimiser = torch.optim.AdamW(task.parameters(), lr=2e-3)
    for _ in range(60):
        optimiser.zero_grad()
        loss = task.loss(given).total
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05
