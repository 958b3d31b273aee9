"""What others read of a daemon, judged by others' code: the schema of its configuration, and its metrics.

    served.py LETHED        needs jsonschema and prometheus_client
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time
import tomllib

import jsonschema
from prometheus_client.parser import text_string_to_metric_families

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_schema(lethed):
    schema = json.loads(run(lethed, "config", "schema"))
    jsonschema.Draft202012Validator.check_schema(schema)
    judge = jsonschema.Draft202012Validator(schema)
    good = tomllib.loads((ROOT / "keys-example/lethed.toml").read_text())
    faults = [fault.message for fault in judge.iter_errors(good)]
    assert not faults, faults
    # The control: a schema that takes everything would say the same.
    for section, key, value in [
        ("limits", "connections", 0),
        ("limits", "deadline_secs", 61),
        ("limits", "conections", 5),
        ("store", "engine", "postgres"),
        ("kek", "credential", "both"),
        ("log", "format", 5),
        (None, "nonsense", 1),
        (None, "identity", []),
        (None, "listen", 7443),
    ]:
        bad = json.loads(json.dumps(good))
        (bad if section is None else bad[section])[key] = value
        assert list(judge.iter_errors(bad)), f"{section}.{key} is taken"
    for name in ["listen", "data", "kek", "tls", "identity"]:
        bad = {key: value for key, value in good.items() if key != name}
        assert list(judge.iter_errors(bad)), f"without {name} it is taken"


def test_metrics(lethed):
    with tempfile.TemporaryDirectory() as tmp:
        vault, socket = f"{tmp}/v", f"{tmp}/s"
        # Made by a short life as a development vault.
        dev = [lethed, "dev", "--dir", vault, "--listen", "127.0.0.1:0"]
        with subprocess.Popen(dev, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as made:
            made.stdout.readline()
            made.terminate()
            made.communicate(timeout=60)
        serve = [lethed, "serve", "--config", f"{vault}/lethed.toml", "--set", f"metrics.socket={socket}"]
        with subprocess.Popen(serve, stderr=subprocess.DEVNULL) as daemon:
            try:
                ready = [lethed, "probe", "--socket", socket, "readyz"]
                until = time.monotonic() + 60
                while subprocess.run(ready, capture_output=True, check=False).returncode != 0:
                    assert time.monotonic() < until, "not ready"
                    time.sleep(0.05)
                text = run(lethed, "probe", "--socket", socket, "metrics")
            finally:
                daemon.terminate()
                daemon.wait(timeout=60)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert len(families) > 30, sorted(families)
    for name, family in families.items():
        assert name.startswith("lethe_") and family.documentation, name
        assert family.type in ("counter", "gauge", "histogram"), (name, family.type)
        assert family.samples or family.type == "histogram", name
    assert families["lethe_ready"].samples[0].value == 1
    assert families["lethe_build_info"].samples[0].labels["version"]
    try:
        list(text_string_to_metric_families(text + "lethe_bad{le=} one\n"))
    except ValueError:
        return
    raise AssertionError("the parser takes everything")


def main():
    lethed = sys.argv[1]
    tests = [test for name, test in sorted(globals().items()) if name.startswith("test_")]
    for test in tests:
        test(lethed)
    print(f"{len(tests)} passed, 0 failed")


if __name__ == "__main__":
    main()
