"""The developer manual: `nox -l` lists the project's commands, `nox -s NAME` runs one, `nox -s NAME -- ARGS` passes on.

Plain `nox` runs all that a change must pass. Sessions start from fresh environments; `nox -r` reuses the last ones.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import nox

ROOT = Path(__file__).parent.resolve()
PRIVATE = ROOT / ".nox"
CONSTRAINTS = ROOT / "constraints.txt"
PACKAGES = ("spec", "data", "model", "train", "deploy", "cli")
WITHOUT_TORCH = ("spec", "data", "deploy", "cli")
# Those that the tests of a package need.
EXTRAS = {
    "spec": "[encryption,images]",
    "model": "[onnx,quantize]",
    "train": "[wandb]",
    "deploy": "[openvino,quantize,tensorrt-rtx]",
}
SIBLING_EXTRAS = {"spec": "[encryption]"}  # what the tests of the packages above it need of it
# Tests of one package that skip in its own environment, because torch or typer come with another one.
NEED_ALL = (
    "packages/oneformer-spec/tests/segmentation/test_decode.py",
    "packages/oneformer-spec/tests/segmentation/test_frame.py",
    "packages/oneformer-spec/tests/segmentation/test_interpolation.py",
    "packages/oneformer-data/tests/commands/test_data_tools.py",
    "packages/oneformer-data/tests/commands/test_dataset.py",
    "packages/oneformer-data/tests/commands/test_score.py",
    "packages/oneformer-model/tests/commands/test_convert.py",
)
TEST_TOOLS = ("pytest", "hypothesis")
REFERENCE = "transformers"  # what the parity session compares with; no package needs it
SHARDS = "webdataset"  # what the integration session exchanges tar shards with; no package needs it
ABSENT = "tests/checks/absent.py"
DEPLOY_LIMIT = 250  # MB of an environment that holds oneformer-deploy alone

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "types", "tests", "build", "integration"]

# Tests interrupt processes. A shell that starts this in the background has SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting (ruff)."""
    install(session, "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(name="format")
def reformat(session: nox.Session) -> None:
    """Mend style and formatting in place (ruff)."""
    install(session, "ruff")
    session.run("ruff", "check", "--fix", ".", success_codes=[0, 1])
    session.run("ruff", "format", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of all packages (mypy, strict)."""
    install(session, *editable(*PACKAGES), "mypy", "nox")
    session.run("mypy", *session.posargs)


@nox.session
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def tests(session: nox.Session, package: str) -> None:
    """Test one package where only its declared dependencies are installed, and prove that."""
    install(session, *editable(package), *TEST_TOOLS)
    absent = [f"oneformer_{other}" for other in PACKAGES if other not in with_siblings(package)]
    if package in WITHOUT_TORCH:
        absent += ["torch", "torchvision", "timm", "lightning", "pytorch_lightning", "transformers"]
    session.run("python", ABSENT, *absent)
    pytest(session, f"packages/oneformer-{package}/tests")


@nox.session
def integration(session: nox.Session) -> None:
    """Test all packages together: the whole way, the import arrows, the packaging."""
    install(session, *editable(*PACKAGES), *TEST_TOOLS, "nox", SHARDS)
    pytest(session, "tests", "--ignore=tests/parity", "--ignore=tests/engines", *NEED_ALL)


@nox.session
def engines(session: nox.Session) -> None:
    """Build a whole OneFormer with Swin-T as TensorRT-RTX engines, without a GPU (about 3 minutes, 5 GB of memory)."""
    install(session, *editable(*PACKAGES), *TEST_TOOLS)
    pytest(session, "tests/engines")


@nox.session
def parity(session: nox.Session) -> None:
    """Compare the network, its losses and its weight files with Hugging Face transformers (about 5 minutes)."""
    install(session, *editable("train"), *TEST_TOOLS, REFERENCE)
    pytest(session, "tests/parity")


@nox.session
def build(session: nox.Session) -> None:
    """Build wheels, use them in fresh environments, and try the version ranges between the packages."""
    dist = Path(session.create_tmp()) / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    install(session, "build", "hatchling")
    wheels = {package: wheel(session, ROOT / "packages" / f"oneformer-{package}", dist) for package in PACKAGES}

    everything = fresh_environment(session, "everything")
    install(session, *(str(wheels[package]) + EXTRAS.get(package, "") for package in PACKAGES), python=everything)
    session.run(str(everything), "tests/checks/wheels.py", external=True)
    for version, accepted in (("0.2.1", True), ("0.3.0", False)):
        spec = wheel(session, copy_with_version(session, "spec", version), dist)
        others = [str(wheels[package]) for package in PACKAGES if package != "spec"]
        # Everything else is installed already, so this resolves without a look at any index.
        install(session, "--dry-run", "--no-index", str(spec), *others, python=everything, fails=not accepted)
        session.log(
            f"oneformer-spec {version}: {'accepted' if accepted else 'refused'} by its dependants, as it should be"
        )

    alone = fresh_environment(session, "deploy")
    install(session, "--compile", str(wheels["spec"]), str(wheels["deploy"]), python=alone)
    session.run(str(alone), ABSENT, "torch", "transformers", "oneformer_model", external=True)
    session.run(str(alone), "-m", "oneformer_deploy", "--help", external=True, silent=True)
    size = sum(file.lstat().st_size for file in alone.parents[1].rglob("*")) / 1e6
    session.log(f"an environment with oneformer-deploy alone takes {size:.0f} MB, of {DEPLOY_LIMIT} at most")
    if size > DEPLOY_LIMIT:
        session.error("oneformer-deploy brings too much")


@nox.session
def demo(session: nox.Session) -> None:
    """Train on the nuclei images, evaluate, draw, export, and run the export without torch (about ten minutes)."""
    install(session, *editable("train", "model", "deploy", "cli"))
    deploy = fresh_environment(session, "deploy")
    install(session, *editable("deploy"), python=deploy)
    session.run(str(deploy), ABSENT, "torch", external=True)
    command = ("python", "examples/nuclei/demo.py", "--deploy-python", str(deploy), *session.posargs)
    session.run(*command, env={"PYTHONDONTWRITEBYTECODE": ""})


@nox.session
def docs(session: nox.Session) -> None:
    """Renew what is generated: docs/spec_fields.md, docs/commands.md and tests/public_surface.txt."""
    install(session, *editable(*PACKAGES))
    session.run("python", "docs/generate.py")


@nox.session
def constraints(session: nox.Session) -> None:
    """Renew constraints.txt: the newest versions that the packages and tools accept together (needs uv)."""
    uv = find_uv() or session.error("python -m pip install uv")
    wanted = Path(session.create_tmp()) / "wanted.in"
    packages = [f"oneformer-{package}{EXTRAS.get(package, '')} @ {folder(package).as_uri()}" for package in PACKAGES]
    tools = [*TEST_TOOLS, REFERENCE, SHARDS, "build", "hatchling", "mypy", "nox", "ruff", "uv"]
    wanted.write_text("\n".join([*packages, *tools]))
    ours = [argument for package in PACKAGES for argument in ("--no-emit-package", f"oneformer-{package}")]
    compiled = session.run(
        uv,
        "pip",
        "compile",
        "--no-annotate",
        "--no-header",
        *ours,
        str(wanted),
        external=True,
        silent=True,
        env=uv_settings(),
    )
    header = [line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("#")]
    pins = [line for line in str(compiled).splitlines() if "==" in line]
    CONSTRAINTS.write_text("\n".join([*header, *pins]) + "\n")


def pytest(session: nox.Session, *paths: str) -> None:
    """Run pytest, one thread per process, with Python's own byte-code cache."""
    environment = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
    session.run("python", "-m", "pytest", "-q", *(session.posargs or paths), env=environment)


def folder(package: str) -> Path:
    """Return a package's folder."""
    return ROOT / "packages" / f"oneformer-{package}"


def with_siblings(*packages: str) -> list[str]:
    """Return the packages and those of this repository that they need, as their pyproject.toml files say."""
    found: list[str] = []
    for package in packages:
        project = tomllib.loads((folder(package) / "pyproject.toml").read_text())["project"]
        needed = [match[1] for line in project["dependencies"] if (match := re.match(r"oneformer-(\w+)", line))]
        found += [name for name in [*with_siblings(*needed), package] if name not in found]
    return found


def editable(*packages: str) -> list[str]:
    """Return installer arguments for packages, their tested extras and their siblings, by folder.

    By name, an installer would serve a wheel of the same version from its cache.
    """
    extras = SIBLING_EXTRAS | {package: EXTRAS.get(package, "") for package in packages}
    return [part for name in with_siblings(*packages) for part in ("-e", f"{folder(name)}{extras.get(name, '')}")]


def wheel(session: nox.Session, source: Path, dist: Path) -> Path:
    """Build the source archive of a package, and from that its wheel."""
    target = dist / f"{source.parent.name}-{source.name}"
    session.run("python", "-m", "build", "--no-isolation", "--outdir", str(target), str(source), silent=True)
    (built,) = target.glob("*.whl")
    return built


def copy_with_version(session: nox.Session, package: str, version: str) -> Path:
    """Copy a package and change the version that it states."""
    copy = Path(session.create_tmp()) / version / folder(package).name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder(package), copy, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    text = (copy / "pyproject.toml").read_text()
    (copy / "pyproject.toml").write_text(re.sub(r'(?m)^version = ".*"', f'version = "{version}"', text))
    return copy


def fresh_environment(session: nox.Session, name: str) -> Path:
    """Create a second, empty environment beside the session's own and return its Python."""
    path = Path(session.virtualenv.location).parent / f"{Path(session.virtualenv.location).name}-{name}"
    shutil.rmtree(path, ignore_errors=True)
    uv = find_uv()
    create = [uv, "venv", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
    session.run(*create, str(path), external=True, silent=True, env=uv_settings())
    return path / ("Scripts" if os.name == "nt" else "bin") / "python"


def install(session: nox.Session, *requirements: str, python: Path | None = None, fails: bool = False) -> None:
    """Install into the session's environment, or that of `python`, at the versions of constraints.txt.

    uv links every file from its cache: a second environment with torch costs a second and hardly any disk. Without uv,
    pip does the same slowly. `fails` states that the requirements must contradict each other.
    """
    target = str(python or Path(session.bin) / "python")
    uv = find_uv()
    command = [uv, "pip", "install", "--python", target] if uv else [target, "-m", "pip", "install"]
    codes = [1] if fails else [0]
    arguments = [*command, "-c", str(CONSTRAINTS), *requirements]
    output = session.run(*arguments, external=True, silent=True, success_codes=codes, env=uv_settings())
    if fails and not re.search(r"oneformer-spec.*<0\.3", str(output)):
        session.error(f"refused for another reason than intended: {output}")


@cache
def find_uv() -> str | None:
    """Return the uv command: an installed one, else one put into .nox with pip, else None."""
    private = PRIVATE / "uv" / "bin" / "uv"
    found = shutil.which("uv") or shutil.which(private)
    if found is None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(private.parents[1])]
        subprocess.run([*pip, "-c", str(CONSTRAINTS), "uv"], check=False)
        found = shutil.which(private)
    return found


@cache
def uv_settings() -> dict[str, str]:
    """Return the environment that gives uv pip's settings: indexes, wheels, certificates, time limit."""
    uv, pip = find_uv(), pip_settings()
    settings = {
        "UV_DEFAULT_INDEX": pip.get("index-url", ""),
        "UV_INDEX": " ".join(pip.get("extra-index-url", "").split()),
        "UV_FIND_LINKS": ",".join(pip.get("find-links", "").split()),
        "UV_INSECURE_HOST": " ".join(pip.get("trusted-host", "").split()),
        "UV_HTTP_TIMEOUT": pip.get("default-timeout", pip.get("timeout", "")),
        "SSL_CERT_FILE": pip.get("cert", ""),
    }
    settings = {name: value for name, value in settings.items() if value}
    if "UV_INDEX" in settings:
        settings["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # pip's own: the best version of all indexes
    if uv and not shares_disk(Path(subprocess.check_output([uv, "cache", "dir"], text=True).strip())):
        settings["UV_CACHE_DIR"] = str(PRIVATE / "uv-cache")  # hard links do not cross file systems
    settings["UV_PYTHON_DOWNLOADS"] = "never"
    settings["PYTHONDONTWRITEBYTECODE"] = ""
    return {name: value for name, value in settings.items() if name not in os.environ or not value}


def shares_disk(cache: Path) -> bool:
    """Return whether a folder, or where it will be made, lies on the file system of this repository."""
    existing = next(place for place in (cache, *cache.parents) if place.exists())
    return existing.stat().st_dev == ROOT.stat().st_dev


def pip_settings() -> dict[str, str]:
    """Return pip's settings as its configuration files and environment variables give them, the stronger one last."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    found = re.findall(r"(?m)^(global|install|:env:)\.([\w-]+)=(.*)$", listing.stdout)
    ranked = sorted(found, key=lambda row: ("global", "install", ":env:").index(row[0]))
    return {name: str(ast.literal_eval(value)) for _, name, value in ranked}
