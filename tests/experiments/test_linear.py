import pytest
import torch
from problems import LinearSoftmax

from advkit.experiments._linear import exact_distance


@pytest.mark.parametrize("classes", [2, 5])
def test_is_that_of_the_tests_own_solution(classes):
    problem = LinearSoftmax.random(classes, 30, seed=classes)
    x = torch.rand(50, 30)
    model = problem.module()
    labels = model(x).argmax(1)
    labels[0] = (labels[0] + 1) % classes  # already left
    expected = problem.untargeted_distance(x, labels, lower=0.0, upper=1.0)
    found = exact_distance(model[1], x, labels)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert found[0] == 0


def test_out_of_reach():
    linear = torch.nn.Linear(4, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0] * 4, [0.0] * 4]))
        linear.bias.copy_(torch.tensor([9.0, 0.0]))
    distance = exact_distance(linear, torch.rand(3, 4), torch.zeros(3, dtype=torch.int64))
    assert torch.isinf(distance).all()
