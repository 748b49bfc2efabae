"""ImageSet: contents, selections, checksums, refusals."""

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geomadv.errors import InputError
from geomadv.images import ImageSet, readers
from geomadv.images import imageset as imageset_module
from geomadv.images.readers import Reader

BYTES = np.random.default_rng(0).integers(0, 256, (12, 3, 5, 4), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 1])


def bytes_set(**settings: Any) -> ImageSet:
    return ImageSet(BYTES, LABELS, **settings)


def test_bytes_become_fractions_of_255() -> None:
    images = bytes_set().images
    assert images.dtype == torch.float32
    # Division is correctly rounded in both libraries: no tolerance.
    assert torch.equal(images, torch.from_numpy(BYTES).float() / 255)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_floating_images_are_taken_as_they_are(dtype: torch.dtype) -> None:
    source = torch.linspace(0, 1, 40).reshape(2, 1, 4, 5).to(dtype)
    assert torch.equal(ImageSet(source).images, source.float())


def test_attributes_and_defaults() -> None:
    images = bytes_set(name="mine")
    assert len(images) == 12
    assert images.shape == (3, 5, 4)
    assert images.class_names == ("0", "1", "2")
    assert images.name == "mine"
    assert images.bounds == (0.0, 1.0)
    assert images.has_labels
    assert images.labels.dtype == torch.int64
    assert images.labels.tolist() == LABELS.tolist()
    assert repr(images) == ("ImageSet('mine', 12 images (3, 5, 4), 3 classes, bounds (0.0, 1.0))")


def test_without_labels_the_set_works_and_labels_say_why_not() -> None:
    images = ImageSet(BYTES)[:3]
    assert not images.has_labels
    assert images.class_names == ()
    assert "no labels" in repr(images)
    with pytest.raises(InputError, match="has no labels"):
        _ = images.labels
    with pytest.raises(InputError, match="has no labels"):
        images.of_class(0)


@pytest.mark.parametrize(
    "index",
    [
        slice(2, 7),
        slice(None, None, -2),
        [3, 1, 1, -1],
        np.array([5, 0]),
        np.array([5, 0], dtype=np.uint8),
        torch.tensor([4, 4]),
        LABELS == 1,
        torch.from_numpy(LABELS == 2),
        (LABELS == 0).tolist(),
        range(3),
    ],
    ids=repr,
)
def test_selections_agree_with_numpy(index: Any) -> None:
    part = bytes_set()[index]
    plain = index if isinstance(index, slice) else np.asarray(index)
    assert isinstance(part, ImageSet)
    assert torch.equal(part.images, torch.from_numpy(BYTES[plain].copy()).float() / 255)
    assert part.labels.tolist() == LABELS[plain].tolist()


@pytest.mark.parametrize("index", [0, -1, 11, np.int64(4), torch.tensor(4)])
def test_one_number_selects_a_set_of_one(index: Any) -> None:
    part = bytes_set()[index]
    assert len(part) == 1
    assert part.labels.item() == LABELS[int(index)]
    assert torch.equal(part.images[0], torch.from_numpy(BYTES[int(index)]).float() / 255)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_selections_of_selections_compose(data: st.DataObject) -> None:
    first = data.draw(st.lists(st.integers(-12, 11), min_size=1, max_size=20))
    second = data.draw(st.lists(st.integers(0, len(first) - 1), min_size=1, max_size=9))
    twice = bytes_set()[first][second]
    once = bytes_set()[np.array(first)[second]]
    assert twice.sha256 == once.sha256


def test_iteration_gives_every_image_once() -> None:
    parts = list(bytes_set())
    assert [len(p) for p in parts] == [1] * 12
    assert torch.equal(torch.cat([p.images for p in parts]), bytes_set().images)


def test_selecting_copies_no_pixels() -> None:
    source = np.zeros((6, 1, 2, 2), dtype=np.float32)
    images = ImageSet(source)
    assert np.shares_memory(images[1:4].images.numpy(), source)
    assert np.shares_memory(images[[2, 3]].images.numpy(), source)


