"""Run PaddleSeg's own training transforms, write down what they drew and what came out.

    python tests/parity/transforms/make_arrays.py            # writes arrays.npz beside this file
    python tests/parity/transforms/make_arrays.py --check 40 # compares 40 full-size crops on the spot, writes nothing

Needs the environment of the peers (paddleseg 2.7.0). The ordinary test suite reads arrays.npz and needs no peer.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import sys
from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
#: (image height, image width, crop height, crop width): crop inside, equal at a scale, padded below, right and both,
#: and sizes that no scale turns into whole numbers.
SHAPES = (
    (48, 96, 24, 48),
    (48, 96, 40, 40),
    (45, 77, 32, 64),
    (37, 53, 48, 40),
    (24, 40, 50, 70),
)


class Recorder:
    """PaddleSeg's transforms of the Cityscapes recipe, with every random number written down."""

    def __init__(self) -> None:
        from paddleseg.transforms import functional, transforms

        self.transforms = transforms
        self.uniforms: list = []
        self.integers: list = []
        self.shuffled: list = []
        self.coins: list = []
        self.changes: list = []
        np.random.uniform = self._recorded(np.random.uniform, self.uniforms)
        np.random.randint = self._recorded(np.random.randint, self.integers)
        random.random = self._recorded(random.random, self.coins)
        shuffle = np.random.shuffle

        def record_shuffle(values: list) -> None:
            shuffle(values)
            self.shuffled.append(values[0])

        np.random.shuffle = record_shuffle
        for kind in ("brightness", "contrast", "saturation", "hue"):
            setattr(functional, kind, self._change(kind, getattr(functional, kind)))

    @staticmethod
    def _recorded(function, log):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            value = function(*args, **kwargs)
            log.append(value)
            return value

        return wrapper

    def _change(self, kind, function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            picture = function(*args, **kwargs)
            self.changes.append([kind, float(self.uniforms[-1])])
            return picture

        return wrapper

    def run(self, image, label, crop, distort):
        """Output image, output label, draws. `image` is RGB."""
        return self.run_on(np.ascontiguousarray(image[:, :, ::-1]).astype("float32"), label.copy(), crop, distort)

    def run_on(self, image, label, crop, distort):
        """The same of what PaddleSeg takes: a float32 BGR image and a label, or the paths of both."""
        steps = self.transforms
        chain = [
            steps.ResizeStepScaling(0.5, 2.0, 0.25),
            steps.RandomPaddingCrop(crop_size=[crop[1], crop[0]]),
            steps.RandomHorizontalFlip(),
        ]
        if distort:
            chain.append(steps.RandomDistort(brightness_range=0.4, contrast_range=0.4, saturation_range=0.4))
        chain.append(steps.Normalize())
        for log in (self.uniforms, self.integers, self.shuffled, self.coins, self.changes):
            log.clear()
        data = {"img": image, "label": label, "gt_fields": ["label"], "trans_info": []}
        data = steps.Compose(chain)(data)
        top, left = self.integers or (0, 0)
        draws = {
            "scale": self.shuffled[0],
            "top": int(top),
            "left": int(left),
            "flip": bool(self.coins[0] < 0.5),
            "distort": list(self.changes),
        }
        return np.ascontiguousarray(data["img"]), np.ascontiguousarray(data["label"]), draws


def picture(height: int, width: int, seed: int):
    """A smooth colorful image and a blocky label."""
    generator = np.random.RandomState(seed)
    noise = generator.randint(0, 256, (height, width, 3)).astype(np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 1.2).astype(np.float64)
    image = np.clip((image - 128) * 3 + 128, 0, 255).astype(np.uint8)
    blocks = generator.randint(0, 20, (-(-height // 5), -(-width // 7))).astype(np.uint8)
    label = np.kron(blocks, np.ones((5, 7), np.uint8))[:height, :width]
    return image, np.where(label == 19, 255, label).astype(np.uint8)


def cases(recorder: Recorder, per_shape: int):
    for shape_number, (height, width, crop_height, crop_width) in enumerate(SHAPES):
        for number in range(per_shape):
            seed = 100 * shape_number + number
            image, label = picture(height, width, seed)
            random.seed(seed)
            np.random.seed(seed)
            distort = number % 4 != 0
            crop = (crop_height, crop_width)
            yield image, label, crop, distort, recorder.run(image, label, crop, distort)


def write(recorder: Recorder) -> None:
    import paddleseg
    import PIL

    arrays, descriptions = {}, []
    for number, (image, label, crop, distort, (out_image, out_label, draws)) in enumerate(cases(recorder, 10)):
        arrays[f"image{number}"], arrays[f"label{number}"] = image, label
        arrays[f"out_image{number}"], arrays[f"out_label{number}"] = out_image, out_label
        descriptions.append({"crop": crop, "distort": distort, "draws": draws})
    made_with = {"paddleseg": paddleseg.__version__, "pillow": PIL.__version__, "opencv": cv2.__version__}
    arrays["cases"] = np.array(json.dumps({"made_with": made_with, "cases": descriptions}, sort_keys=True))
    np.savez_compressed(HERE / "arrays.npz", **arrays)
    seen = {case["draws"]["scale"] for case in descriptions}
    kinds = {kind for case in descriptions for kind, _ in case["draws"]["distort"]}
    print(f"{len(descriptions)} cases, scales {sorted(seen)}, changes {sorted(kinds)}")


def check(recorder: Recorder, count: int) -> int:
    """Compare full-size crops with `stdc` and print the result; returns the number of differing crops."""
    from stdc.data import transforms
    from stdc.recipe import resolve

    train = {"preset": "paddleseg", "iterations": 1, "global_batch": 1, "crop_height": 512, "crop_width": 1024}
    settings = resolve(train).augmentation
    image, label = picture(1024, 2048, 0)
    different = 0
    for seed in range(count):
        random.seed(seed)
        np.random.seed(seed)
        expected_image, expected_label, draws = recorder.run(image, label, (512, 1024), True)
        draws["distort"] = tuple((kind, amount) for kind, amount in draws["distort"])
        crop, got_label = transforms.apply(image, label, transforms.Draws(**draws), settings)
        got_image = transforms.normalize(crop, settings.mean, settings.std)
        different += not (np.array_equal(got_image, expected_image) and np.array_equal(got_label, expected_label))
    print(f"transforms, paddleseg 2.7, 1024x2048 -> 512x1024, tolerance 0: {different} of {count} crops differ")
    return different


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=int, metavar="N", help="compare N full-size crops instead of writing")
    options = parser.parse_args()
    recorder = Recorder()
    if options.check:
        return min(check(recorder, options.check), 1)
    write(recorder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
