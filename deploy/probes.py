"""Runs the probes of the deployments, as they stand there, against a daemon with the deployed configuration.

Guarantees: each command passes while calls are served, and fails before the daemon runs, while it hangs, and after its
end. Configuration and command line are those of the deployments; only folders and the address are others. Needs PyYAML,
openssl and lethed (LETHED, default: that on the PATH). Exits 0 if all holds, else 1 with a line for each fault.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import yaml

DEPLOY = pathlib.Path(__file__).parent
EXAMPLE = DEPLOY.parent / "keys-example"
LETHED = shutil.which(os.environ.get("LETHED", "lethed"))
SOCKET = "/run/lethe/metrics.sock"
START_SECS_MAX = 60
# What a deployment calls its folders.
FOLDERS = ("/var/lib/lethe-anchor", "/var/lib/lethe", "/run/lethe", "/etc/lethe")


def manifests():
    """The daemon's container of each manifest, with its pod."""
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            pod = document.get("spec", {}).get("template", {}).get("spec", {})
            for container in pod.get("initContainers", []) + pod.get("containers", []):
                if container["name"] == "lethed":
                    yield path.name, container, pod


def found():
    """Command lines of the daemon, and probes with the seconds that each may take, by where they stand."""
    starts, probes = {}, {}
    for name, container, _ in manifests():
        starts[name] = container["args"]
        for kind, probe in container.items():
            if kind.endswith("Probe"):
                probes[f"{name} {kind}"] = (probe["exec"]["command"], probe["timeoutSeconds"])
    text = (DEPLOY / "container/Containerfile").read_text()
    health = re.search(r"^HEALTHCHECK .*--timeout=(\d+)s.*\n +CMD (\[.*\])$", text, re.M)
    probes["HEALTHCHECK"] = (json.loads(health[2]), int(health[1]))
    starts["Containerfile"] = json.loads(re.search(r"^CMD (\[.*\])$", text, re.M)[1])
    text = (DEPLOY / "systemd/README.md").read_text()
    probes["systemd"] = (re.search(r"^```sh watch\n(.*)\n```$", text, re.M)[1].split(), 6)
    text = (DEPLOY / "systemd/lethed.service").read_text()
    starts["unit"] = re.search(r"^ExecStart=/usr/bin/lethed (.*) \$LETHED_FIRST_START$", text, re.M)[1].split()
    return starts, probes


def mounted(pod):
    """Where the files of the secret of certificates and keys are seen."""
    volume = next(v for v in pod["volumes"] if v["name"] == "config")
    secrets = [source["secret"] for source in volume["projected"]["sources"] if "secret" in source]
    return {item["key"]: item["path"] for secret in secrets for item in secret["items"]}


def lay_out(folder):
    """Files as a deployment has them, from the lists of the manifests."""
    subprocess.run([EXAMPLE / "make-pki.sh", "init", folder / "pki"], check=True, capture_output=True)
    sed = ["sed", "-f", DEPLOY / "lethed.sed", EXAMPLE / "lethed.toml"]
    (folder / "lethed.toml").write_text(subprocess.run(sed, check=True, capture_output=True, text=True).stdout)
    shutil.copy(EXAMPLE / "policy.cedar", folder)
    readme = (DEPLOY / "kubernetes/README.md").read_text()
    given = {pathlib.PurePath(name).name for name in re.findall(r'--from-file="?([^\s"]+)', readme)}
    for name in FOLDERS:
        (folder / name[1:]).mkdir(mode=0o700, parents=True)
    etc = folder / "etc/lethe"
    for name in given & {"lethed.toml", "policy.cedar"}:
        shutil.copy(folder / name, etc)
    (etc / "pki").mkdir()
    for _, _, pod in manifests():
        for key, path in mounted(pod).items():
            if key in given:
                shutil.copy(folder / "pki/pki" / key, etc / path)
    # As systemd lays down a credential that it gives by an access list.
    (folder / "credentials").mkdir()
    shutil.copy(folder / "pki/kek", folder / "credentials/kek")
    (folder / "credentials/kek").chmod(0o440)
    config = etc / "lethed.toml"
    config.write_text(moved(config.read_text(), folder))