def test_read_only_and_mapped_arrays_are_read_without_warnings(recwarn: Any) -> None:
    source = np.zeros((2, 1, 2, 2), dtype=np.float32)
    source.flags.writeable = False
    assert ImageSet(source)[:1].images.sum() == 0
    assert len(recwarn) == 0


def test_large_sets_are_read_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    images = bytes_set()
    assert images.images is images.images
    monkeypatch.setattr(imageset_module, "_KEEP_BYTES", 4 * BYTES.size - 1)
    large = bytes_set()
    assert large.images is not large.images
    assert large[:1].images.shape == (1, 3, 5, 4)


def test_batches_cover_the_set_in_order() -> None:
    parts = list(bytes_set().batches(5))
    assert [len(p) for p in parts] == [5, 5, 2]
    assert torch.equal(torch.cat([p.labels for p in parts]), bytes_set().labels)
    with pytest.raises(InputError, match="batch_size=0"):
        bytes_set().batches(0)


def test_a_sample_is_reproducible_nested_and_without_repetition() -> None:
    images = ImageSet(np.arange(12.0).reshape(12, 1, 1, 1) / 12)
    values = [images.sample(n, seed=3).images.flatten().tolist() for n in (5, 12)]
    assert values[0] == values[1][:5]
    assert len(set(values[1])) == 12
    assert values[0] != images.sample(5, seed=4).images.flatten().tolist()


@pytest.mark.parametrize("n", [0, -1, 13])
def test_a_sample_cannot_be_larger_than_the_set_or_empty(n: int) -> None:
    with pytest.raises(InputError, match=rf"sample\(n={n}\).* has 12 images"):
        bytes_set().sample(n)


def test_of_class_by_number_and_name() -> None:
    images = bytes_set(class_names=["cat", "dog", "eel"])
    assert images.of_class(1).labels.tolist() == [1, 1, 1, 1, 1]
    assert images.of_class("dog").sha256 == images.of_class(1).sha256
    assert images.of_class("dog").class_names == images.class_names


def test_of_class_refuses_unknown_absent_and_ambiguous_classes() -> None:
    images = bytes_set(class_names=["crane", "dog", "crane"])
    with pytest.raises(InputError, match=r"class 7 does not exist .* 0 \(crane\), 1 \(dog\)"):
        images.of_class(7)
    with pytest.raises(InputError, match="class 'cat' does not exist"):
        images.of_class("cat")
    with pytest.raises(InputError, match=r"several classes .*\[0, 2\]"):
        images.of_class("crane")
    with pytest.raises(InputError, match=r"has no image of class 1; it has images .* 0, 2"):
        images[[0, 2]].of_class(1)


# Checksums


def test_the_checksum_does_not_depend_on_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = bytes_set().sha256
    assert ImageSet(BYTES / 255, LABELS).sha256 == expected
    assert ImageSet(torch.from_numpy(BYTES).float() / 255, LABELS.astype(np.uint8)).sha256 == (
        expected
    )
    assert ImageSet(BYTES[::-1], LABELS[::-1])[::-1].sha256 == expected
    assert bytes_set(name="other", class_names=["a", "b", "c"]).sha256 == expected
    monkeypatch.setattr(readers, "_CHUNK_PIXELS", 130)
    assert bytes_set().sha256 == expected


def test_the_checksum_is_as_documented() -> None:
    digest = hashlib.sha256(b"(12, 3, 5, 4)")
    digest.update((BYTES.astype("<f4") / np.float32(255)).tobytes())
    digest.update(b"labels" + LABELS.astype("<i8").tobytes())
    assert bytes_set().sha256 == digest.hexdigest()


def test_the_checksum_depends_on_pixels_labels_order_and_shape() -> None:
    changed = BYTES.copy()
    changed[3, 1, 2, 2] ^= 1
    sums = {
        bytes_set().sha256,
        ImageSet(BYTES).sha256,
        ImageSet(changed, LABELS).sha256,
        ImageSet(BYTES, LABELS[::-1]).sha256,
        ImageSet(BYTES.transpose(0, 1, 3, 2).reshape(12, 3, 4, 5), LABELS).sha256,
        bytes_set()[1:].sha256,
    }
    assert len(sums) == 6


