"""Items shared by threads: the number of threads changes no bit."""

import pytest
import torch

from cryoetgan.translation.engine.threads import in_threads
from cryoetgan.translation.residual.networks import DiffusionStep


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_items_keep_their_order_and_each_has_one_thread(two_threads):
    weight = torch.ones(3, requires_grad=True)

    def work(item, other):
        return item + other, torch.get_num_threads(), (weight * 2).requires_grad

    assert in_threads(work, range(5), range(5)) == [(2 * i, 1, False) for i in range(5)]
    assert torch.get_num_threads() == 2
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda item: 1 / item, [1, 0])


def test_the_number_of_threads_changes_no_bit_of_a_diffusion_step(two_threads):
    torch.manual_seed(0)
    step, volumes = DiffusionStep(4), torch.randn(4, 1, 9, 9, 9)
    for parameter in (step.linear, step.bounded, step.falling):
        torch.nn.init.normal_(parameter)
    found = []
    for count in (2, 1):
        torch.set_num_threads(count)
        step.zero_grad()
        made = step(volumes)
        made.square().sum().backward()
        found.append([made.detach(), *(p.grad.clone() for p in step.parameters())])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