def moved(text, folder):
    return re.sub("|".join(FOLDERS), lambda place: f"{folder}{place[0]}", text)


def passes(probe, folder):
    command, secs = probe
    words = [LETHED if word == "lethed" else moved(word, folder) for word in command]
    try:
        return subprocess.run(words, capture_output=True, timeout=secs, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def served(daemon, log):
    until = time.monotonic() + START_SECS_MAX
    while '"listening"' not in log.read_text():
        if daemon.poll() is not None or time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def unlike(folder, starts):
    """What unit and pages say, as far as only their own try.sh runs it."""
    command = starts["unit"]
    yield from (f"{name} starts the daemon in another way" for name, words in starts.items() if words != command)
    pki = {f"pki/{path.name}" for path in (folder / "etc/lethe/pki").iterdir()}
    for name, _, pod in manifests():
        if set(mounted(pod).values()) != pki:
            yield f"{name} does not mount {', '.join(sorted(pki))}"
    for name in ("systemd", "container", "kubernetes"):
        page = (DEPLOY / name / "README.md").read_text()
        for path in (folder / "etc/lethe").rglob("*.*"):
            if path.name not in page:
                yield f"{name}/README.md does not lay down {path.name}"
    for path in (*DEPLOY.glob("*.md"), *DEPLOY.glob("*/*.md"), *DEPLOY.glob("*/*.sh")):
        for socket in re.findall(r"probe --socket (/[\w./-]+)", path.read_text()):
            if socket != SOCKET:
                yield f"{path.name} names the socket {socket}"
    if "\nRuntimeDirectory=lethe\n" not in (DEPLOY / "systemd/lethed.service").read_text():
        yield "the unit has no folder for the socket"
    page = (DEPLOY / "container/README.md").read_text()
    if page.count(" --read-only ") != page.count(" --tmpfs /run/lethe:"):
        yield "a container has no folder for the socket"


def judge(folder):
    starts, probes = found()
    lay_out(folder)
    yield from unlike(folder, starts)

    def wrong(when, expected):
        with ThreadPoolExecutor(len(probes)) as pool:
            outcomes = list(pool.map(lambda probe: passes(probe, folder), probes.values()))
        said = "fails" if expected else "passes"
        return [f"{name} {said} {when}" for name, good in zip(probes, outcomes) if good != expected]

    yield from wrong("where no daemon runs", False)
    log = folder / "log"
    words = [moved(word, folder) for word in starts["unit"]]
    # The level that erasures reach depends on the file system of the temporary folder, and is not in question here.
    words += ["--init", "--listen", "127.0.0.1:0", "--set", "anchor.require=any"]
    environment = {**os.environ, "CREDENTIALS_DIRECTORY": str(folder / "credentials")}
    with log.open("w") as out:
        daemon = subprocess.Popen([LETHED, *words], stderr=out, env=environment)
    try:
        if not served(daemon, log):
            yield f"the daemon does not serve: {log.read_text()}"
            return
        yield from wrong("while calls are served", True)
        daemon.send_signal(signal.SIGSTOP)
        yield from wrong("while the daemon hangs", False)
        daemon.send_signal(signal.SIGCONT)
        yield from wrong("once it goes on", True)
        daemon.terminate()
        if daemon.wait(START_SECS_MAX) != 0:
            yield "the daemon does not stop cleanly"
        yield from wrong("after the daemon's end", False)
    finally:
        daemon.kill()
        daemon.wait()


def main():
    with tempfile.TemporaryDirectory(prefix="lethe-probes.") as folder:
        faults = list(judge(pathlib.Path(folder)))
    for fault in faults:
        print(fault)
    print(f"{len(found()[1])} probes, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
