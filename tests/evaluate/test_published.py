"""Our anchors against published curves on real photographs."""

from __future__ import annotations

from pathlib import Path

import pytest

from codec.evaluate.anchors import Jpeg, WebP
from codec.evaluate.bdrate import bd_rate
from codec.evaluate.runner import evaluate

# CompressAI (results/image/kodak, revision 869a9f5d41): means over all 24 images by Pillow
# 7.1.2 at quality 20, 50 and 80.
PUBLISHED = {
    "jpeg": [(0.508386, 29.0418), (0.906001, 32.0587), (1.571807, 35.2390)],
    "webp": [(0.407049, 30.4070), (0.721817, 33.2376), (1.216314, 36.3690)],
}


def test_kodak_means_agree_with_published_ones(shared_data: Path, tmp_path: Path) -> None:
    files = sorted((shared_data / "kodak").glob("kodim*.png"))
    if len(files) != 24:
        pytest.skip("../shared/data/kodak does not hold the 24 Kodak images")
    codecs = [Jpeg(qualities=(20, 50, 80)), WebP(qualities=(20, 50, 80), method=4)]
    report = evaluate(files, codecs, out=tmp_path / "out.json")
    for entry, published in zip(report["codecs"], PUBLISHED.values(), strict=True):
        results = entry["results"]
        rates, values = zip(*published, strict=True)
        percent = bd_rate(rates, values, results["bpp"], results["psnr-rgb"])
        # Newer libraries and our settings (optimised tables, progressive scan) save a little.
        assert -6 < percent < 1, entry["name"]
