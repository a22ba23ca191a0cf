"""Random targets and the choice of images: the same for any batch, subset and machine."""

import pytest
import torch

from advkit.attack.targets import correctly_classified, random_targets


def labels_of(count, num_classes=10):
    generator = torch.Generator().manual_seed(3)
    return torch.randint(num_classes, (count,), generator=generator)


class TestRandomTargets:
    @pytest.mark.parametrize("num_classes", [2, 3, 10, 1000])
    def test_are_other_classes(self, num_classes):
        labels = labels_of(5000, num_classes)
        targets = random_targets(labels, num_classes, seed=0)
        assert targets.dtype == torch.int64
        assert targets.shape == labels.shape
        assert (targets != labels).all()
        assert targets.min() >= 0
        assert targets.max() < num_classes

    @pytest.mark.parametrize("label", [0, 4, 9])
    def test_are_uniform_over_the_other_classes(self, label):
        targets = random_targets(torch.full((90_000,), label), 10, seed=1)
        counts = torch.bincount(targets, minlength=10)
        counts = torch.cat([counts[:label], counts[label + 1 :]])
        # 99.99 % of the chi-squared distribution with 8 degrees of freedom.
        assert float(((counts - 10_000.0) ** 2 / 10_000).sum()) < 31.8

    def test_do_not_depend_on_how_many_images_there_are(self):
        labels = labels_of(300)
        targets = random_targets(labels, 10, seed=5)
        for count in (0, 1, 17, 299):
            assert torch.equal(random_targets(labels[:count], 10, seed=5), targets[:count])

    def test_follow_the_image_into_any_subset(self):
        labels = labels_of(300)
        targets = random_targets(labels, 10, seed=5)
        index = torch.tensor([250, 3, 17, 299])
        subset = random_targets(labels[index], 10, seed=5, index=index)
        assert torch.equal(subset, targets[index])

    def test_are_the_same_everywhere(self):
        targets = random_targets(torch.arange(10), 10, seed=7)
        assert targets.tolist() == [1, 5, 7, 5, 5, 4, 2, 8, 9, 2]

    def test_change_with_the_seed(self):
        labels = torch.zeros(9000, dtype=torch.int64)
        same = random_targets(labels, 10, seed=0) == random_targets(labels, 10, seed=1)
        assert float(same.float().mean()) == pytest.approx(1 / 9, abs=0.02)

    def test_leave_the_global_generator_alone(self):
        before = torch.random.get_rng_state()
        random_targets(labels_of(10), 10, seed=0)
        assert torch.equal(torch.random.get_rng_state(), before)

    @pytest.mark.parametrize(
        ("labels", "num_classes", "options", "message"),
        [
            (torch.tensor([0, 10]), 10, {}, r"labels must be in \[0, 10\), got 10"),
            (torch.tensor([0, -1]), 10, {}, r"labels must be in \[0, 10\), got -1"),
            (torch.tensor([[0]]), 10, {}, r"labels must be a one-dimensional .* \(1, 1\)"),
            (
                torch.tensor([0.0]),
                10,
                {},
                "labels must be a one-dimensional int64 tensor, got torch.float32",
            ),
            (torch.tensor([0]), 1, {}, "num_classes must be at least 2"),
            (torch.tensor([0]), 10, {"seed": -1}, "seed must be from 0"),
            (torch.tensor([0]), 10, {"seed": 2**64}, "seed must be from 0"),
            (torch.tensor([0]), 10, {"index": torch.arange(2)}, "index must have one .* 1, got 2"),
        ],
        ids=["large", "negative", "axes", "type", "classes", "seed-low", "seed-high", "index"],
    )
    def test_refuse_bad_input(self, labels, num_classes, options, message):
        with pytest.raises(ValueError, match=message):
            random_targets(labels, num_classes, **{"seed": 0} | options)


class Lookup:
    """A network whose logits are its input, counting the images it sees."""

    def __init__(self):
        self.seen = 0

    def __call__(self, images):
        self.seen += len(images)
        return images


def images_with(predicted):
    return torch.nn.functional.one_hot(torch.tensor(predicted), 4).float()


class TestCorrectlyClassified:
    images = images_with([0, 1, 2, 3, 0, 1, 2, 3, 0, 1])
    labels = torch.tensor([0, 0, 2, 2, 0, 1, 3, 3, 0, 0])
    correct = (0, 2, 4, 5, 7, 8)

    @pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
    @pytest.mark.parametrize("limit", [None, 0, 1, 3, 6, 50])
    def test_finds_the_first(self, limit, batch_size):
        found = correctly_classified(
            Lookup(), self.images, self.labels, limit=limit, batch_size=batch_size
        )
        assert found.dtype == torch.int64
        assert found.tolist() == list(self.correct[:limit])

    @pytest.mark.parametrize(("limit", "seen"), [(0, 0), (1, 2), (2, 4), (4, 6), (None, 10)])
    def test_stops_when_it_has_enough(self, limit, seen):
        model = Lookup()
        correctly_classified(model, self.images, self.labels, limit=limit, batch_size=2)
        assert model.seen == seen

    def test_takes_no_image_with_a_nan(self):
        images = self.images.clone()
        images[0, 0] = float("nan")
        images[2, 3] = float("-inf")
        assert correctly_classified(Lookup(), images, self.labels).tolist() == [4, 5, 7, 8]

    def test_keeps_no_graph(self):
        layer = torch.nn.Linear(4, 4)
        graphs = []
        layer.register_forward_hook(lambda *_, output=None: graphs.append(torch.is_grad_enabled()))
        correctly_classified(layer, self.images, self.labels)
        assert graphs == [False]

    def test_accepts_no_image(self):
        found = correctly_classified(Lookup(), self.images[:0], self.labels[:0])
        assert found.shape == (0,)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"labels": labels[:3]}, "labels must have one value per image, 10, got 3"),
            ({"labels": labels.float()}, "labels must be a one-dimensional int64"),
            ({"limit": -1}, "limit must not be negative, got -1"),
            ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
            ({"model": lambda x: x[:, 0]}, r"logits of shape \(10, K\), got \(10,\)"),
            ({"model": lambda x: x[:1]}, r"logits of shape \(10, K\), got \(1, 4\)"),
        ],
        ids=["labels", "type", "limit", "batch_size", "no-classes", "batch"],
    )
    def test_refuses_bad_input(self, changes, message):
        arguments = {"model": Lookup(), "images": self.images, "labels": self.labels}
        with pytest.raises(ValueError, match=message):
            correctly_classified(**arguments | changes)
