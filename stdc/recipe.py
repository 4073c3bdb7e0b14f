"""The training recipe in parts: one frozen dataclass for each room that uses it, built and checked once.

The configuration is flat: every key of the sections `train` and `model` is a field of exactly one part. A key left null
takes the preset's value (`stdc/presets.py`), so that one key chooses a published recipe. The bounds stand beside the
fields (`stdc/parts.py`); the schema states the same ones for people, and a test compares the two.
"""

from __future__ import annotations

import dataclasses
import reprlib
from typing import Any, ClassVar, Dict, Iterator, Mapping, Optional, Tuple, Type, Union

from stdc.errors import InputError
from stdc.parts import Part, channels, flag, number, part_of, word
from stdc.presets import PRESETS

Triple = Tuple[float, float, float]

#: `ohem_min_kept` of the authors' code: one sixteenth of the pixels of a device's batch.
PIXELS_16TH = "pixels/16"

#: More scales than this are no choice of scales, and their list would only fill the memory.
_MOST_SCALES = 1000


@dataclasses.dataclass(frozen=True)
class Network(Part):
    """The network (section `model`), for `stdc.nn.segmentor.build_segmentor`.

    Attributes:
        backbone: "stdc1" (STDC813) or "stdc2" (STDC1446).
        pool_counts_padding: average pooling at image borders divides by the whole window, as torch does by default and
            so the authors' code; PaddleSeg divides by the pixels that are there.
    """

    section: ClassVar[str] = "model"
    backbone: str = word("stdc1", "stdc2")
    pool_counts_padding: bool = flag(default=False)


