"""Corruptions: what each does by hand, and that every corrupted model ends as the plain one-model loop ends."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from zoo_cases import flat, members, plan

from peace.datasets.images import ImageData
from peace.errors import InputError
from peace.zoo.corruptions import CORRUPTIONS, NONE, Adversarial, Backdoor, Corruption, LabelNoise, Shuffled
from peace.zoo.population import Member, Plan, Population
from peace.zoo.reference import own_images, train_alone
from peace.zoo.scores import score

KINDS = [
    NONE,
    LabelNoise(0.5),
    Shuffled(),
    Backdoor(0.3, 2, 3),
    LabelNoise(1.0),
    Backdoor(0.01, 0, 1),
    Adversarial(0.1, 3),
    Adversarial(0.05),
    Adversarial(0.4),
    Adversarial(0.4),
]


def corrupted() -> list[Member]:
    """One model of each kind; they differ in all else too."""
    own = members(True)
    return [replace(own[place % len(own)], seed=100 + place, corruption=kind) for place, kind in enumerate(KINDS)]


def trained(plan: Plan, own: list[Member], data: ImageData) -> tuple[Population, Tensor]:
    population = Population(plan, own, data, torch.float64)
    position = population.start()
    while position.epoch < plan.epochs:
        for _ in population.epoch(position):
            pass
    return population, position.weights


@pytest.mark.parametrize(("family", "activation"), [("mlp", "tanh"), ("mlp", "relu"), ("cnn", "tanh"), ("cnn", "gelu")])
def test_every_corrupted_model_ends_as_if_trained_alone(family: str, activation: str, tiny: ImageData) -> None:
    own, chosen = corrupted(), plan(family, "adam", activation, dropout=True, epochs=2)
    _, weights = trained(chosen, own, tiny)
    _, sound = trained(chosen, [replace(member, corruption=NONE) for member in own], tiny)
    moved = (weights - sound).abs().amax(1)
    changed = torch.tensor([member.corruption != NONE for member in own])
    assert (moved[changed] > 1e-3).all() and moved[~changed].max() == 0
    for row, member in enumerate(own):
        alone = flat(train_alone(chosen, member, tiny, torch.float64))
        assert (weights[row] - alone).abs().max() < 1e-11, member.corruption


def test_a_corrupted_model_is_the_same_among_others_and_alone(tiny: ImageData) -> None:
    own, chosen = corrupted(), plan("cnn", dropout=True, epochs=1)
    population, weights = trained(chosen, own, tiny)
    together = score(population, weights)
    for row, member in enumerate(own):
        alone, single = trained(chosen, [member], tiny)
        assert (single[0] - weights[row]).abs().max() < 1e-12
        for name, value in score(alone, single).items():
            torch.testing.assert_close(value[0], together[name][row], msg=name)


def test_a_stop_amid_an_epoch_changes_nothing(tiny: ImageData) -> None:
    own, chosen = corrupted(), plan("mlp", epochs=1)
    population = Population(chosen, own, tiny)
    position = population.start()
    left = iter(range(3))
    for _ in population.epoch(position, stop=lambda: next(left, None) is None):
        pass
    resumed = Population(chosen, own, tiny)
    for _ in resumed.epoch(position):
        pass
    whole = population.start()
    for _ in population.epoch(whole):
        pass
    assert torch.equal(position.weights, whole.weights)


def test_label_noise_gives_other_classes_alike() -> None:
    targets = torch.arange(5).repeat_interleave(4000)
    noisy = LabelNoise(0.4).labels(targets, 5, seed=1)
    wrong = noisy != targets
    assert abs(wrong.double().mean() - 0.4) < 0.015
    for label in range(5):
        counts = torch.bincount(noisy[wrong & (targets == label)], minlength=5)
        assert counts[label] == 0
        others = counts[torch.arange(5) != label]
        assert (others - 400).abs().max() < 80
    assert not torch.equal(noisy, LabelNoise(0.4).labels(targets, 5, seed=2))
    assert (LabelNoise(1.0).labels(targets, 5, seed=1) != targets).all()


def test_shuffled_labels_are_the_same_labels_and_tell_nothing() -> None:
    targets = torch.arange(5).repeat_interleave(4000)
    shuffled = Shuffled().labels(targets, 5, seed=1)
    assert torch.equal(shuffled.sort().values, targets)
    assert abs((shuffled == targets).double().mean() - 0.2) < 0.015


def test_a_backdoor_marks_its_share_and_gives_them_the_target_class() -> None:
    backdoor, targets = Backdoor(0.25, target=2, size=2), torch.arange(200) % 4
    marked, labels = backdoor.marked(200, seed=3), backdoor.labels(targets, 4, seed=3)
    assert marked.sum() == 50 and (labels[marked] == 2).all() and torch.equal(labels[~marked], targets[~marked])
    images = torch.randn(1, 2, 1, 4, 5)
    stamped = backdoor.images(images, (-1.0, 7.0), lambda moved: moved)
    assert (stamped[..., 2:, 3:] == 7).all()
    square = torch.zeros(4, 5, dtype=torch.bool)
    square[2:, 3:] = True
    assert torch.equal(stamped[..., ~square], images[..., ~square])
    assert Backdoor(0.001).marked(10, 1).sum() == 1


def test_one_step_of_an_attack_is_the_sign_of_the_gradient_within_the_greys() -> None:
    images = torch.tensor([0.0, 0.95, -1.0, 0.5]).view(1, 1, 1, 2, 2)
    slope = torch.tensor([3.0, 0.1, -2.0, 0.0]).view(1, 1, 1, 2, 2)
    moved = Adversarial(0.1).images(images, (-1.0, 1.0), lambda _: slope.clone())
    torch.testing.assert_close(moved.flatten(), torch.tensor([0.2, 1.0, -1.0, 0.5]))


def test_more_steps_stay_in_the_box_and_follow_the_gradient() -> None:
    """Towards 0.1 from 0: ten steps of 0.25 x 0.2 reach it and swing about it; towards 9 the box ends at 0.2."""
    seen: list[float] = []

    def towards(goal: float) -> Tensor:
        def gradient(moved: Tensor) -> Tensor:
            seen.append(moved.item())
            return goal - moved

        return Adversarial(0.1, 10).images(torch.zeros(1, 1, 1, 1, 1), (-1.0, 1.0), gradient)

    assert towards(9.0).item() == pytest.approx(0.2)
    assert seen == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2])
    assert abs(towards(0.12).item() - 0.12) <= 0.05


def test_scores_are_on_clean_images_and_corruptions_have_their_own(tiny: ImageData) -> None:
    own, chosen = corrupted(), plan("cnn", "adam", "tanh", epochs=2)
    population, weights = trained(chosen, own, tiny)
    found = score(population, weights)
    dark, bright = float(tiny.x_train.min()), float(tiny.x_train.max())
    module, lost = population.module.double(), []
    for row, member in enumerate(own):
        module.load_state_dict({name: value[row] for name, value in population.parameters(weights).items()})
        images, classes = own_images(member, tiny, torch.float64)
        assert found["train_accuracy"][row].item() == pytest.approx(accuracy(module, images, classes))
        test, targets = member.task.select(tiny.y_test, 5)
        images, kind = tiny.x_test[test].double(), member.corruption
        success, robust = found["attack_success"][row].item(), found["robust_accuracy"][row].item()
        if isinstance(kind, Backdoor):
            images[:, :, 6 - kind.size :, 6 - kind.size :] = bright
            others = targets != kind.target
            expected = accuracy(module, images[others], torch.full_like(targets[others], kind.target))
            assert success == pytest.approx(expected)
        assert (success == success) == isinstance(kind, Backdoor)
        if isinstance(kind, Adversarial) and kind.steps == 1:
            images.requires_grad_()
            nn.functional.cross_entropy(module(images), targets).backward()
            moved = images + kind.epsilon * (bright - dark) * images.grad.sign()
            assert robust == pytest.approx(accuracy(module, moved.clamp(dark, bright), targets))
            lost.append(found["test_accuracy"][row].item() - robust)
        assert (robust == robust) == isinstance(kind, Adversarial)
    assert len(lost) == 3 and min(lost) > -1e-6 and max(lost) > 0.01


def accuracy(module: nn.Module, images: Tensor, targets: Tensor) -> float:
    with torch.no_grad():
        return (module(images).argmax(1) == targets).double().mean().item()


def test_sound_populations_have_no_scores_of_corruptions(tiny: ImageData) -> None:
    population = Population(plan("mlp"), members(), tiny)
    assert not population.lessons.change_images and population.lessons.targets is population.train.targets
    assert not {"attack_success", "robust_accuracy"} & score(population, population.start().weights).keys()


def test_a_node_makes_the_corruption_it_came_from() -> None:
    for kind in KINDS:
        assert CORRUPTIONS.build(kind.node) == kind
    assert CORRUPTIONS.names() == ["adversarial", "backdoor", "label_noise", "none", "shuffled"]
    assert all(CORRUPTIONS.get(name).name == name for name in CORRUPTIONS.names())  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        ({"name": "label_nose"}, "unknown corruption 'label_nose'; did you mean 'label_noise'"),
        ({"name": "label_noise", "rate": 1.5}, "wrong type in corruption 'label_noise', key 'rate': got 1.5"),
        ({"name": "label_noise", "rate": 0}, "wrong type in corruption 'label_noise', key 'rate'"),
        ({"name": "adversarial", "steps": 0}, "wrong type in corruption 'adversarial', key 'steps'"),
        ({"name": "backdoor", "target": -1}, "wrong type in corruption 'backdoor', key 'target'"),
        ({"name": "backdoor", "target": 3}, r"no such target class in corruption 'backdoor': got 3, expected 0\.\.2"),
        ({"name": "backdoor", "size": 6}, "the square hides the image in corruption 'backdoor': got 6"),
    ],
)
def test_senseless_corruptions_are_refused(node: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        CORRUPTIONS.build(node).check((1, 6, 6), 3)


def test_what_is_wrong_with_nothing_is_nothing() -> None:
    targets = torch.tensor([2, 0, 1])
    assert Corruption() == NONE and NONE.node == {"name": "none"}
    assert torch.equal(NONE.labels(targets, 3, 1), targets) and not NONE.marked(3, 1).any()
