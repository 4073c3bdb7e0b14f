"""The first fifteen minutes on a new device: ordered steps, figures with bounds, JSON at the end.

    make device-acceptance ARGS="--device gpu --devices 1"

A step ends in figures; one that has a bound and misses it fails the step, and the first failure ends the trial unless
`--all` is given. One device is enough; steps that need two say that they were left out. Results on a device are
compared with this machine's CPU. No data is needed: a small dataset is generated.

Bounds are proposals until the first real devices have been through. What has run where: docs/devices.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests"), str(Path(__file__).resolve().parent)]

from trial import Result, Trial, read, sha256  # noqa: E402

from stdc.machine.kinds import KINDS  # noqa: E402

CPU = KINDS[0]
#: The published crop and batch of one device; a CPU gets less, so that the trial ends.
PUBLISHED = {"batch": 12, "height": 512, "width": 1024, "steps": 60}
ON_CPU = {"batch": 2, "height": 64, "width": 128, "steps": 6}
#: Generated frames for the throughput with a loader: as large as those of Cityscapes, or as a CPU can take.
FRAMES = {"seed": 0, "height": 1024, "width": 2048, "train": 24, "val": 8, "test": 0}
SMALL_FRAMES = {"seed": 0, "height": 128, "width": 256, "train": 8, "val": 2, "test": 0}
#: Exact products: without this an Ampere card rounds the factors of float32 products, and nothing can be compared.
EXACT = {"NVIDIA_TF32_OVERRIDE": "0"}
STEPS_COMPARED = 30
#: Seconds that a training may take to end, in addition to those that it took to begin.
_END_S = 15.0
#: Seconds without a sign of life after which a run is ended: before the CPU's collectives give up, in words of theirs.
_STEP_LIMIT_S = 20.0


class Figure(NamedTuple):
    """One measured value; `bound` in words, empty where there is none and the value alone is of interest."""

    name: str
    value: Any
    bound: str = ""
    ok: bool = True


def at_most(name: str, value: float, bound: float) -> Figure:
    return Figure(name, value, f"at most {bound:g}", value <= bound)


def equal(name: str, value: Any, expected: Any) -> Figure:
    return Figure(name, value, f"{expected}", value == expected)


class LeftOut(Exception):
    """A step that cannot be made here; says why."""


class Acceptance:
    """The steps, in order. Each takes what the ones before have left in `folder`."""

    def __init__(self, device: str, devices: int, folder: Path, small: bool = False) -> None:
        self.device, self.devices, self.folder = device, devices, folder
        self.trial = Trial(folder / "data", environment=EXACT)
        self.small = small or device == CPU
        self.sizes = ON_CPU if self.small else PUBLISHED
        self.without_loader: Optional[float] = None
        #: Seconds that the last training took to begin: what this machine needs for imports, ranks and a few steps,
        #: beside whatever else it does. An ending may take as long, and a little more.
        self.began_s = 0.0

    def measure(self, part: str, device: str, environment: Optional[Dict[str, str]] = None, **options: int) -> Any:
        command = [sys.executable, str(Path(__file__).with_name("measure.py")), part, "--device", device]
        command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
        own = {**self.trial.environment, **(environment or {})}
        result = subprocess.run(command, capture_output=True, text=True, env=own, timeout=600, check=False)
        if result.returncode != 0:
            raise RuntimeError(last_words(result))
        return json.loads(result.stdout.strip().splitlines()[-1])

    def train(self, name: str, device: str, devices: int, **train: Any) -> Path:
        out = self.folder / name
        done(self.trial.train(out, device, devices, **train))
        return out

    # ---- the steps

    def examination(self) -> List[Figure]:
        """Names of libraries, capability, driver, and two images, by the doctor."""
        figures = []
        # TF32 as it comes, then off: the first bound allows for its rounding.
        for words, environment, bound in (("as it comes", {"NVIDIA_TF32_OVERRIDE": "1"}, 5e-2), ("exact", EXACT, 1e-4)):
            report = self.folder / f"doctor {words}.json"
            trial = Trial(self.trial.folder, environment=environment)
            result = trial.run(
                "doctor", "--device", self.device, "--devices", self.devices, "--threads", 1,
                "--directory", self.folder, "--json", report, timeout_s=600,
            )  # fmt: skip
            if not report.exists():
                raise RuntimeError(last_words(result))
            problems = [row for row in read(report)["findings"] if row["level"] == "problem"]
            named = "; ".join(f"{row['check']}: {row['found']}" for row in problems)
            figures.append(equal(f"problems, {words}", named or "none", "none"))
            rows = [row["found"] for row in read(report)["findings"] if row["check"] == "two images evaluated"]
            for evaluated in (row for row in rows if "logits within" in row):
                value = float(evaluated.split("logits within ")[1].split()[0])
                figures.append(at_most(f"logits against the CPU's, {words}", value, bound))
        return figures

    def gradients(self) -> List[Figure]:
        """Loss and gradients of one step, both presets, against the CPU's."""
        found = self.measure("gradients", self.device)
        return [
            at_most("loss, relative error", found["loss_error"], 1e-4),
            at_most("gradient, relative error of its norm", found["gradient_error"], 1e-3),
            Figure("worst at", found["where"] or "none"),
        ]

    def topk(self) -> List[Figure]:
        """The mining's choice among the pixels of a published batch."""
        figures = []
        for name, value in self.measure("topk", self.device).items():
            if name.endswith("_ms"):
                figures.append(Figure(name, value) if self.small else at_most(name, value, 30.0))
            elif name.endswith("_equal"):
                figures.append(equal(name, value, True))
        return figures

    def thirty_steps(self) -> List[Figure]:
        """A short training on the device and on the CPU."""
        train = {"iterations": STEPS_COMPARED, "save_interval": STEPS_COMPARED, "evaluate": False}
        ours, cpu = (losses(self.train(f"30 {device}", device, 1, **train)) for device in (self.device, CPU))
        first, last = (abs(ours[index] - cpu[index]) / cpu[index] for index in (0, -1))
        return [at_most("loss of step 1, relative", first, 1e-4), at_most("loss of step 30, relative", last, 2e-2)]

    def same_bytes(self) -> List[Figure]:
        """The same training again: are its weights bit-equal? On GPUs some backward passes add atomically."""
        train = {"iterations": STEPS_COMPARED, "save_interval": STEPS_COMPARED, "evaluate": False}
        again = self.train("30 again", self.device, 1, **train)
        same = sha256(again / "model.pdparams") == sha256(self.folder / f"30 {self.device}" / "model.pdparams")
        return [equal("bit-equal", same, True) if self.device == CPU else Figure("bit-equal", same)]

    def batch_norm(self) -> List[Figure]:
        """The running variance of 12 values: over n is 1, over n - 1 is 1.0909."""
        found = self.measure("batch_norm", self.device)["variance_over_biased"]
        known = min(abs(found - 1), abs(found - 12 / 11)) < 1e-3
        return [Figure("running variance over the biased one", found, "1 or 1.0909", known)]

    def ranks(self) -> List[Figure]:
        """All devices against one, with the same global batch."""
        if self.devices < 2:
            raise LeftOut("one device")
        train = {"iterations": 10, "save_interval": 10, "evaluate": False, "global_batch": 2 * self.devices}
        many = losses(self.train("10 many", self.device, self.devices, **train))
        one = losses(self.train("10 one", self.device, 1, **train))
        # Each rank mines among its own pixels, so only the first losses are close.
        return [at_most("loss of step 1, relative", abs(many[0] - one[0]) / one[0], 1e-3), Figure("losses", many)]

    def sync_batch_norm(self) -> List[Figure]:
        """Paddle's synchronized batch norm against ours, over all devices: outputs, gradients, running statistics."""
        if self.devices < 2 and self.device != CPU:
            raise LeftOut("one device")
        report = self.folder / "doctor exact.json"
        if not report.exists():
            self.examination()
        rows = [row["found"] for row in read(report)["findings"] if row["check"] == "all-reduce"]
        text = rows[0].split("batch norm is synchronized ")[-1] if rows else "not tried"
        # For want of a kernel ours is taken, which is slower; a wrong kernel is not taken either, but worth a failure.
        right = text.startswith(("by Paddle's kernel", "by collectives of ours, for want"))
        return [Figure("synchronized", text, "by Paddle's kernel, or by ours for want of one", right)]

    def throughput(self) -> List[Figure]:
        """Images per second of a training step without a dataloader, and memory."""
        found = self.measure("throughput", self.device, {"NVIDIA_TF32_OVERRIDE": "1"}, **self.sizes)
        self.without_loader = found["images_per_s"]
        figures = [Figure("images per second", found["images_per_s"]), Figure("precision", found["precision"])]
        figures.append(Figure("batch, height, width", [self.sizes[name] for name in ("batch", "height", "width")]))
        if "peak_share" in found:
            figures.append(at_most("peak share of the memory", found["peak_share"], 0.9))
        return figures

    def loader(self) -> List[Figure]:
        """The same with everything around it: frames decoded and augmented by 2, 6 and 12 data workers."""
        batch, height, width = (self.sizes[name] for name in ("batch", "height", "width"))
        steps = 12 if self.small else 80
        data = Trial(self.folder / "frames", environment={"NVIDIA_TF32_OVERRIDE": "1"},
                     generated=SMALL_FRAMES if self.small else FRAMES)  # fmt: skip
        train = {"iterations": steps, "save_interval": steps, "log_interval": steps // 4, "evaluate": False,
                 "global_batch": batch, "crop_height": height, "crop_width": width}  # fmt: skip
        figures, best = [], 0.0
        for workers in (1, 2) if self.small else (2, 6, 12):
            out = self.folder / f"{workers} workers"
            arguments = (*data.train_arguments(out, self.device, 1, **train), "--workers", workers)
            done(data.run("train", *arguments, timeout_s=600))
            # The first interval holds the start.
            intervals = [event for event in events(out) if "images_per_s" in event][1:]
            speed = statistics.median(event["images_per_s"] for event in intervals)
            waiting = statistics.median(event["reader_wait_share"] for event in intervals)
            figures.append(Figure(f"images per second, {workers} workers", [speed, f"{waiting:.0%} waiting"]))
            best = max(best, speed)
        if self.without_loader is not None:
            share = best / self.without_loader
            # A CPU computes the network and makes the samples with the same cores.
            ok = share >= 0.9 or self.small
            figures.append(Figure("best of these over that without a loader", share, "at least 0.9", ok))
        return figures

    def profiler(self) -> List[Figure]:
        """What a step asks of the device, and how long the device waits for the host."""
        sizes = {**self.sizes, "steps": 3 if self.small else 10}
        found = self.measure("profile", self.device, {"NVIDIA_TF32_OVERRIDE": "1"}, **sizes)
        figures = [
            Figure(name.replace("_", " "), found[name])
            for name in ("operators_per_step", "launches_per_step")
            if name in found
        ]
        if "idle_share" in found:
            # One for the counts of the mining and what the step before computed, and one after the last step.
            figures.append(at_most("copies back per step", found["copies_back_per_step"], 1.0 + 1.0 / sizes["steps"]))
            figures.append(at_most("share of the time without work", found["idle_share"], 0.25))
        return figures

    def evaluation(self) -> List[Figure]:
        """Whole images: counts on one device, on all, and on the CPU."""
        trained = self.folder / f"30 {self.device}"
        counts = {}
        for name, device, devices in (("one", self.device, 1), ("all", self.device, self.devices), ("cpu", CPU, 1)):
            if name != "all" or self.devices > 1:
                output = self.folder / f"metrics {name}.json"
                done(self.trial.evaluate(trained, output, device, devices))
                counts[name] = read(output)["confusion"]
        moved = sum(abs(a - b) for ours, cpu in zip(counts["one"], counts["cpu"]) for a, b in zip(ours, cpu)) / 2
        pixels = sum(map(sum, counts["cpu"]))
        figures = [at_most("share of pixels that the CPU counts otherwise", moved / pixels, 1e-3)]
        if "all" in counts:
            figures.append(equal("counts of all devices are those of one", counts["all"] == counts["one"], True))
        return figures

    def stop_and_resume(self) -> List[Figure]:
        """SIGTERM saves and ends; the same command goes on; kill -9 leaves nothing alive."""
        figures = []
        for number, word, code in ((signal.SIGTERM, "SIGTERM", 75), (signal.SIGKILL, "kill -9", -9)):
            process = self.start_training("stopped")
            most_s = _END_S + self.began_s
            figures += self.ending("stopped", process, word, lambda: process.send_signal(number), code, most_s)  # noqa: B023
        kept = [path.parent.name for path in self.folder.glob("stopped/runs/*/checkpoints/*/manifest.json")]
        figures.append(Figure("checkpoints kept", kept, "one at least", len(kept) >= 1))
        resumed = "resuming: checkpoint of iteration" in (self.folder / "stopped" / "said").read_text()
        return [*figures, equal("the second start went on from the first one's checkpoint", resumed, True)]

    def dead_and_hung_ranks(self) -> List[Figure]:
        """One rank is killed, and one is stopped: the run ends in words, and nothing of it is left."""
        if self.devices < 2:
            raise LeftOut("one device")
        figures = []
        for number, word, limit_s in ((signal.SIGKILL, "kill -9", 0.0), (signal.SIGSTOP, "SIGSTOP", _STEP_LIMIT_S)):
            name = f"rank {word}"
            process = self.start_training(name, *(("--step-limit", limit_s) if limit_s else ()))
            rank = rank_below(self.folder / name, 1)
            most_s = 2 * _END_S + self.began_s + limit_s
            figures += self.ending(name, process, f"{word} of a rank", lambda: os.kill(rank, number), 1, most_s)  # noqa: B023
        said = (self.folder / "rank SIGSTOP" / "said").read_text()
        return [*figures, equal("the stopped rank is named", "is stopped by a signal" in said, True)]

    def start_training(self, name: str, *options: object) -> subprocess.Popen:
        """A training that would go on for long, once it has done some steps; what it says is kept."""
        train = {"iterations": 20000, "save_interval": 20000, "evaluate": False}
        arguments = (*self.trial.train_arguments(self.folder / name, self.device, self.devices, **train), *options)
        started = time.monotonic()
        with (self.folder / name / "said").open("w") as said:
            process = subprocess.Popen(self.trial.command("train", *arguments), env=self.trial.environment,
                                       stderr=said, start_new_session=True)  # fmt: skip
        wait_for_steps(self.folder / name, process)
        self.began_s = time.monotonic() - started
        return process

    def ending(
        self, name: str, process: subprocess.Popen, word: str, act: Callable[[], None], code: int, most_s: float
    ) -> List[Figure]:
        """Do something to a training, and see how it ends."""
        started = time.monotonic()
        act()
        found = process.wait(400)
        while (alive := processes_below(self.folder / name)) and time.monotonic() - started < max(60.0, most_s):
            time.sleep(0.2)
        seconds = time.monotonic() - started
        return [
            equal(f"exit code after {word}", found, code),
            at_most(f"seconds until nothing is alive after {word}", round(seconds, 1), round(most_s, 1)),
            Figure("seconds it took to begin", round(self.began_s, 1)),
            equal(f"processes left after {word}", alive, 0),
        ]

    def speed(self) -> List[Figure]:
        """Inference at the published sizes."""
        sizes = ((1024, 2048), (768, 1536), (512, 1024)) if not self.small else ((64, 128),)
        figures = []
        trial = Trial(self.trial.folder, environment={"NVIDIA_TF32_OVERRIDE": "1"})
        for height, width in sizes:
            output = self.folder / f"speed {height}.json"
            iterations = 3 if self.small else 100
            section = {"height": height, "width": width, "warmup": 20, "iterations": iterations}
            done(trial.measure_speed(self.folder / f"30 {self.device}", output, self.device, **section))
            inference = read(output)["inference"]
            figures.append(
                Figure(f"{width}x{height}, ms p50 and p95", [inference["latency_ms"][p] for p in ("p50", "p95")])
            )
        return [*figures, Figure("precision", inference["precision"])]


