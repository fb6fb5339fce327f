"""Our Canny against OpenCV's, and what the maps look like."""

import numpy as np
import pytest

from dimoo.data.stickers import draw, sample_scene
from dimoo.data.stickers.maps import canny, canny_edges, soft_edges


def test_canny_agrees_with_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    agreement = []
    for seed in range(20):
        picture = cv2.GaussianBlur(draw(sample_scene(seed, "train", count=2)), (3, 3), 0)
        ours, theirs = canny_edges(picture), cv2.Canny(picture, 80, 200) > 0
        agreement.append((ours & theirs).sum() / max(1, (ours | theirs).sum()))
    assert np.mean(agreement) > 0.97, agreement


def test_soft_edges_agree_with_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    picture = draw(sample_scene(3, "train", count=2))
    blurred = cv2.GaussianBlur(picture, (5, 5), 0).astype(np.float32)
    strength = np.hypot(cv2.Sobel(blurred, cv2.CV_32F, 1, 0), cv2.Sobel(blurred, cv2.CV_32F, 0, 1)).max(axis=2)
    wanted = np.clip(cv2.GaussianBlur(strength, (3, 3), 0) * 0.6, 0, 255)
    assert np.abs(soft_edges(picture)[..., 0].astype(float) - wanted).mean() < 1


def test_edges_are_two_pixels_wide_white_on_black() -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:, 16:] = 255
    edges = canny(picture)
    assert set(np.unique(edges)) == {0, 255} and edges.shape == picture.shape
    assert (edges[..., 0] > 0).sum(axis=1).tolist() == [2] * 32
    assert not canny(np.full((32, 32, 3), 90, np.uint8)).any()
