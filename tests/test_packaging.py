"""Version, addresses, tools and CI are said in one place, or agree where they stand in several."""

import re

import pytest
import yaml

import sess_lightning

ADDRESS = "https://github.com/sess-lightning/sess_lightning"


@pytest.fixture(scope="module")
def pyproject(root):
    return (root / "pyproject.toml").read_text()


@pytest.fixture(scope="module")
def workflow(root):
    return yaml.safe_load((root / ".github" / "workflows" / "ci.yml").read_text())


def ci_parts(root):
    return set(re.findall(r"^run_(\w+)\(\)", (root / ".ci" / "run").read_text(), flags=re.MULTILINE))


def test_the_version_stands_in_the_package_and_in_the_citation(root, pyproject):
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    assert citation["version"] == sess_lightning.__version__
    assert 'version = { attr = "sess_lightning.__version__" }' in pyproject
    assert not re.search(r'^version = "', pyproject, flags=re.MULTILINE)


def test_the_address_is_the_same_everywhere(root, pyproject):
    assert yaml.safe_load((root / "CITATION.cff").read_text())["repository-code"] == ADDRESS
    urls = re.findall(r'^\w+ = "(https://.*)"$', pyproject, flags=re.MULTILINE)
    assert len(urls) == 5
    assert all(url.startswith(ADDRESS) for url in urls)


def test_the_changelog_has_a_section_for_what_is_not_released(root):
    sections = re.findall(r"^## \[(.+?)\]", (root / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert sections[0] == "Unreleased"


def test_hooks_have_the_pinned_versions_and_the_commands_of_ci(root, pyproject):
    config = yaml.safe_load((root / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    lint = (root / ".ci" / "run").read_text().partition("run_lint() {")[2].partition("}")[0]
    commands = {
        line.split(" .")[0].replace(" --check", "") for line in lint.split("\n    ") if line[:4] in ("ruff", "mypy")
    }
    assert {hook["entry"].replace(" --force-exclude", "").strip() for hook in hooks} == {c.strip() for c in commands}
    tools = [tool for hook in hooks for tool in hook.get("additional_dependencies", [])]
    assert tools
    assert all(f'"{tool}"' in pyproject for tool in tools)
    assert re.search(r'"mypy==', pyproject)  # from the environment, so its version is pyproject's


def test_ci_runs_parts_that_exist_and_all_of_them(root, workflow):
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    assert all(command.startswith(".ci/run ") for command in commands)
    assert {part for command in commands for part in command.split()[1:]} == ci_parts(root)


def test_ci_covers_the_versions_of_python_that_are_declared(workflow, pyproject):
    versions = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert re.findall(r"Python :: (3\.\d+)", pyproject) == versions
    assert f'requires-python = ">={versions[0]}"' in pyproject


def test_ci_runs_the_test_command_of_the_readme(root):
    command = "pip install -e '.[test]' && pytest"
    assert command in (root / "README.md").read_text()
    assert command in (root / ".ci" / "run").read_text()


def test_ci_looks_for_the_browsers_of_the_tests(root):
    names = re.search(r"for name in (chromium .*); do", (root / ".ci" / "run").read_text())[1].split()
    assert names == re.findall(
        r'"([a-z-]+)"', re.search(r"map\(.*\)", (root / "tests/helpers/browser.py").read_text())[0]
    )


def test_the_viewers_files_are_shipped(root, pyproject):
    shipped = re.search(r"^sess_lightning = (\[.*\])$", pyproject, flags=re.MULTILINE)[1]
    assert '"viewer/static/*"' in shipped
    assert all(path.is_file() for path in (root / "sess_lightning" / "viewer" / "static").iterdir())


def test_the_oldest_versions_are_the_bounds_of_pyproject(root, pyproject):
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (root / ".ci" / "oldest.txt").read_text(), flags=re.MULTILINE))
    dependencies = pyproject.partition("dependencies = [")[2].partition("\n]")[0]
    bounds = dict(re.findall(r'"([\w-]+)(?:\[\w+\])?>=([\d.]+)"', dependencies))
    assert bounds
    assert set(bounds) <= set(pins)
    for name, bound in bounds.items():
        assert f"{pins[name]}.".startswith(f"{bound}."), name


def test_contributing_names_files_that_exist(root):
    text = (root / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"`((?:[\w.-]+/)+|(?:[\w.-]+/)*[\w-]+\.(?:py|md|toml|yml|yaml|txt))`", text)
    assert len(paths) > 20
    for path in (path for path in paths if "NAME" not in path):
        assert any((base / path).exists() for base in (root, root / "sess_lightning")), path


@pytest.mark.parametrize("name", ["bug_report", "feature_request"])
def test_issue_templates_are_forms(root, name):
    form = yaml.safe_load((root / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text())
    assert {"name", "description", "body"} <= set(form)
    assert len({field["id"] for field in form["body"]}) == len(form["body"])
