"""Counts of a network made by hand, sample by sample and step by step, and a report of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from snnsc.energy.counting.counts import Counts, LayerCount, Network, Stat, histogram
from snnsc.energy.pricing.fit import fit
from snnsc.energy.pricing.pricing import load_targets, price
from snnsc.energy.report.report import Origin, Report

FACTS = {"input_shape": [2, 4, 4], "output_shape": [3, 4, 4], "kernel": [3, 3], "parameters": 54, "fan_in": 18}


def linear(name: str, events: np.ndarray, *, most: int, kind: str = "binary") -> LayerCount:
    """A convolution; `events` is [samples, T], of which all are additions if the input is binary, else none."""
    samples, steps = events.shape
    acs = events if kind == "binary" else np.zeros_like(events)
    static = {"time_steps": steps, "dense_macs": 2 * most, "ann_macs": 2 * most // steps, "max_events": most}
    stats = {key: Stat.constant(value, samples) for key, value in {**static, "input_elements": 32 * steps}.items()}
    found = {"events": events, "acs": acs, "event_magnitude": events, "input_nonzeros": events}
    stats |= {key: Stat.of(values.sum(axis=1)) for key, values in found.items()}
    series = {key: tuple(int(v) for v in found[key].sum(axis=0)) for key in ("events", "acs", "event_magnitude")}
    spread = {"events": histogram(events.sum(axis=1), most)}
    return LayerCount(name, "Conv", kind, 1.0 if kind == "binary" else None, 54, stats, series, spread, dict(FACTS))


def neurons(name: str, spikes: np.ndarray, *, count: int, op: str = "LIF") -> LayerCount:
    """A layer of so many neurons; `spikes` is [samples, T]."""
    samples, steps = spikes.shape
    stats = {"neuron_updates": Stat.constant(count * steps, samples), "time_steps": Stat.constant(steps, samples)}
    stats["spikes"] = Stat.of(spikes.sum(axis=1))
    series = {"spikes": tuple(int(v) for v in spikes.sum(axis=0))}
    spread = {"spikes": histogram(spikes.sum(axis=1), count * steps)}
    facts = {"input_shape": [3, 4, 4], "output_shape": [3, 4, 4], "parameters": 0}
    return LayerCount(name, op, "binary", 1.0, 0, stats, series, spread, facts)


def made(
    names: tuple[str, str, str, str] = ("conv1", "lif1", "conv2", "lif2"),
    *,
    seed: int = 3,
    samples: int = 7,
    T: int = 4,
    split: str = "test",
    **more: object,
) -> Counts:
    """Two convolutions and two layers of 48 neurons."""
    rng = np.random.default_rng(seed)
    events = [rng.integers(0, 200, (samples, T)).astype(float) for _ in range(2)]
    spikes = [rng.integers(0, 48, (samples, T)).astype(float) for _ in range(2)]
    rows = (
        linear(names[0], events[0], most=200 * T, kind="real"),
        neurons(names[1], spikes[0], count=48),
        linear(names[2], events[1], most=200 * T),
        neurons(names[3], spikes[1], count=48),
    )
    sums = {"events": sum(events), "macs": events[0], "acs": events[1], "spikes": sum(spikes)}
    network = Network(
        {key: Stat.of(values.sum(axis=1)) for key, values in sums.items()},
        {"events": histogram(sums["events"].sum(axis=1), 400 * T)},
    )
    return Counts(samples, rows, split, graph="0" * 64, network=network, **more)


def report(counts: Counts, model: str = "net.onnx", *, source: str = "embedded", stripped: tuple[str, ...] = ()):
    """A report of counts, as a plain dict."""
    origin = Origin("0.1.0", "4", '{"type": "lif"}', '{"layout": "BCHW"}', stripped=stripped)
    fits = tuple(found for target in load_targets() if (found := fit(counts, target)) is not None)
    return Report(source, counts, tuple(price(counts)), fits, model, origin).to_dict()


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=http://x/y onerror=alert(1)>',
    "</style></title><svg/onload=alert(1)>&amp;'\u202e\x00",
    "a" * 3000,
)


def networks() -> dict[str, dict]:
    """Reports of every kind: measured, hostile, without samples, without neurons, of many steps, without layers."""
    counts = made()
    return {
        "measured": report(counts),
        "hostile": report(made(HOSTILE, split=HOSTILE[0]), HOSTILE[1], stripped=HOSTILE),
        "dense": report(without_samples(counts), source="none"),
        "ann": report(Counts(counts.samples, counts.layers[::2], "test")),
        "long": report(made(T=300)),
        "empty": report(Counts(1, ())),
    }


def without_samples(counts: Counts) -> Counts:
    """The same network before any sample has run."""
    static = ("time_steps", "dense_macs", "ann_macs", "max_events", "input_elements", "neuron_updates")
    layers = []
    for row in counts.layers:
        stats = {k: Stat.constant(v.high, 1) for k, v in row.stats.items() if k in static}
        layers.append(replace(row, stats=stats, steps={}, spread={}))
    return Counts(0, tuple(layers))
