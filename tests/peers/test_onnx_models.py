"""Networks that PyTorch exports, and those that the standard ships, beside onnxruntime."""

import importlib
import io
import warnings
from importlib import resources

import jax
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.harness.torchvision_operators import declare_operators
from tests.peers.style_network import transform
from tests.zoo.style.small import transformer_state
from zoo.onnx import from_onnx
from zoo_pretrained.checkpoint import flatten_variables

torch = pytest.importorskip("torch", reason="the extra `peers` has it")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `peers` has it")
pytestmark = pytest.mark.peer

declare_operators()
models = importlib.import_module("torchvision.models")

# One of every family, and what else there is of convolutions, norms and attention.
NETWORKS = {
    "vgg11": {},
    "resnet18": {},
    "resnext50_32x4d": {},
    "densenet121": {},
    "googlenet": {"init_weights": False, "aux_logits": False},
    "squeezenet1_1": {},
    "mobilenet_v2": {},
    "mobilenet_v3_small": {},
    "shufflenet_v2_x0_5": {},
    "efficientnet_b0": {},
    "convnext_tiny": {},
    "vit": {},
    "inception_v3": {"init_weights": False, "aux_logits": False},
}
# The exporter needs that the pooled size divides what is pooled.
SIZES = {"inception_v3": 96, "vgg11": 224}


def make_network(name):
    """A network of torchvision with random weights and statistics, for inference."""
    torch.manual_seed(0)
    if name == "vit":
        network = models.VisionTransformer(64, 16, 2, 2, 32, 64, num_classes=10)
        torch.nn.init.normal_(network.heads.head.weight)
    else:
        network = getattr(models, name)(weights=None, **NETWORKS[name])
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    with torch.no_grad():
        for parameter in network.parameters():  # of equal ones the exporter keeps but one
            if parameter.ndim < 2 or parameter.max() == parameter.min():
                parameter += 0.1 * torch.randn_like(parameter)
    return network.eval()


def export(network, images, **options):
    file = io.BytesIO()
    names = {"input_names": ["images"], "output_names": ["logits"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's exporters, by which they speak of themselves
        torch.onnx.export(network, (images,), file, **{"dynamo": False, **names, **options})
    return file.getvalue()


def run(content, **inputs):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def assert_same_logits(got, want):
    """To 1e-4 of the largest: both add in float32, in another order."""
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max())
    assert np.ptp(want) > 1e-3 * np.abs(want).max()  # or the weights say nothing


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_torchvision(name):
    """As large a batch as was never exported."""
    size = SIZES.get(name, 64)
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    content = export(make_network(name), images[:2], dynamic_axes={"images": {0: "N"}})
    want = run(content, images=images.numpy())[0]
    assert_same_logits(np.asarray(from_onnx(content)(images.numpy())), want)


@pytest.mark.parametrize("opset", [9, 11, 13, 15, 17, 18])
def test_opsets(opset):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    content = export(make_network("mobilenet_v3_small"), images, opset_version=opset)
    assert onnx.load_from_string(content).opset_import[0].version == opset
    want = run(content, images=images.numpy())[0]
    assert_same_logits(np.asarray(from_onnx(content)(images.numpy())), want)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "vit"])
def test_the_newer_exporter(name):
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    content = export(make_network(name), images, dynamo=True, verbose=False)
    want = run(content, images=images.numpy())[0]
    assert_same_logits(np.asarray(from_onnx(content)(images.numpy())), want)


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18", "vit"])
def test_networks_as_models_of_the_zoo(name):
    """Whose last layer is a convolution, a product, or a product of one token."""
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    network = make_network(name)
    content = export(network, images, dynamic_axes={"images": {0: "N"}})
    trained = from_onnx(content).as_trained()
    with torch.no_grad():
        want = network(images).numpy()
    assert_same_logits(np.asarray(trained(images.permute(0, 2, 3, 1).numpy())), want)
    assert trained.variables["params"]["head"]["bias"].shape == want.shape[1:]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_half_precision(name):
    """As near to float32 as onnxruntime is, which has 11 bits in another order."""
    network = make_network(name)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        exact = network(images).numpy()
    content = export(network.half(), images.half())
    model = from_onnx(content)
    assert model.inputs[0].dtype == np.float16
    found = np.asarray(model(images.half().numpy()))
    assert found.dtype == np.float16
    theirs = run(content, images=images.half().numpy())[0]
    ours, theirs = (np.abs(np.float32(each) - exact).max() for each in (found, theirs))
    assert ours < 2 * theirs
    assert ours < 2e-2 * np.abs(exact).max()


def test_a_style_network():
    state = {k: torch.from_numpy(v) for k, v in transformer_state().items()}

    class Network(torch.nn.Module):
        def forward(self, x):
            return transform(x, state)

    images = 255 * torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    content = export(Network(), images)
    want = run(content, images=images.numpy())[0]
    assert_same_logits(np.asarray(from_onnx(content)(images.numpy())), want)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "convnext_tiny"])
def test_gradients(name):
    """Of a loss by all parameters, beside PyTorch in float64; norms are not folded for it."""
    network = make_network(name)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    content = export(
        network, images, do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE
    )
    model = from_onnx(content)
    network.double()
    network(images.double()).square().mean().backward()
    want = {path: p.grad.numpy() for path, p in network.named_parameters()}

    with jax.enable_x64():
        variables = jax.tree.map(np.float64, model.variables)
        x = np.float64(images.numpy())

        def loss(params):
            return (model.apply({**variables, "params": params}, x) ** 2).mean()

        got = jax.jit(jax.grad(loss))(variables["params"])
    found = {".".join(path.split("/")): np.asarray(g) for path, g in flatten_variables(got)}
    compared = found.keys() & want.keys()
    assert len(compared) >= 0.9 * len(want)
    for path in compared:
        expected = want[path]
        if expected.ndim == 4 and "layer_scale" not in path:
            expected = expected.transpose(2, 3, 1, 0)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found[path], expected, atol=1e-6 * scale, err_msg=path)


LIGHT = (
    *("bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet"),
    *("squeezenet", "vgg19", "zfnet512"),
)


@pytest.mark.parametrize("name", LIGHT)
def test_networks_that_the_standard_ships(name):
    """Their weights are all equal, and so are outputs; with random ones they prove something."""
    file = resources.files("onnx") / f"backend/test/data/light/light_{name}.onnx"
    proto = onnx.load_from_string(file.read_bytes())
    rng = np.random.default_rng(0)
    shapes = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}
    for node in [each for each in proto.graph.node if each.op_type == "ConstantOfShape"]:
        shape = shapes[node.input[0]]
        fan_in = max(1, np.prod(shape[1:]))
        values = np.float32(rng.normal(size=shape) * np.sqrt(2 / fan_in))
        if len(shape) == 1:  # of norms, whose variances must be positive
            values = np.float32(rng.uniform(0.5, 1.5, shape))
        proto.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        proto.graph.node.remove(node)
    model = from_onnx(proto)
    x = np.float32(rng.normal(size=model.inputs[0].shape))
    want = run(proto.SerializeToString(), **{model.inputs[0].name: x})[0]
    assert_same_logits(np.asarray(model(x)), want)
