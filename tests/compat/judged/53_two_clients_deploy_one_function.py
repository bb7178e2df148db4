"""Two clients deploy the same function at once: both are told a result, and it serves one of them."""

import multiprocessing
import os
from pathlib import Path

CODE = "def handler(context, event):\n    return {number}\n"


def deploy(number, queue):
    import mlrun

    os.makedirs(f"client-{number}", exist_ok=True)
    Path(f"client-{number}/func.py").write_text(CODE.format(number=number))
    project = mlrun.get_or_create_project("judge-race", f"./client-{number}")
    fn = project.set_function("func.py", name="raced", kind="nuclio", image="x")
    try:
        fn.deploy()
    except Exception as exc:
        queue.put((number, f"{type(exc).__name__}: {exc}"))
    else:
        queue.put((number, fn.status.state))


if __name__ == "__main__":
    import mlrun

    mlrun.get_or_create_project("judge-race", "./")
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        queue = context.Queue()
        clients = [context.Process(target=deploy, args=(number, queue)) for number in (1, 2)]
        for client in clients:
            client.start()
        outcomes = dict(queue.get(timeout=60) for _ in clients)
        for client in clients:
            client.join(30)
        print(outcomes)
        assert "ready" in outcomes.values(), outcomes
        fn = mlrun.get_or_create_project("judge-race", "./").get_function("raced", sync=True)
        assert str(fn.invoke("/")) in ("1", "2", "b'1'", "b'2'"), fn.invoke("/")
        stored = mlrun.get_run_db().get_function("raced", "judge-race")
        assert stored["status"]["state"] == "ready", stored["status"]