@dataclasses.dataclass(frozen=True)
class Schedule(Part):
    """The steps of the training: how many, of how many images, and at which rate (warm-up, then polynomial decay).

    Attributes:
        iterations: optimizer steps of the whole training.
        global_batch: images per step over all devices.
        base_lr: learning rate after the warm-up, per step.
        end_lr: learning rate that the decay ends at.
        poly_power: exponent of the decay (Chen et al., DeepLab).
        warmup_iterations: steps of the exponential warm-up; 0 for none (the authors' ``optimizer_loss.py``: 1000).
        warmup_start_lr: learning rate of the first step of the warm-up.
    """

    iterations: int = number(1, 10_000_000, whole=True)
    global_batch: int = number(1, 65536, whole=True)
    base_lr: float = number(above=0, most=100)
    end_lr: float = number(0, 100)
    poly_power: float = number(above=0, most=10)
    warmup_iterations: int = number(0, 10_000_000, whole=True)
    warmup_start_lr: float = number(0, 100)

    def contradiction(self) -> Optional[str]:
        if self.end_lr > self.base_lr:
            return f"end_lr: {self.end_lr} is above train.base_lr {self.base_lr}"
        if self.warmup_iterations and self.warmup_iterations >= self.iterations:
            return (
                f"warmup_iterations: {self.warmup_iterations} of {self.iterations} iterations; "
                "the warm-up must end before the training does"
            )
        if self.warmup_iterations and not self.warmup_start_lr:
            return (
                f"warmup_start_lr: 0, but train.warmup_iterations is {self.warmup_iterations}; the warm-up multiplies "
                "the rate at each step, so it must start above 0 (the authors' value is 1e-5)"
            )
        return None

    def device_batches(self, devices: int) -> Tuple[int, ...]:
        """Images that each device sees per step: equal shares, or one more on each of the first devices.

        Raises:
            InputError: there are more devices than images.
        """
        if devices < 1:
            raise InputError(f"devices: {devices}; at least 1 is needed")
        if self.global_batch < devices:
            raise InputError(
                f"train.global_batch: {self.global_batch} for {devices} devices; each needs one image at least, so "
                f"take {self.global_batch} devices or fewer"
            )
        share, rest = divmod(self.global_batch, devices)
        return (share + 1,) * rest + (share,) * (devices - rest)

    def per_device_batch(self, devices: int) -> int:
        """Images that one device sees per step, at most. Raises what `device_batches` raises."""
        return self.device_batches(devices)[0]

    def images_per_pass(self, devices: int, micro_batch: Optional[int]) -> Optional[int]:
        """`micro_batch`, where the share of a device takes several forward passes; else None."""
        share = -(-self.global_batch // max(devices, 1))
        return micro_batch if micro_batch is not None and micro_batch < share else None

    def passes(self, devices: int, micro_batch: int) -> int:
        """Forward passes of a step, as many on each device.

        Args:
            micro_batch: images per pass at most.
        Raises:
            InputError: less than one image, or a device would have none in one of the passes.
        """
        shares = self.device_batches(devices)
        if micro_batch < 1:
            raise InputError(f"hardware.micro_batch: {micro_batch} images; at least 1 is needed")
        passes = -(-shares[0] // micro_batch)
        if passes > shares[-1]:
            raise InputError(
                f"hardware.micro_batch: {micro_batch} image per forward pass, but the {devices} devices have "
                f"{shares[0]} or {shares[-1]} images per step, and each needs one in every pass; take 2, or a number "
                f"of devices that divides train.global_batch ({self.global_batch})"
            )
        return passes


@dataclasses.dataclass(frozen=True)
class Optimizer(Part):
    """SGD with momentum, for `stdc.training.optimizer`; its rate comes from the schedule.

    Attributes:
        momentum: share of the last update that the next one keeps.
        weight_decay: factor of the L2 penalty.
        weight_decay_on_norm_and_bias: whether batch-norm parameters and biases are penalized too.
        head_lr_factor: learning rate of the fusion and the heads over that of the rest (the authors' train.py: 10).
        ema_decay: decay of the moving average of the parameters, which is then what is evaluated and kept; 0 for none.
    """

    momentum: float = number(0, below=1)
    weight_decay: float = number(0, 1)
    weight_decay_on_norm_and_bias: bool = flag()
    head_lr_factor: float = number(above=0, most=1000)
    ema_decay: float = number(0, below=1, default=0)


@dataclasses.dataclass(frozen=True)
class Augmentation(Part):
    """How a training crop is made, for `stdc.data.transforms`, and how images are normalized, in evaluation too.

    Attributes:
        crop_height, crop_width: size of the result, pixels.
        pipeline: order and means of the steps: "paddleseg" or "authors", see `stdc.data.transforms`.
        scale_min, scale_max: range of the random scale, as a factor of the image's own size.
        scale_step: distance of the scales drawn from, a factor; 0 draws from the whole range.
        small_image: what happens to a scaled image smaller than the crop: "pad" adds to the right and below, "upscale"
            enlarges it until it covers the crop.
        pad_value: gray level of the padding, 0 to 255; the label is padded with void.
        flip_probability: share of the images that are mirrored left to right, 0 to 1.
        distort: "paddleseg": each of brightness, contrast, saturation and hue for half of the images, in random order;
            "authors": brightness, contrast, saturation, always, in this order; "none": no change of color.
        brightness, contrast, saturation: largest change of the factor 1, so 0.4 draws from 0.6 to 1.4.
        hue: largest turn of the hue, in 1/256 of a full turn; for "paddleseg" only.
        mean, std: normalization of red, green and blue on the scale 0 to 1.
    """

    crop_height: int = number(1, 8192, whole=True)
    crop_width: int = number(1, 8192, whole=True)
    pipeline: str = word("paddleseg", "authors")
    scale_min: float = number(above=0, most=8)
    scale_max: float = number(above=0, most=8)
    scale_step: float = number(0, 8)
    small_image: str = word("pad", "upscale")
    pad_value: float = number(0, 255)
    flip_probability: float = number(0, 1)
    distort: str = word("paddleseg", "authors", "none")
    brightness: float = number(0, below=1)
    contrast: float = number(0, below=1)
    saturation: float = number(0, below=1)
    hue: float = number(0, 128)
    mean: Triple = channels()  # noqa: RUF009 (a field, as the others are)
    std: Triple = channels(above=0)  # noqa: RUF009

    def contradiction(self) -> Optional[str]:
        if self.scale_min > self.scale_max:
            return f"scale_min: {self.scale_min} is above train.scale_max {self.scale_max}"
        if self.scale_step and (self.scale_max - self.scale_min) / self.scale_step > _MOST_SCALES:
            return (
                f"scale_step: {self.scale_step} gives more than {_MOST_SCALES} scales from {self.scale_min} to "
                f"{self.scale_max}; 0 draws from the whole range"
            )
        return None


@dataclasses.dataclass(frozen=True)
class Losses(Part):
    """The losses of a training step, for `stdc.nn.losses`.

    Attributes:
        ohem_rule: which pixels online hard example mining keeps, and what it divides by: "paddleseg" or "authors".
        ohem_threshold: a pixel is hard when the probability of its true class is below this.
        ohem_min_kept: pixels of a device's batch that are kept at least, or "pixels/16", a sixteenth of the batch.
        detail_weight: factor of the detail loss.
        upsampling: how the three heads' logits are brought to the crop's size: "interpolate" by Paddle's kernel, or
            "products" by two matrix products, whose backward pass adds in a fixed order; equal but for rounding.
    """

    ohem_rule: str = word("paddleseg", "authors")
    ohem_threshold: float = number(above=0, most=1)
    ohem_min_kept: Union[int, str] = number(1, whole=True, or_word=PIXELS_16TH)
    detail_weight: float = number(0, 100)
    upsampling: str = word("interpolate", "products", default="interpolate")

    def min_kept(self, pixels: int) -> int:
        """Pixels that mining keeps at least, of a device's batch of `pixels`."""
        return max(pixels // 16, 1) if isinstance(self.ohem_min_kept, str) else self.ohem_min_kept


@dataclasses.dataclass(frozen=True)
class Kernels(Part):
    """Which kernels a device computes with, for `stdc.machine.devices`.

    Attributes:
        cudnn_exhaustive_search: take the fastest kernel by trying them; results then vary from run to run.
        cudnn_batchnorm_spatial_persistent: faster batch norm on NVIDIA.
        deterministic: deterministic kernels for convolution and pooling, and no exhaustive search. On GPUs the backward
            passes of upsampling and depthwise convolution still add in changing order.
        amp: type that convolutions and other safe operations compute in, "bfloat16" or "float16" (Paddle's level O1),
            or "none"; losses and weights stay float32.
    """

    cudnn_exhaustive_search: bool = flag(default=False)
    cudnn_batchnorm_spatial_persistent: bool = flag(default=False)
    deterministic: bool = flag(default=True)
    amp: str = word("none", "bfloat16", "float16", default="none")


@dataclasses.dataclass(frozen=True)
class Loop(Part):
    """What the loop does beside training, for `stdc.training`; none of it changes the final weights.

    Attributes:
        save_interval: optimizer steps between checkpoints.
        keep_checkpoint_max: newest checkpoints kept.
        evaluate: whether the validation images are evaluated during training, which chooses the best weights.
        eval_interval: optimizer steps between these evaluations; the last step is always evaluated.
        log_interval: optimizer steps between lines of progress.
        visualdl: whether VisualDL records are written.
        prediction_images: validation images whose prediction is recorded at each evaluation.
    """

    save_interval: int = number(1, 10_000_000, whole=True, default=500)
    keep_checkpoint_max: int = number(1, 1000, whole=True, default=3)
    evaluate: bool = flag(default=True)
    eval_interval: int = number(1, 10_000_000, whole=True, default=500)
    log_interval: int = number(1, 1_000_000, whole=True, default=10)
    visualdl: bool = flag(default=True)
    prediction_images: int = number(0, 64, whole=True, default=4)


@dataclasses.dataclass(frozen=True)
class Evaluation(Part):
    """What computes in the evaluation (section `evaluate`), for `stdc.evaluation`; its protocols are read there.

    Attributes:
        backend: "paddle", which the published figures need, or "onnxruntime", which is faster on a CPU.
        compared_images: validation images that the other backend predicts too, on a CPU; the pixels that differ are
            stated in the results.
    """

    section: ClassVar[str] = "evaluate"
    backend: str = word("paddle", "onnxruntime", default="paddle")
    compared_images: int = number(0, 100_000, whole=True, default=2)


@dataclasses.dataclass(frozen=True)
class Speed(Part):
    """How inference is timed (section `speed`), for `stdc.evaluation.speed`.

    Attributes:
        height, width: size of the input, pixels.
        batch: images per call.
        warmup: calls before the clock starts.
        iterations: timed calls.
        backend: "paddle" or "onnxruntime".
    """

    section: ClassVar[str] = "speed"
    height: int = number(32, 8192, whole=True)
    width: int = number(32, 8192, whole=True)
    batch: int = number(1, 1024, whole=True)
    warmup: int = number(0, 100_000, whole=True)
    iterations: int = number(2, 100_000, whole=True)
    backend: str = word("paddle", "onnxruntime", default="paddle")


@dataclasses.dataclass(frozen=True)
class TrainRecipe:
    """Everything in the `train` section that changes the trained weights, after the preset has been filled in.

    Attributes:
        preset: "paddleseg" or "authors".
    """

    preset: str
    schedule: Schedule
    optimizer: Optimizer
    augmentation: Augmentation
    losses: Losses
    kernels: Kernels

    def parts(self) -> Iterator[Part]:
        """All parts, in the order of the fields."""
        return (getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "preset")

    def as_dict(self) -> Dict[str, Any]:
        """Plain values by the names of the configuration, for JSON and hashes."""
        flat: Dict[str, Any] = {"preset": self.preset}
        for part in self.parts():
            flat.update(dataclasses.asdict(part))
        return {key: list(value) if isinstance(value, tuple) else value for key, value in flat.items()}


#: The parts of `TrainRecipe` by the names of its fields.
PARTS: Dict[str, Type[Part]] = {
    "schedule": Schedule,
    "optimizer": Optimizer,
    "augmentation": Augmentation,
    "losses": Losses,
    "kernels": Kernels,
}


def resolve(train: Mapping[str, Any]) -> TrainRecipe:
    """The effective recipe of a `train` section: the preset's values, overridden by those given.

    Raises:
        InputError: unknown preset, a missing key, a value out of its range, or values that contradict each other.
    """
    values = _effective(train)
    return TrainRecipe(_preset(train), **{name: part_of(part, values) for name, part in PARTS.items()})  # type: ignore[arg-type]


def normalization(train: Mapping[str, Any]) -> Tuple[Triple, Triple]:
    """(mean, std) of the RGB channels on the 0..1 scale that the weights were trained with.

    Raises:
        InputError: see `resolve`.
    """
    # The crop plays no part here, and a section that only names its preset is enough.
    augmentation = part_of(Augmentation, {"crop_height": 1, "crop_width": 1, **_effective(train)})
    return augmentation.mean, augmentation.std


def kernels_of(train: Mapping[str, Any]) -> Kernels:
    """The kernels that the weights were trained with, of a `train` section that need not be complete.

    Raises:
        InputError: see `resolve`.
    """
    return part_of(Kernels, _effective(train))


def _effective(train: Mapping[str, Any]) -> Dict[str, Any]:
    """The preset's values, overridden by those given."""
    return {**PRESETS[_preset(train)], **{key: value for key, value in train.items() if value is not None}}


def _preset(train: Mapping[str, Any]) -> str:
    if not isinstance(train, Mapping):
        raise InputError(f"train: {reprlib.repr(train)}; a section with keys is expected")
    preset = train.get("preset")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise InputError(f"train.preset: {reprlib.repr(preset)} is not one of {', '.join(sorted(PRESETS))}")
    return preset
