"""A serial workflow, run by flowserv's own engine, whose files live in the bucket."""

import sys
import textwrap

import pytest

pytest.importorskip("flowserv", reason="needs flowserv-core")

from flowserv import config
from flowserv.client.app.base import Flowserv
from flowserv.controller.serial.engine.base import SerialWorkflowEngine
from flowserv.volume import factory
from flowserv.volume.fs import FileSystemStorage

from coatcheck.integrations.flowserv import S3Bucket, S3Volume, install

SPECIFICATION = """
workflow:
  files:
    inputs: [code/, data/names.txt]
    outputs: [out/greetings.txt]
  steps:
  - name: greet
    files:
      inputs: [code/, data/names.txt]
      outputs: [out/greetings.txt]
    action:
      environment: plain
      commands: ["{python} code/greet.py"]
"""

GREET = """
with open("data/names.txt") as names, open("out/greetings.txt", "w") as greetings:
    greetings.writelines("Hello " + name for name in names)
"""


@pytest.fixture
def template(tmp_path):
    folder = tmp_path / "template"
    for name, text in {
        "code/greet.py": GREET,
        "data/names.txt": "Ada\nGrace\n",
        "workflow.yaml": textwrap.dedent(SPECIFICATION).format(python=sys.executable),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::sqlalchemy.exc.SAWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # flowserv leaves its database open
def test_a_workflow_runs_with_its_files_in_the_bucket(
    reached, bucket, template, tmp_path, witness, monkeypatch
):
    monkeypatch.setattr(factory, "S3Volume", factory.S3Volume)  # put back afterwards
    install()
    environment = config.env()
    environment[config.FLOWSERV_FILESTORE] = S3Bucket(bucket, "flowserv")
    app = Flowserv(
        env=environment, basedir=str(tmp_path / "app"), open_access=True, run_async=False
    )
    # Steps are programs that want a folder; what they start from and what they leave is in S3.
    app.service._engine = SerialWorkflowEngine(
        service=app.service, fs=FileSystemStorage(str(tmp_path / "work"))
    )

    workflow = app.install(source=str(template), name="hello", specfile="workflow.yaml")
    stored = witness.all_keys()
    assert {key.partition("/static/")[2] for key in stored} == {
        "code/greet.py",
        "data/names.txt",
        "workflow.yaml",
    }

    run = app.open(workflow).start_run({})
    assert run.is_success(), run.messages()
    assert run.get_file("out/greetings.txt").text() == "Hello Ada\nHello Grace\n"
    (result,) = witness.all_keys() - stored
    assert result.startswith("flowserv/")
    assert witness.read(result) == b"Hello Ada\nHello Grace\n"

    app.uninstall(workflow)
    assert S3Volume(bucket, "flowserv").walk(None) == []