STEPS = ("examination", "gradients", "topk", "thirty_steps", "same_bytes", "batch_norm", "sync_batch_norm", "ranks",
         "throughput", "loader", "profiler", "evaluation", "stop_and_resume", "dead_and_hung_ranks",
         "speed")  # fmt: skip


def last_words(result: Result) -> str:
    lines = [line for line in result.stderr.strip().splitlines() if line.strip()]
    return f"exit code {result.returncode}: {lines[-1] if lines else 'no word'}"


def done(result: Result) -> None:
    if result.returncode != 0:
        raise RuntimeError(last_words(result))


def events(out: Path) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in (out / "history.jsonl").read_text(encoding="utf-8").splitlines()]


def losses(out: Path) -> List[float]:
    return [event["loss"] for event in events(out) if "loss" in event]


def wait_for_steps(folder: Path, process: subprocess.Popen) -> None:
    """Until the training below `folder` has logged more than it had."""

    def logged() -> int:
        return sum(path.stat().st_size for path in folder.glob("runs/*/history.jsonl"))

    # A machine with much other work takes minutes to start two ranks.
    before, deadline = logged(), time.monotonic() + 300
    while logged() <= before:
        if process.poll() is not None or time.monotonic() > deadline:
            said = (folder / "said").read_text(encoding="utf-8").strip().splitlines() or ["nothing"]
            raise RuntimeError(f"the training did not begin; it said last: {said[-1]}")
        time.sleep(0.1)


