"""The window figure of forty run directories with pandas and seaborn: the yardstick of figures.sh.

Usage: figures_seaborn.py ROOT CONFIG.yml OUT.png
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import yaml

UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


def run(directory):
    info = yaml.safe_load((directory / "info.yml").read_text())
    latency = throughput = None
    for line in (directory / "client00.out").read_text().splitlines():
        if line.startswith(" 90.000%"):
            text = line.split("%")[1].strip()
            unit = text.lstrip("0123456789.")
            latency = round(float(text[: -len(unit)]) * UNITS[unit])
        elif line.startswith("Requests/sec:"):
            throughput = float(line.split(":")[1])
    traces = pd.read_csv(directory / "traces.csv", sep=";", index_col="ts")
    window = np.percentile(traces[["post_notification_diff_ms"]], 90)
    return {
        "zone_pair": info["zone_pair"],
        "type": info["type"].capitalize(),
        "rps": info["rps"],
        "latency": latency,
        "window": window,
        "throughput": throughput,
    }


def main(root, config, out):
    name = "throughput_latency_with_consistency_window"
    directories = [Path(root) / d for d in yaml.safe_load(Path(config).read_text())[name]]
    df = pd.DataFrame([run(d) for d in directories]).groupby(["zone_pair", "type", "rps"]).median().reset_index()
    sns.set_theme(style="ticks")
    plt.rcParams.update({"figure.figsize": [6, 4.25], "figure.dpi": 600})
    pairs = sorted(df.zone_pair.unique())
    fig, axes = plt.subplots(len(pairs), 2, gridspec_kw={"wspace": 0.05, "hspace": 0.23, "width_ratios": [4, 1]})
    palette = {"Antipode": sns.color_palette("deep")[1], "Baseline": sns.color_palette("deep")[0]}
    for (left, right), pair in zip(axes, pairs):
        part = df[df.zone_pair == pair]
        left.set(yscale="symlog")
        sns.lineplot(ax=left, data=part, sort=False, x="throughput", y="latency", hue="type", style="type",
                     palette=palette, markers=True, dashes=False, linewidth=3)
        left.set_title(pair, loc="left", style="italic", fontsize="small")
        peak = part[part.rps == part.rps.max()].set_index("type").window
        bars = pd.DataFrame({"Baseline": [peak["Baseline"]], "Antipode": [peak["Antipode"] - peak["Baseline"]]})
        bars.plot(ax=right, kind="bar", stacked=True, width=0.4, legend=False)
        right.yaxis.tick_right()
    plt.savefig(out, bbox_inches="tight", pad_inches=0.1)


main(*sys.argv[1:])
