"""``crosscheck notebook``: the teaching notebook's LSTM class against its equations, by its behaviour only."""

from __future__ import annotations

from crosscheck.commands.cli.options import Notebook
from crosscheck.commands.common import check_json_file, write_json_file
from crosscheck.commands.failures import failures_in_one_line
from crosscheck.commands.progress import show_progress
from crosscheck.report.terminal import output, say, show
from crosscheck.studies.notebook.examination import examine_notebook, notebook_classes
from crosscheck.studies.notebook.report import explanation_table, sentences, to_json


def run(options: Notebook) -> bool:
    """Examine both classes, print the results and return whether they are as expected."""
    check_json_file(options.json_file)
    with failures_in_one_line(), show_progress() as work:
        work.begins("the notebook's class")
        result = examine_notebook(*notebook_classes())
    write_json_file(options.json_file, "notebook", to_json(result))
    console = output()
    show(console, explanation_table(result))
    for line in sentences(result):
        say(console, line)
    return result.ok