def trainers_below(folder: Path) -> List[int]:
    """Process numbers of trainers that work below `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes()
            if str(folder).encode() in command and b"train.py" in command and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def processes_below(folder: Path) -> int:
    """How many trainers still work below `folder`."""
    return len(trainers_below(folder))


def rank_below(folder: Path, rank: int) -> int:
    """The process number of a rank that works below `folder`."""
    for number in trainers_below(folder):
        with contextlib.suppress(OSError):
            if f"PADDLE_TRAINER_ID={rank}".encode() in Path(f"/proc/{number}/environ").read_bytes().split(b"\0"):
                return number
    raise RuntimeError(f"rank {rank} is not at work")


def run(
    acceptance: Acceptance, steps: Tuple[str, ...], to_the_end: bool, log: Callable[[str], None]
) -> List[Dict[str, Any]]:
    """All steps in order; what each one found."""
    found = []
    for number, name in enumerate(steps, start=1):
        started = time.monotonic()
        entry: Dict[str, Any] = {"step": name, "outcome": "passed", "figures": []}
        try:
            figures = getattr(acceptance, name)()
            entry["figures"] = [figure._asdict() for figure in figures]
            missed = [figure for figure in figures if not figure.ok]
            if missed:
                entry["outcome"] = "failed"
                entry["reason"] = "; ".join(f"{figure.name}: {figure.value}, not {figure.bound}" for figure in missed)
        except LeftOut as reason:
            entry.update(outcome="left out", reason=str(reason))
        except Exception as error:
            # Whatever it is, the figures of the other steps are worth having.
            entry.update(outcome="failed", reason=f"{type(error).__name__}: {error}")
        entry["seconds"] = round(time.monotonic() - started, 1)
        found.append(entry)
        reason = entry.get("reason", "")
        log(f"{number:2} of {len(steps)} {name:<15} {entry['outcome']:<8} {entry['seconds']:6.1f} s  {reason}")
        if entry["outcome"] == "failed" and not to_the_end:
            break
    return found


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=KINDS, default=os.environ.get("STDC_DEVICE") or CPU)
    parser.add_argument("--devices", type=int, default=int(os.environ.get("STDC_DEVICES") or 1), metavar="N")
    parser.add_argument(
        "--steps", nargs="+", choices=STEPS, default=STEPS, metavar="NAME", help=f"of {', '.join(STEPS)}"
    )
    parser.add_argument("--all", action="store_true", help="go on after a failure")
    parser.add_argument("--small", action="store_true", help="small sizes on a device too: for a stand-in")
    parser.add_argument("--output", type=Path, default=Path("acceptance.json"), metavar="FILE")
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    options = arguments().parse_args(argv)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        acceptance = Acceptance(options.device, options.devices, Path(folder), options.small)
        found = run(
            acceptance, tuple(options.steps), options.all, lambda line: print(line, file=sys.stderr, flush=True)
        )
        trained = Path(folder) / f"30 {options.device}" / "provenance.json"
        machine = {key: read(trained)[key] for key in ("device", "versions", "machine")} if trained.exists() else {}
    document = {"device": options.device, "devices": options.devices, "seconds": round(time.monotonic() - started),
                "steps": found, "machine": machine}  # fmt: skip
    options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    failed = [entry["step"] for entry in found if entry["outcome"] == "failed"]
    print(f"{options.output}: {'failed: ' + ', '.join(failed) if failed else 'all steps passed or were left out'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
