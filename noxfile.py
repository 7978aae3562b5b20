# /// script
# dependencies = ["nox[uv]>=2025.5.1"]
#
# [tool.nox]
# script-venv-backend = "virtualenv"
# ///
"""The developer manual: `nox -l` lists the project's commands, `nox -s NAME` runs one, `nox -s NAME -- ARGS` passes on.

Plain `nox` runs all that a change must pass. Sessions start from fresh environments; `nox -r` reuses the last ones.

The lines at the top make nox bring uv along, which links files from its cache: a second environment with torch costs
seconds and hardly any disk. `nox -db virtualenv` installs with pip, and from wherever pip is configured to.
"""

from __future__ import annotations

import re
import shutil
import signal
import sys
import tomllib
from pathlib import Path
from typing import Any

import nox

ROOT = Path(__file__).parent.resolve()
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

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
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
    wheels = {package: wheel(session, folder(package), dist) for package in PACKAGES}
    install(session, *(f"{wheels[package]}{EXTRAS.get(package, '')}" for package in PACKAGES))
    session.run("python", "tests/checks/wheels.py")

    others = [str(wheels[package]) for package in PACKAGES if package != "spec"]
    major, minor, patch = (int(number) for number in version("spec").split("."))
    for other, refused in ((f"{major}.{minor}.{patch + 1}", False), (f"{major}.{minor + 1}.0", True)):
        spec = wheel(session, copy_with_version(session, "spec", other), dist)
        # Everything else is installed already, so this resolves without a look at any index.
        arguments = ("--dry-run", "--no-index", str(spec), *others)
        session.install(*arguments, success_codes=[1] if refused else [0], silent=True)
        session.log(f"oneformer-spec {other}: {'refused' if refused else 'accepted'} by its siblings, as it should be")

    alone = second_environment(session, "deploy", str(wheels["spec"]), str(wheels["deploy"]))
    session.run(alone, ABSENT, "torch", "transformers", "oneformer_model", external=True)
    session.run(alone, "-m", "oneformer_deploy", "--help", external=True, silent=True)
    size = sum(file.lstat().st_size for file in Path(alone).parents[1].rglob("*")) / 1e6
    session.log(f"an environment with oneformer-deploy alone takes {size:.0f} MB, of {DEPLOY_LIMIT} at most")
    if size > DEPLOY_LIMIT:
        session.error("oneformer-deploy installs too much")


@nox.session
def release(session: nox.Session) -> None:
    """Check packages against their last release, build them into dist/, print the tags: nox -s release -- spec data."""
    packages = [name.removeprefix("oneformer-") for name in session.posargs]
    if not packages or not set(packages) <= set(PACKAGES):
        session.error(f"name the packages: nox -s release -- {' '.join(PACKAGES)}")
    install(session, *editable(*PACKAGES), "pytest", "build", "hatchling")
    checks = ("packaging", "import_arrows", "interfaces", "generated")
    session.run("python", "-m", "pytest", "-q", *(f"tests/test_{name}.py" for name in checks))
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    for package in packages:
        tag = f"oneformer-{package}-v{version(package)}"
        if session.run("git", "tag", "--list", tag, external=True, silent=True, log=False):
            session.error(
                f"{tag} exists: raise the version of oneformer-{package} and begin a section in its changelog"
            )
        wheel(session, folder(package), ROOT / "dist")
        session.run("python", "docs/interfaces.py", package, silent=True)
        session.log(f"commit tests/released_interfaces.txt, then: git tag {tag}")


@nox.session
def demo(session: nox.Session) -> None:
    """Train on the nuclei images, evaluate, draw, export, and run the export without torch (about ten minutes)."""
    install(session, *editable("train", "model", "deploy", "cli"))
    deploy = second_environment(session, "deploy", "-e", str(folder("spec")), "-e", str(folder("deploy")))
    session.run(deploy, ABSENT, "torch", external=True)
    command = ("python", "examples/nuclei/demo.py", "--deploy-python", deploy, *session.posargs)
    session.run(*command, env={"PYTHONDONTWRITEBYTECODE": ""})


@nox.session
def docs(session: nox.Session) -> None:
    """Renew what is generated: pages and diagrams under docs/, and tests/public_surface.txt."""
    install(session, *editable(*PACKAGES))
    session.run("python", "docs/generate.py")


@nox.session
def constraints(session: nox.Session) -> None:
    """Renew constraints.txt: the newest versions that the packages and tools accept together."""
    install(session, "uv")
    wanted = Path(session.create_tmp()) / "wanted.in"
    packages = [f"oneformer-{package}{EXTRAS.get(package, '')} @ {folder(package).as_uri()}" for package in PACKAGES]
    tools = [*TEST_TOOLS, REFERENCE, SHARDS, "build", "hatchling", "mypy", "nox", "ruff", "uv"]
    wanted.write_text("\n".join([*packages, *tools]))
    ours = [argument for package in PACKAGES for argument in ("--no-emit-package", f"oneformer-{package}")]
    compiled = session.run("uv", "pip", "compile", "--no-annotate", "--no-header", *ours, str(wanted), silent=True)
    header = [line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("#")]
    pins = [line for line in str(compiled).splitlines() if "==" in line]
    CONSTRAINTS.write_text("\n".join([*header, *pins]) + "\n")


def install(session: nox.Session, *requirements: str) -> None:
    """Install into the session's environment, at the versions of constraints.txt."""
    session.install("-c", str(CONSTRAINTS), *requirements)


def second_environment(session: nox.Session, name: str, *requirements: str) -> str:
    """Create an environment beside the session's own, install into it as into that one, and return its Python."""
    path = Path(f"{session.virtualenv.location}-{name}")
    session.run(sys.executable, "-m", "virtualenv", "--clear", str(path), external=True, silent=True)
    python = str(path / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    uv = (sys.executable, "-m", "uv", "pip", "install", "--python", python)
    installer = uv if session.venv_backend == "uv" else (python, "-m", "pip", "install")
    session.run(*installer, "--compile", "-c", str(CONSTRAINTS), *requirements, external=True, silent=True)
    return python


def pytest(session: nox.Session, *paths: str) -> None:
    """Run pytest, one thread per process, with Python's own byte-code cache."""
    environment = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
    session.run("python", "-m", "pytest", "-q", *(session.posargs or paths), env=environment)


def folder(package: str) -> Path:
    """Return a package's folder."""
    return ROOT / "packages" / f"oneformer-{package}"


def version(package: str) -> str:
    """Return the version that a package states."""
    return str(project(package)["version"])


def project(package: str) -> dict[str, Any]:
    """Return the table `project` of a package's pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((folder(package) / "pyproject.toml").read_text())["project"]
    return table


def with_siblings(*packages: str) -> list[str]:
    """Return the packages and those of this repository that they need, as their pyproject.toml files state."""
    found: list[str] = []
    for package in packages:
        lines = project(package)["dependencies"]
        needed = [match[1] for line in lines if (match := re.match(r"oneformer-(\w+)", line))]
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
