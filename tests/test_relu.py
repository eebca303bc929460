import torch

from codec.relu import through_relu


def test_gradients_pass_where_the_activation_does() -> None:
    torch.manual_seed(0)
    activation = torch.randn(7, 31).clamp_(min=0)
    gradient = torch.randn(7, 31)
    wanted = gradient * (activation > 0)
    found = through_relu(gradient, activation)
    assert found.data_ptr() == gradient.data_ptr()
    assert torch.equal(found, wanted)
    assert bool((wanted == 0).any())
