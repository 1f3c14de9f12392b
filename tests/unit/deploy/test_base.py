"""What lies under deploy/ is what kvip says of itself."""

import pytest
import yaml

from kvip import __version__
from lab import manifests
from lab.manifests import CHART, DEPLOY


@pytest.mark.parametrize("path", manifests.files(), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_file_is_what_kvip_determines(path):
    assert path.read_text() == manifests.files()[path], "run `make manifests`"


def test_the_base_has_every_file_beside_it():
    listed = yaml.safe_load((DEPLOY / "base" / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(path.name for path in manifests.files() if path.parent.name == "base")


def test_the_chart_has_the_version_of_kvip():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