# Readers


class _Counting(Reader):
    shape = (5, 1, 2, 2)

    def __init__(self) -> None:
        self.asked: list[int] = []

    def read(self, index: Any) -> Any:
        self.asked.extend(index.tolist())
        return np.zeros((len(index), 1, 2, 2), dtype=np.float32)


def test_lazy_readers_are_asked_for_what_is_needed_only() -> None:
    reader = _Counting()
    images = ImageSet(reader, [0, 1, 2, 3, 4])
    part = images[1:].of_class(3)
    assert reader.asked == []
    assert part.images.shape == (1, 1, 2, 2)
    assert reader.asked == [3]


# Refusals


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 5, 5)), r"\(4, 5, 5\).*images\[:, None\]"),
        (np.zeros(4), r"expected \(N, C, H, W\)"),
        (np.zeros((0, 1, 5, 5)), "Give at least one image"),
        (np.zeros((4, 32, 32, 3)), r"looks like \(N, H, W, C\)"),
        (np.zeros((4, 1, 5, 5), dtype=np.int64), "int64; expected floating"),
        (np.zeros((4, 1, 5, 5), dtype=bool), "bool; expected floating"),
        ([np.zeros((1, 5, 5)), np.zeros((1, 4, 5))], "different shapes"),
        (np.full((2, 1, 1, 1), 255.0), r"span \[255, 255\], outside bounds \[0, 1\]"),
        (np.full((2, 1, 1, 1), -0.5), r"span \[-0.5, -0.5\], outside bounds \[0, 1\]"),
    ],
)
def test_unusable_images_are_refused(pixels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageSet(pixels)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_images_are_counted_and_the_first_is_named(value: float) -> None:
    pixels = np.zeros((6, 1, 2, 2))
    pixels[4, 0, 1, 0] = pixels[2, 0, 0, 1] = value
    with pytest.raises(InputError, match=r"2 of 6 contain NaN or infinite.*number 2\."):
        ImageSet(pixels)


def test_bounds_are_checked_up_to_rounding_and_kept() -> None:
    assert ImageSet(np.full((1, 1, 1, 1), 1 + 1e-7)).images.item() == pytest.approx(1)
    images = ImageSet(np.full((1, 1, 1, 1), -1.0), bounds=(-1, 1))
    assert images[0].bounds == (-1.0, 1.0)
    with pytest.raises(InputError, match=r"low < high"):
        ImageSet(BYTES, bounds=(1, 0))
    with pytest.raises(InputError, match=r"uint8, which is scaled to \[0, 1\]"):
        ImageSet(BYTES, bounds=(0, 255))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:11], r"shape \(11,\) for 12 images"),
        (LABELS[:, None], r"shape \(12, 1\)"),
        ([], r"shape \(0,\) for 12"),
        ([[0], [1, 2]], "no array"),
        (LABELS.astype(float), "float64; expected integers"),
        (LABELS > 0, "bool; expected integers"),
        (LABELS - 1, "contain -1, first at position 0"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageSet(BYTES, labels)


def test_more_labels_than_class_names_are_refused() -> None:
    with pytest.raises(InputError, match="labels go up to 2, but class_names has 2"):
        bytes_set(class_names=["a", "b"])


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (slice(5, 5), "is empty"),
        (LABELS == 9, "is empty"),
        ([], "is empty"),
        (12, "index 12 is out of range for 12 images"),
        ([0, -13], "index -13 is out of range"),
        (np.array([True, False]), "boolean mask of length 12"),
        ([0.5], "cannot select"),
        ("dog", "cannot select"),
        (np.zeros((2, 2), dtype=int), "cannot select"),
    ],
)
def test_unusable_selections_are_refused(index: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        bytes_set()[index]


def test_given_arrays_stay_as_they_are() -> None:
    pixels, labels = BYTES.copy(), LABELS.copy()
    images = ImageSet(pixels, labels)
    labels[:] = 0
    images.sample(5).batches(2)
    assert images.labels.tolist() == LABELS.tolist()
    assert np.array_equal(pixels, BYTES)
