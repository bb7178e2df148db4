"""The whole story in one run: ``make demo``, or ``make demo CI=1`` to have it checked and ended.

Starts a platform of its own, deploys ``project.yaml``, and shows a graph of functions served from
zero, warm, in batches, back to zero, and awake again. Every claim it prints is checked: if one does
not hold the exit code is 1.
"""

import argparse
import os
import signal
import statistics
import sys
import threading
import time

import psutil
from news import articles
from platform_process import CommandFailed, Platform
from stage import Stage, bar, mib, ms
from traffic import Client

GRAPH = "news-text-classification"
EMBEDDER = "news-text-embedder"
STEPS = ("news-text-preprocess", EMBEDDER, "news-text-classify")
FUNCTIONS = (*STEPS, GRAPH)
SHOWN, SAMPLE, CROWD = 8, 40, 64
LEAST_ACCURACY = 0.8
GENEROUS_WAKE_S = 5.0
GONE_WITHIN_S = 20.0


def main():
    """Runs the demo; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ci", action="store_true", help="end by itself")
    arguments = parser.parse_args()
    # A CI system ends its jobs by SIGTERM: leave the way Ctrl-C does, and stop the platform.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    stage, platform = Stage(), Platform()
    try:
        play(stage, platform)
        if not arguments.ci and not stage.failed:
            wait_for_the_audience(stage, platform)
    except KeyboardInterrupt:
        stage.say("interrupted")
    except CommandFailed as failure:
        stage.check(False, str(failure))
    finally:
        stage.say("stopping the platform …")
        platform.stop()
    return finish(stage)


def finish(stage):
    """The verdict."""
    for claim in stage.failed:
        stage.console.print(f"[bold red]✗ {claim}[/]")
    if not stage.failed:
        stage.console.print("[bold green]all as shown[/]")
    return 1 if stage.failed else 0


def play(stage, platform):
    """Every scene."""
    stage.scene("The platform starts")
    started = time.perf_counter()
    platform.start()
    stage.say(f"up in {time.perf_counter() - started:.1f} s, devices {platform.devices}")
    client, texts = Client(platform.gateway), articles(SHOWN + SAMPLE)
    deploy(stage, platform)
    first_request(stage, platform, client, texts[0])
    warm_requests(stage, client, texts)
    batching(stage, client, texts)
    to_zero(stage, platform)
    awake_again(stage, client, texts[1])


def deploy(stage, platform):
    """Of project.yaml: three functions and the graph over them."""
    stage.scene("Deploy from project.yaml: the model is quantized to int8 once, as a build step")
    started = time.perf_counter()
    platform.show(
        "deploy", "project.yaml", *(word for name in FUNCTIONS for word in ("--only", name))
    )
    stage.say(f"deployed in {time.perf_counter() - started:.1f} s")


def first_request(stage, platform, client, article):
    """From zero: every function on the way is woken."""
    stage.scene("First request, everything at zero")
    put_to_zero(platform)
    stage.check(not platform.workers(), "no worker process runs")
    label, headline, text = article
    reply = client.ask(GRAPH, {"text": text})
    stage.say(f'"{headline}" → [bold]{answer(reply)}[/] in {ms(reply.seconds)}')
    stage.say(f"[dim]Server-Timing: {reply.timing}[/]")
    stage.check(reply.status == 200, "the graph answered, having woken its three functions")
    stage.check(reply.cold, "the reply says that it waited for a wake: X-Stoker-Cold: 1")
    stage.check(answer(reply) == label, f"the label is right: {label}")


def warm_requests(stage, client, texts):
    """Real news, one by one."""
    stage.scene(f"Warm requests: {len(texts)} articles of BBC News, one after the other")
    replies = client.one_by_one(GRAPH, [{"text": text} for _, _, text in texts])
    rows = []
    for (label, headline, _), reply in list(zip(texts, replies, strict=True))[:SHOWN]:
        mark = "[green]✓[/]" if answer(reply) == label else f"[red]{label}[/]"
        rows.append((headline[:24], answer(reply), f"{score(reply):.2f}", mark, ms(reply.seconds)))
    stage.table("article", "label", "score", "", "took", rows=rows, right=("score", "took"))
    times = sorted(reply.seconds for reply in replies)
    p95 = times[min(len(times) - 1, round(len(times) * 0.95))]
    stage.say(f"latency through all three steps: median {ms(statistics.median(times))}, "
              f"p95 {ms(p95)}")  # fmt: skip
    right = sum(answer(reply) == label for (label, _, _), reply in zip(texts, replies, strict=True))
    stage.check(all(reply.status == 200 for reply in replies), "every request was answered")
    stage.check(not any(reply.cold for reply in replies), "none waited for a wake")
    share = right / len(replies)
    stage.check(
        share >= LEAST_ACCURACY,
        f"{right} of {len(replies)} labels are right ({share:.0%}, {LEAST_ACCURACY:.0%} expected)",
    )


def batching(stage, client, texts):
    """The same work one by one and at once."""
    stage.scene(f"{CROWD} requests at once to the embedder: two workers, batches of up to 16")
    headlines = [{"text": headline} for _, headline, _ in texts]
    bodies = [headlines[index % len(headlines)] for index in range(CROWD)]
    client.at_once(EMBEDDER, bodies)  # both workers warm
    started = time.perf_counter()
    single = client.one_by_one(EMBEDDER, bodies)
    alone = CROWD / (time.perf_counter() - started)
    before = client.batches(EMBEDDER)
    started = time.perf_counter()
    crowd = client.at_once(EMBEDDER, bodies)
    together = CROWD / (time.perf_counter() - started)
    seen = client.batches(EMBEDDER).since(before)
    most = max(seen.counts.values(), default=0)
    low = 0
    for bound, count in seen.counts.items():
        if count:
            sizes = f"{bound:.0f}" if bound - low <= 1 else f"{low + 1:.0f}–{bound:.0f}"
            stage.say(f"batch of {sizes:>6}  {bar(count, most)} {count:.0f} requests")
        low = bound
    stage.say(f"one by one {alone:.0f} texts/s, at once {together:.0f} texts/s "
              f"({together / alone:.1f}×)")  # fmt: skip
    stage.check(all(reply.status == 200 for reply in crowd), f"all {CROWD} were answered")
    stage.check(seen.mean > 1, f"they ran in batches, {seen.mean:.1f} on average")
    own = [near(one.body, two.body) for one, two in zip(single, crowd, strict=True)]
    stage.check(all(own), "each request got its own text's vector back")


def near(one, two):
    """Whether two answers of the embedder are for the same text and say the same."""
    products = (a * b for a, b in zip(one["embeddings"][0], two["embeddings"][0], strict=True))
    return one["texts"] == two["texts"] and sum(products) > 0.99


def to_zero(stage, platform):
    """Processes gone, memory back."""
    stage.scene("Back to zero")
    workers = platform.workers()
    own = {worker["pid"]: own_bytes(worker["pid"]) for worker in workers}
    rows = [(w["function"], str(w["pid"]), mib(own[w["pid"]])) for w in workers]
    stage.table("function", "pid", "own memory", rows=rows, right=("pid", "own memory"))
    put_to_zero(platform)
    pids = [worker["pid"] for worker in workers]
    left = still_running(pids)
    stage.check(bool(pids) and not left, f"all {len(pids)} processes are gone{pids_text(left)}")
    stage.check(not platform.workers(), "no function has a replica")
    stage.say(
        f"{mib(sum(own.values()))} of their own given back, and what they shared among them; "
        "by itself this happens after 60 idle seconds"
    )


def awake_again(stage, client, article):
    """The embedder alone, then the whole graph."""
    stage.scene("Awake again")
    reply = client.ask(EMBEDDER, {"text": article[1]})
    wake = reply.stages.get("wake", 0) / 1000
    stage.say(f"the model: {ms(reply.seconds)} from zero to its first vector (wake {ms(wake)})")
    stage.check(reply.status == 200 and reply.cold, "the embedder woke and answered")
    stage.check(reply.seconds < GENEROUS_WAKE_S, f"in less than {GENEROUS_WAKE_S:.0f} s")
    reply = client.ask(GRAPH, {"text": article[2]})
    stage.say(f"the graph: {ms(reply.seconds)} from zero to [bold]{answer(reply)}[/]")
    stage.check(reply.status == 200 and reply.cold, "the graph woke and answered")
    stage.check(answer(reply) == article[0], f"the label is right: {article[0]}")


def put_to_zero(platform):
    """`stoker sleep` for every function; returns when no worker is left."""
    pids = [worker["pid"] for worker in platform.workers()]
    for function in FUNCTIONS:
        platform.run("sleep", function)
    deadline = time.monotonic() + GONE_WITHIN_S
    while still_running(pids) and time.monotonic() < deadline:
        time.sleep(0.05)


def still_running(pids):
    """Those of the processes that exist and have not ended."""
    return [pid for pid in pids if os.path.exists(f"/proc/{pid}") and not is_zombie(pid)]


def own_bytes(pid):
    """Memory that only this process holds: what ends with it for certain."""
    return psutil.Process(pid).memory_full_info().uss


def is_zombie(pid):
    """Whether a process has ended and only waits to be noticed."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def pids_text(pids):
    """The processes that should be gone, for the message."""
    return f"; still there: {', '.join(map(str, pids))}" if pids else ""


def answer(reply):
    """The label of a reply of the graph."""
    predictions = reply.body.get("predictions") or [{}]
    return predictions[0].get("label", f"status {reply.status}: {str(reply.body)[:200]}")


def score(reply):
    """The score of that label."""
    predictions = reply.body.get("predictions") or [{}]
    return max(predictions[0].get("scores", {"": 0.0}).values())


def wait_for_the_audience(stage, platform):
    """Leaves the platform running until Ctrl-C."""
    stage.scene("Yours to try")
    body = '{"text": "Shares fell after the bank cut its forecast."}'
    post = f"-H 'Content-Type: application/json' -d '{body}'"
    stage.say(f"curl -i {post} {platform.gateway}/{GRAPH}")
    stage.say(f"curl -s {post} {platform.gateway}/{EMBEDDER}")
    stage.say(f"curl -s {platform.gateway}/metrics")
    stage.say(f"dashboard  {platform.control}/")
    stage.say(f".venv/bin/stoker top --home {platform.home}")
    stage.say("[bold]Ctrl-C stops it.[/]")
    threading.Event().wait()


if __name__ == "__main__":
    sys.exit(main())
