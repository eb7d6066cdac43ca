"""What a start costs before anybody can be served."""

import json
import subprocess
import sys
from pathlib import Path

BEFORE_IT_LISTENS = {
    *("trio", "attr", "attrs", "idna", "outcome", "sniffio", "sortedcontainers"),
    *("click", "msgspec", "tomli_w", "typing_extensions"),
}
"""Packages from outside, and what they bring. What serves the web, asks by TLS, hears of dropped
files and writes the log comes later, and what draws coloured tables never."""

START = """
import gc, json, sys
from bittern.cli.main import main
sys.argv[1:] = ["run", "--config", "/nonexistent/bittern.toml"]
try:
    main()
except SystemExit as end:
    status = end.code
looked_for = gc.isenabled()
from bittern.daemon import app
app._collect_less()
packages = {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names
print(json.dumps([status, looked_for, gc.isenabled(), "asyncio" in sys.modules, sorted(packages)]))
"""


def test_what_is_imported_before_it_listens(tmp_path: Path) -> None:
    """And that no garbage is looked for meanwhile, but then."""
    done = subprocess.run(
        [sys.executable, "-c", START], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    status, looked_for, looks_now, asyncio, packages = json.loads(done.stdout)
    assert status == 78
    assert not looked_for
    assert looks_now
    assert not asyncio
    ours_and_pythons = {
        name for name in packages if name.startswith(("_", "bittern")) or name == "sitecustomize"
    }
    assert set(packages) - ours_and_pythons <= BEFORE_IT_LISTENS
