"""The subcommands, one file each; `crosscheck.commands.cli` has their options and registers them.

`entry`, `failures`, `interrupts`, `progress` and `common` serve all of them. Nothing here may compute a result.
"""
