from torch import nn

from advkit._modes import evaluating


def test_every_part_is_left_as_it_was_found():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(3))).train()
    model[1].eval()
    before = [module.training for module in model.modules()]
    with evaluating(model, print, None):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before
    try:
        with evaluating(model[0]):
            raise KeyError
    except KeyError:
        assert [module.training for module in model.modules()] == before
