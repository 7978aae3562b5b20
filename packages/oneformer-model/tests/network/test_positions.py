import math

import torch

from oneformer_model.network.positions import fourier_code, sine_code

CPU = torch.device("cpu")


def test_a_code_is_sines_and_cosines_of_y_then_x():
    height, width, dim = 3, 5, 8
    code = sine_code(height, width, dim, CPU).view(height, width, dim)
    row, column = 1, 3
    y, x = (row + 1) / (height + 1e-6) * 2 * math.pi, (column + 1) / (width + 1e-6) * 2 * math.pi
    expected = [f(v / 10_000 ** (2 * i / 4)) for v in (y, x) for i in range(2) for f in (math.sin, math.cos)]
    torch.testing.assert_close(code[row, column], torch.tensor(expected), rtol=0, atol=1e-6)


def test_a_code_made_in_inference_serves_training():
    with torch.inference_mode():
        sine_code(11, 13, 8, CPU)
    weight = torch.ones(8, requires_grad=True)
    (sine_code(11, 13, 8, CPU) * weight).sum().backward()
    assert weight.grad is not None


def test_products_of_random_codes_fall_off_with_distance_in_all_directions():
    edge, dim = 32, 4096
    code = fourier_code(edge, dim)
    products = torch.einsum("d,dyx->yx", code[:, 16, 16], code) / (dim / 2)
    y, x = torch.meshgrid(*[(torch.arange(edge) - 16) / edge] * 2, indexing="ij")
    cycles = torch.logspace(math.log10(0.5), math.log10(6), dim // 2)[:, None, None]
    waves = torch.special.bessel_j0(2 * torch.pi * cycles * (y.square() + x.square()).sqrt())  # means over directions
    torch.testing.assert_close(products, waves.mean(dim=0), rtol=0, atol=0.1)
    assert products[16, 16] == products.max()


def test_random_codes_of_an_odd_width_have_all_channels():
    assert fourier_code(4, 7).shape == (7, 4, 4)
