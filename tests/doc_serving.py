"""The generated part of docs/serving.md."""

from __future__ import annotations

from typing import Any


def serving(guide: dict[str, Any], serve: dict[str, Any]) -> str:
    """One prior of a bundle, and the same through a service, in Markdown."""
    lines = [
        "| skills | states at once | p50, us | p99, us | states/s | with ONNX Runtime, states/s | torch eager, p50, us | ratio | matrix products alone, share |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['size']:,} | {row['batch']} | {row['p50_us']:.0f} | {row['p99_us']:.0f} | {row['per_s']:,} | {row['onnx_per_s']:,} | {row['peer_p50_us']:.0f} | {row['ratio']:.1f} | {row['share_of_products']:.2f} |"
        for row in guide["rows"]
    ]
    lines += [
        "",
        "| one state through | p50, us | p99, us | answers/s, one core, eight clients | over the bare server, us |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['way']} | {row['p50_us']:.0f} | {row['p99_us']:.0f} | {row['per_s']:,} | {row['over_peer_us']:.0f} |"
        for row in serve["rows"]
    ]
    s, bill = guide["summary"], guide["summary"]["bill"]
    text = (
        f"Two shared cores, one thread, {s['rounds']} rounds in turns, task `{s['task']}` (`lago bench guide --json`, `lago bench serve --json`; the bare server answers zeros over a websocket with msgpack). "
        f"The bill: an episode of {bill['steps']} steps takes {bill['guide_s']:g} s of guidance; a live model asked at each step, at {bill['tokens_per_s']:g} tokens/s and with as many tokens as the recorded plan took, would take {bill['live_s']:,.0f} s and "
        f"{bill['live_usd']:,.2f} USD (at {bill['usd_per_million_in']:g} and {bill['usd_per_million_out']:g} USD a million tokens in and out)."
    )
    return "\n".join([*lines, "", text])
